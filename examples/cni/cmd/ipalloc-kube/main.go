// Command ipalloc-kube is the CNI plugin for nodes that keep their addresses in the Kubernetes API or in a file.
package main

import (
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/file"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/kube"
	"github.com/ipalloc/ipalloc/examples/cni/internal/plugin"
)

func main() { plugin.Main(driver.Set{file.Driver(), kube.Driver(true)}) }
