// Package pooltest tests and measures pools on the store of a driver. A driver says how to open its store, and gets the
// tests that kill processes during the commits of a pool, and the benchmarks of pools.
//
// A [World] is a test of many pools and processes, which keep journals. It works for a few seconds; for longer, and
// to look at the journals afterwards:
//
//	go test -run '^TestWorld$' -journal.for=60s -journal.keep=FOLDER ./store/bolt
package pooltest
