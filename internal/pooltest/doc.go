// Package pooltest tests and measures pools on the store of a driver: a driver says how its store is opened, and gets the tests
// that kill processes amid the commits of a pool, and the benchmarks of pools.
package pooltest
