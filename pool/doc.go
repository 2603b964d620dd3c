// Package pool hands out addresses and prefixes to owners, from pools that any number of processes may share.
package pool
