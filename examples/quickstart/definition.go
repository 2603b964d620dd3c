package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/internal/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
)

// builtInName is the name of the built-in pool. It has a character that no pool of Cluster API can have in its name.
const builtInName = "built-in:dual-stack"

// definition is a pool as it should be.
type definition struct {
	source string // who says so
	name   string // in the store
	spec   pool.Spec
}

func readDefinition(poolFile string) (definition, error) {
	if poolFile == "" {
		return builtIn(), nil
	}
	p, err := clusterapi.ReadFile(poolFile)
	return definition{source: poolFile, name: p.StoreName(), spec: p.Spec}, err
}

// builtIn is a pool of both families, with addresses that are set aside for documentation (RFC 5737, RFC 3849).
func builtIn() definition {
	subnets := []pool.Subnet{
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")},
		{Prefix: netip.MustParsePrefix("2001:db8::/64"), Gateway: netip.MustParseAddr("2001:db8::1")},
	}
	spec := pool.Spec{Subnets: subnets}
	for _, subnet := range subnets {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(subnet.Prefix))
	}
	return definition{source: "this program", name: builtInName, spec: spec}
}

// checkSize refuses more owners than the pool could serve if it were empty.
func (d definition) checkSize(owners int) error {
	for _, family := range d.spec.Families() {
		if size := cidr.Size(d.spec.Set(family)); size.Cmp(cidr.CountOf(uint64(owners))) < 0 {
			return exhausted(d.name, family, size, owners)
		}
	}
	return nil
}

// exhausted says that fewer addresses are free than owners need one.
func exhausted(name string, family pool.Family, free cidr.Count, owners int) error {
	return fmt.Errorf("the pool %q is %w: %d owners need an %v address each, but %v are free; nothing was allocated",
		name, pool.ErrExhausted, owners, family, free)
}

// checkUnchanged refuses a definition that is not that of the pool in the store.
func (d definition) checkUnchanged(stored pool.Spec) error {
	for _, property := range []struct {
		name string
		of   func(pool.Spec) string
	}{
		{"addresses", func(s pool.Spec) string { return rangesText(s.Ranges) }},
		{"exclusions", func(s pool.Spec) string { return rangesText(s.Exclude) }},
		{"subnets", func(s pool.Spec) string { return subnetsText(s.Subnets) }},
		{"prefix lengths", func(s pool.Spec) string { return fmt.Sprintf("%d and %d", s.IPv4Bits, s.IPv6Bits) }},
		{"reserved addresses", func(s pool.Spec) string { return reservedText(s.AllocateReserved) }},
	} {
		if want, have := property.of(d.spec), property.of(stored); want != have {
			return fmt.Errorf("the pool %q has other %s: %s; but %s says: %s; a pool cannot be changed yet",
				d.name, property.name, have, d.source, want)
		}
	}
	return nil
}

func rangesText(ranges []netipx.IPRange) string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, cidr.FormatRange(r))
	}
	return listText(texts)
}

func subnetsText(subnets []pool.Subnet) string {
	var texts []string
	for _, subnet := range subnets {
		text := subnet.Prefix.String()
		if subnet.Gateway.IsValid() {
			text += fmt.Sprintf(" with gateway %v", subnet.Gateway)
		}
		texts = append(texts, text)
	}
	return listText(slices.Sorted(slices.Values(texts)))
}

func reservedText(allocated bool) string {
	if allocated {
		return "handed out too"
	}
	return "kept back"
}

func listText(texts []string) string {
	if len(texts) == 0 {
		return "none"
	}
	return strings.Join(texts, ", ")
}
