// Package kubetest holds the tests, the benchmarks and the example of package kube that need a Kubernetes API server,
// and what makes its manifests. They run the server, and etcd, in their own process, which a program that imports
// package kube has no use for: so they are a module of their own.
package kubetest
