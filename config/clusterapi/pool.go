package clusterapi

import (
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/config/internal/tree/yamltree"
	"github.com/ipalloc/ipalloc/pool"
)

// Group is the API group of the pools.
const Group = "ipam.cluster.x-k8s.io"

// The kinds of pools.
const (
	// KindNamespaced is a pool of addresses for the claims of its own namespace.
	KindNamespaced = "InClusterIPPool"
	// KindGlobal is a pool of addresses for the claims of all namespaces.
	KindGlobal = "GlobalInClusterIPPool"
	// KindPrefix is a pool of IPv6 prefixes for the claims of its own namespace.
	KindPrefix = "InClusterPrefixPool"
	// KindGlobalPrefix is a pool of IPv6 prefixes for the claims of all namespaces.
	KindGlobalPrefix = "GlobalInClusterPrefixPool"
)

// anyKind says what the kinds are.
const anyKind = KindNamespaced + ", " + KindGlobal + ", " + KindPrefix + " or " + KindGlobalPrefix

// Pool is a pool of a configuration.
//
// The zero Pool is none. A Pool may be copied; the copy shares the slices of Spec.
type Pool struct {
	// Kind is one of the kinds of this package.
	Kind string
	// Namespace is empty if the pool is for all namespaces, and otherwise a DNS label; "default" if the configuration
	// names none.
	Namespace string
	// Name is a DNS subdomain.
	Name string
	// Prefix is the prefix length, in bits, of each address that the pool hands out: that of the subnet, or that of the
	// prefixes.
	Prefix int
	// Gateway is the gateway for each address; the zero Addr if there is none. It is in Spec only if it lies in one of
	// its subnets. The gateway of a pool of prefixes is not in Spec, and withholds no prefix.
	Gateway netip.Addr
	// Spec is valid. Equal pools have equal specs, however their addresses are ordered and divided. Its Scope is empty:
	// set it to Namespace for a pool that refuses the claims of other namespaces.
	Spec pool.Spec
	// External are the addresses that others hand out in the pool's network, such as a DHCP server. They are not in
	// Spec: declare them with [pool.SetExternal], or exclude them if the pool has no network. From externalAddresses.
	External []netipx.IPRange
	// Drain reports whether the pool may give up addresses that are held; see [pool.Pool.Drain]. From drain.
	Drain bool
	// DualStackPool is the name of the pool of the same kind, and in the same namespace, that has the other family; empty
	// if there is none. From dualStackPool.
	DualStackPool string
}

// StoreName returns a name for the pool in a store: namespace/name, or only the name if the pool is global, after
// "prefixes:" for a pool of prefixes. Different pools have different names.
func (p Pool) StoreName() string {
	name := p.Name
	if p.Namespace != "" {
		name = p.Namespace + "/" + name
	}
	if p.Kind == KindPrefix || p.Kind == KindGlobalPrefix {
		name = "prefixes:" + name
	}
	return name
}

// ReadFile reads the pools in the file at path, as [Parse] does. It must be a regular file. Errors name the file, and
// each [*config.FieldError] its line.
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func ReadFile(path string) ([]Pool, error) { return tree.ReadFile(path, yamltree.Parse, read) }

// Parse reads the pools in a text, at least one, and returns them in order. The text is a YAML stream, whose empty
// documents are skipped, or one JSON object. A List stands for its items. Objects of other kinds are errors, and so is
// a duplicate pool.
//
// The error joins a [*config.FieldError] for each fault; no pools are returned then.
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func Parse(data []byte) ([]Pool, error) { return read(yamltree.Parse(data)) }

func read(text tree.Documents) ([]Pool, error) {
	r := reader{names: map[string]bool{}}
	documents := text.Values(&r.report)
	if len(documents) == 0 && r.report.Count() == 0 {
		r.report.Add("the text has no content", "a pool: "+anyKind)
	}
	for _, document := range documents {
		r.document(document)
	}
	if len(r.pools) == 0 && r.report.Count() == 0 {
		r.report.Add("the list has no items", "a pool: "+anyKind)
	}
	if err := r.report.Err(); err != nil {
		return nil, err
	}
	return r.pools, nil
}

// reader collects the pools.
type reader struct {
	report tree.Report
	pools  []Pool
	names  map[string]bool // of the pools, in a store
}

// document reads a pool or a list of pools.
func (r *reader) document(document tree.Value) {
	top, ok := document.Object()
	if !ok {
		return
	}
	if kind := top.Field("kind"); !kind.Missing() && strings.HasSuffix(kind.TextOr(""), "List") {
		for _, item := range top.Field("items").Items() {
			if top, ok := item.Object(); ok {
				r.pool(top)
			}
		}
		return
	}
	r.pool(top)
}

// pool reads a pool. It looks at its kind first: what is no pool is told so, not which fields are unknown.
func (r *reader) pool(top tree.Object) {
	p := Pool{}
	errors := r.report.Count()
	read := p.readerOf(top)
	if read == nil {
		return
	}
	top.RefuseUnknown("apiVersion", "kind", "metadata", "spec", "status")
	p.readMetadata(top.Field("metadata"))
	if spec, ok := top.Field("spec").Object(); ok {
		from := read(spec)
		if r.report.Count() == errors {
			p.check(from)
		}
	}
	if r.report.Count() != errors {
		return
	}
	if r.names[p.StoreName()] {
		top.Field("metadata").Refuse(fmt.Sprintf("is that of a pool that is there twice, %s %s", p.Kind, p.StoreName()),
			"each pool once")
	}
	r.names[p.StoreName()] = true
	r.pools = append(r.pools, p)
}

// readerOf tells from apiVersion and kind how to read the spec; nil if there is no telling. What it returns reads the
// spec and returns the value that the addresses come from.
func (p *Pool) readerOf(top tree.Object) func(tree.Object) tree.Value {
	kind, ok := top.Field("kind").Text()
	version, known := top.Field("apiVersion").Text()
	if !ok || !known {
		return nil
	}
	p.Kind = kind
	prefixes := kind == KindPrefix || kind == KindGlobalPrefix
	switch {
	case !prefixes && kind != KindNamespaced && kind != KindGlobal:
		top.Field("kind").Refuse("is no kind of pool", anyKind)
	case version == Group+"/v1alpha2" && prefixes:
		return p.readPrefixes
	case version == Group+"/v1alpha2":
		return p.readV1alpha2
	case version == Group+"/v1alpha1" && !prefixes:
		return p.readV1alpha1
	case prefixes:
		top.Field("apiVersion").Refuse("does not have this kind", Group+"/v1alpha2")
	default:
		top.Field("apiVersion").Refuse("is not known", Group+"/v1alpha2 or "+Group+"/v1alpha1")
	}
	return nil
}

// check makes sure that the spec, with which nothing is wrong so far, makes a pool.
func (p *Pool) check(from tree.Value) {
	families := p.Spec.AllFamilies()
	if len(families) > 0 && len(p.Spec.Set(families[0]).Ranges()) == 0 {
		from.Refuse("leaves nothing to hand out: each address is excluded, the gateway, or reserved for the subnet",
			"one more address at least")
		return
	}
	from.CheckSpec(p.Spec)
}
