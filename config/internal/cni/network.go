// Package cni finds the section of an IPAM plugin in a CNI configuration, and reads what all such sections have.
package cni

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/internal/tree"
)

// Network is a CNI configuration down to the section of its IPAM plugin. Names of fields match whatever their case, as
// they do for plugins.
type Network struct {
	Name      string
	Namespace string // of a NetworkAttachmentDefinition; else empty
	Version   string // of CNI
	Plugin    tree.Object
	IPAM      tree.Object
}

// Read finds the one network in a text. It is false if there is none, which is then recorded.
//
// The text is what a plugin reads on its standard input, a list of plugins, or a NetworkAttachmentDefinition that holds
// one of these. Of a list it takes the first plugin whose section ipam has the type, or else the first that has one.
func Read(text tree.Documents, ipamType string, report *tree.Report) (Network, bool) {
	documents := text.Values(report)
	if len(documents) != 1 {
		if report.Count() == 0 {
			report.Add("the text has no content, or several documents", "one CNI configuration")
		}
		return Network{}, false
	}
	root, ok := documents[0].FoldedObject()
	if !ok {
		return Network{}, false
	}
	if !root.Field("kind").Missing() {
		return readDefinition(root, ipamType)
	}
	return readConfiguration(root, ipamType)
}

// readDefinition reads a NetworkAttachmentDefinition.
func readDefinition(root tree.Object, ipamType string) (Network, bool) {
	if kind := root.Field("kind"); kind.TextOr("") != "NetworkAttachmentDefinition" {
		kind.Refuse("is no kind of network", "NetworkAttachmentDefinition")
		return Network{}, false
	}
	metadata, ok := root.Field("metadata").Object()
	if !ok {
		return Network{}, false
	}
	spec, ok := root.Field("spec").Object()
	if !ok {
		return Network{}, false
	}
	inner, ok := spec.Field("config").Embedded()
	if !ok {
		return Network{}, false
	}
	top, ok := inner.FoldedObject()
	if !ok {
		return Network{}, false
	}
	n, ok := readConfiguration(top, ipamType)
	n.Namespace = metadata.Field("namespace").TextOr("default")
	if n.Name == "" {
		n.Name = metadata.Field("name").TextOr("")
	}
	return n, ok
}

func readConfiguration(top tree.Object, ipamType string) (Network, bool) {
	n := Network{Plugin: top}
	ok := true
	if plugins := top.Field("plugins"); !plugins.Missing() {
		n.Plugin, ok = choosePlugin(plugins, ipamType)
	}
	if !ok {
		return Network{}, false
	}
	n.Name = top.Field("name").TextOr("")
	n.Version = top.Field("cniVersion").TextOr("")
	n.IPAM, ok = n.Plugin.Field("ipam").FoldedObject()
	return n, ok
}

func choosePlugin(list tree.Value, ipamType string) (tree.Object, bool) {
	var first tree.Object
	found := false
	for _, item := range list.Items() {
		plugin, ok := item.FoldedObject()
		if !ok || plugin.Field("ipam").Missing() {
			continue
		}
		ipam, ok := plugin.Field("ipam").FoldedObject()
		if ok && ipam.Field("type").TextOr("") == ipamType {
			return plugin, true
		}
		if !found {
			first, found = plugin, true
		}
	}
	if !found {
		list.Refuse("has no plugin with a section ipam", "at least one")
	}
	return first, found
}

// Routes reads a list of routes.
func Routes(v tree.Value) []config.Route {
	var routes []config.Route
	for _, item := range v.Items() {
		if o, ok := item.FoldedObject(); ok {
			routes = append(routes, readRoute(o))
		}
	}
	return routes
}

// maxInt is the largest number in a route.
const maxInt = 1<<31 - 1

func readRoute(o tree.Object) config.Route {
	var r config.Route
	r.Destination, _ = o.Field("dst").HostPrefix()
	r.Gateway = AddrOrNone(o.Field("gw"))
	r.MTU = numberOrZero(o.Field("mtu"))
	r.AdvMSS = numberOrZero(o.Field("advmss"))
	r.Priority = numberOrZero(o.Field("priority"))
	r.Table = numberOrNone(o.Field("table"))
	r.Scope = numberOrNone(o.Field("scope"))
	return r
}

func numberOrZero(v tree.Value) int {
	if n := numberOrNone(v); n != nil {
		return *n
	}
	return 0
}

func numberOrNone(v tree.Value) *int {
	if v.Missing() {
		return nil
	}
	n, _ := v.Number(0, maxInt, "0 to 2147483647")
	return &n
}

// AddrOrNone reads an address; the zero Addr if it is missing or refused.
func AddrOrNone(v tree.Value) netip.Addr {
	if v.Missing() {
		return netip.Addr{}
	}
	addr, _ := v.Addr()
	return addr
}

// DNS reads what a configuration says of name resolution.
func DNS(v tree.Value) config.DNS {
	if v.Missing() {
		return config.DNS{}
	}
	o, ok := v.FoldedObject()
	if !ok {
		return config.DNS{}
	}
	return config.DNS{
		Nameservers: o.Field("nameservers").Texts(), Domain: o.Field("domain").TextOr(""),
		Search: o.Field("search").Texts(), Options: o.Field("options").Texts(),
	}
}
