package hostlocal

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config/internal/cni"
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// rangeReader reads the sets of ranges of a configuration.
type rangeReader struct {
	config *Config
	sets   []tree.Value // where each of the sets stands
	ranges []placed     // those of all sets
}

// placed is a range and where it stands.
type placed struct {
	Range
	value tree.Value
}

// readSets reads the sets, in the order in which host-local takes them.
func (r *rangeReader) readSets(n cni.Network) {
	ranges, legacy := n.IPAM.Field("ranges"), n.IPAM.Field("subnet")
	errors := ranges.Errors()
	r.readList(cni.Descend(n.Plugin, "runtimeConfig", "ipRanges"))
	if legacy.Missing() {
		r.ignoreLegacy(n.IPAM)
	} else {
		r.readSet(legacy, []tree.Object{n.IPAM})
	}
	r.readList(ranges)
	if len(r.sets) == 0 && ranges.Errors() == errors {
		refuseNoRanges(ranges, n.IPAM.Field("rangeFromFile"))
	}
	cni.CheckVersion(ranges, r.config.CNIVersion, "sets", r.config.families()...)
	if ranges.Errors() == errors {
		r.checkOverlaps()
	}
}

func refuseNoRanges(ranges, file tree.Value) {
	if file.Missing() {
		ranges.Refuse("there are no ranges", `at least one, such as [[{"subnet": "192.0.2.0/24"}]]`)
		return
	}
	file.Refuse("names a file, which is not read here", "its content as the one range of ipam.ranges")
}

// ignoreLegacy notes the fields that mean something only beside a subnet.
func (r *rangeReader) ignoreLegacy(ipam tree.Object) {
	for _, name := range []string{"rangeStart", "rangeEnd", "gateway"} {
		if v := ipam.Field(name); !v.Missing() {
			r.config.Ignored = append(r.config.Ignored, v.Path())
		}
	}
}

func (r *rangeReader) readList(list tree.Value) {
	for _, item := range list.Items() {
		var set []tree.Object
		for _, one := range item.Items() {
			if o, ok := one.FoldedObject(); ok {
				set = append(set, o)
				r.config.Ignored = append(r.config.Ignored, o.Unknown("subnet", "rangeStart", "rangeEnd", "gateway")...)
			}
		}
		if len(set) == 0 {
			item.Refuse("has no ranges", "at least one")
		}
		r.readSet(item, set)
	}
}

func (r *rangeReader) readSet(v tree.Value, objects []tree.Object) {
	var set RangeSet
	for _, o := range objects {
		one, ok := readRange(o)
		if !ok {
			continue
		}
		if len(set) == 0 || o.Field("subnet").CheckFamily(one.Subnet.Addr(), familyOf(set[0]), "the set") {
			set = append(set, one)
			r.ranges = append(r.ranges, placed{one, o.Field("subnet")})
		}
	}
	r.config.Sets = append(r.config.Sets, set)
	r.sets = append(r.sets, v)
}

func familyOf(r Range) pool.Family { return pool.FamilyOf(r.Subnet.Addr()) }

// readRange reads a range; false if a part of it is refused.
func readRange(o tree.Object) (Range, bool) {
	errors := o.Errors()
	subnet, ok := o.Field("subnet").Prefix()
	if !ok {
		return Range{}, false
	}
	usable := cidr.Usable(subnet)
	from := readBound(o.Field("rangeStart"), subnet, usable.From())
	to := readBound(o.Field("rangeEnd"), subnet, usable.To())
	if o.Errors() == errors && to.Less(from) {
		o.Field("rangeEnd").Refuse(fmt.Sprintf("makes the range %v-%v, which is empty", from, to),
			"a rangeStart that is not after rangeEnd")
	}
	r := Range{Subnet: subnet, Addresses: netipx.IPRangeFrom(from, to), Gateway: readGateway(o.Field("gateway"), subnet)}
	return r, o.Errors() == errors
}

// readBound reads an address of the subnet, or is what a missing one stands for.
func readBound(v tree.Value, subnet netip.Prefix, missing netip.Addr) netip.Addr {
	if v.Missing() {
		return missing
	}
	addr, ok := v.Addr()
	if ok && !subnet.Contains(addr) {
		v.Refuse(fmt.Sprintf("is not in the subnet %v", subnet), "an address of it")
	}
	return addr
}

func readGateway(v tree.Value, subnet netip.Prefix) netip.Addr {
	if !v.Missing() {
		gateway, ok := v.Addr()
		if ok {
			v.CheckFamily(gateway, pool.FamilyOf(subnet.Addr()), "its subnet")
		}
		return gateway
	}
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		return netip.Addr{}
	}
	return subnet.Addr().Next()
}

// checkOverlaps refuses ranges that overlap, and subnets that do without being the same.
func (r *rangeReader) checkOverlaps() {
	byStart := slices.SortedStableFunc(slices.Values(r.ranges), func(a, b placed) int {
		return a.Addresses.From().Compare(b.Addresses.From())
	})
	longest := byStart[0] // that which ends last, of those before
	for _, one := range byStart[1:] {
		if one.Addresses.Overlaps(longest.Addresses) {
			one.value.Refuse(fmt.Sprintf("has the range %v, which overlaps %v of %s",
				one.Addresses, longest.Addresses, longest.value.Path()), "ranges that do not overlap")
		}
		if longest.Addresses.To().Less(one.Addresses.To()) {
			longest = one
		}
	}
	bySubnet := slices.SortedStableFunc(slices.Values(r.ranges), func(a, b placed) int {
		return cmp.Or(a.Subnet.Addr().Compare(b.Subnet.Addr()), cmp.Compare(a.Subnet.Bits(), b.Subnet.Bits()))
	})
	outer := bySubnet[0] // the only one that may overlap the next, since a prefix sorts before those in it
	for _, one := range bySubnet[1:] {
		if !one.Subnet.Overlaps(outer.Subnet) {
			outer = one
		} else if one.Subnet != outer.Subnet {
			one.value.Refuse(fmt.Sprintf("overlaps %v of %s", outer.Subnet, outer.value.Path()),
				"the same subnet, or one that does not overlap")
		}
	}
}

// makeSpec makes one pool of all sets, with which nothing is wrong so far.
func (r *rangeReader) makeSpec(from tree.Value) {
	spec := &r.config.Spec
	spec.Strategy = pool.NextFree
	named := map[pool.Subnet]bool{}
	for _, one := range r.ranges {
		spec.Ranges = append(spec.Ranges, one.Addresses)
		subnet := pool.Subnet{Prefix: one.Subnet, Gateway: one.Gateway}
		if one.Gateway.IsValid() && !one.Subnet.Contains(one.Gateway) {
			subnet.Gateway = netip.Addr{}
			spec.Exclude = append(spec.Exclude, netipx.IPRangeFrom(one.Gateway, one.Gateway))
		}
		if !named[subnet] {
			spec.Subnets = append(spec.Subnets, subnet)
		}
		named[subnet] = true
	}
	errors := from.Errors()
	free := cidr.Union(spec.Set(pool.IPv4), spec.Set(pool.IPv6))
	for i, set := range r.config.Sets {
		if !cidr.Overlaps(set.addresses(), free) {
			r.sets[i].Refuse("leaves nothing to hand out: each address is a gateway, or reserved for the subnet",
				"one more address at least")
		}
	}
	if from.Errors() == errors {
		from.CheckSpec(*spec)
	}
}

// addresses are those of all ranges of the set.
func (s RangeSet) addresses() *netipx.IPSet {
	ranges := make([]netipx.IPRange, len(s))
	for i, r := range s {
		ranges[i] = r.Addresses
	}
	return cidr.SetOf(ranges...)
}
