// Package cnitest tests the CNI plugin of examples/cni on a server: nodes in network namespaces of their own share the
// server, and run the plugin as CNI does. A driver's tests say how to start the server.
package cnitest
