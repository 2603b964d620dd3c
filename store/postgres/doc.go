// Package postgres keeps the records of package store in PostgreSQL.
package postgres
