// Package etcdtest holds the tests, the benchmarks and the example of package etcd. They start etcd servers in their
// own process, which a program that imports package etcd has no use for: so they are a module of their own.
package etcdtest
