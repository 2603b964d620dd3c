// Command ipalloc-etcd is the CNI plugin for nodes that keep their addresses in etcd or in a file.
package main

import (
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/etcd"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/file"
	"github.com/ipalloc/ipalloc/examples/cni/internal/plugin"
)

func main() { plugin.Main(driver.Set{file.Driver(), etcd.Driver()}) }
