package clusterapi

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// defaultPrefixBits is the length of the prefixes that a pool hands out if it names none.
const defaultPrefixBits = 64

// readPrefixes reads the spec of a pool of IPv6 prefixes.
func (p *Pool) readPrefixes(spec tree.Object) tree.Value {
	spec.RefuseUnknown("prefixes", "allocationPrefixLength", "gateway", "excludedPrefixes", "network",
		"externalAddresses", "drain")
	list, length := spec.Field("prefixes"), spec.Field("allocationPrefixLength")
	if !length.Missing() {
		p.Prefix, _ = length.Number(0, pool.IPv6.Width(), "1 to 128, the length of the prefixes to hand out")
	}
	if p.Prefix == 0 {
		p.Prefix = defaultPrefixBits
	}
	errors, items := list.Errors(), list.Items()
	if len(items) == 0 && list.Errors() == errors {
		list.Refuse("there are no prefixes", "at least one, such as 2001:db8::/48")
	}
	var prefixes []entry
	for _, item := range items {
		if prefix, ok := item.Prefix(); ok && p.checkPrefix(item, prefix) {
			prefixes = append(prefixes, entry{item, netipx.RangeOfPrefix(prefix)})
		}
	}
	excluded := readEntries(spec.Field("excludedPrefixes"))
	for _, e := range excluded {
		e.CheckFamily(e.addresses.From(), pool.IPv6, "the pool")
	}
	p.readGateway(spec.Field("gateway"), pool.IPv6)
	p.Spec = pool.Spec{
		Ranges: merge(prefixes), Exclude: merge(excluded),
		IPv6: pool.FamilySpec{Bits: p.Prefix, AllocateReserved: true}, // which matters where each prefix is one address
	}
	p.readNetwork(spec, pool.IPv6)
	return list
}

func (p *Pool) checkPrefix(v tree.Value, prefix netip.Prefix) bool {
	if !v.CheckFamily(prefix.Addr(), pool.IPv6, "the pool") {
		return false
	}
	if prefix.Bits() > p.Prefix {
		v.Refuse(fmt.Sprintf("is smaller than the prefixes to hand out, of length %d", p.Prefix),
			fmt.Sprintf("a length of at most %d", p.Prefix))
		return false
	}
	return true
}
