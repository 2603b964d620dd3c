// Package sqlite is a [store.Store] in one SQLite file, which any number of processes on one machine use at once.
package sqlite
