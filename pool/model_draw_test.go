package pool_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// worlds are the universes: at both ends of the address space, and in the middle.
var worlds = map[pool.Family][]netip.Prefix{
	pool.IPv4: {prefix("10.0.0.0/26"), prefix("0.0.0.0/27"), prefix("255.255.255.192/26")},
	pool.IPv6: {prefix("2001:db8::/122"), prefix("::/123"), prefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122")},
}

// firstUniverse is that of all pools in one store.
func firstUniverse() map[pool.Family]netip.Prefix {
	return map[pool.Family]netip.Prefix{pool.IPv4: worlds[pool.IPv4][0], pool.IPv6: worlds[pool.IPv6][0]}
}

func nthOf(p netip.Prefix, n int) netip.Addr {
	a, ok := cidr.Nth(cidr.SetOf(netipx.RangeOfPrefix(p)), cidr.CountOf(uint64(n)))
	if !ok {
		panic(fmt.Sprintf("%v has no address %d", p, n))
	}
	return a
}

func addrsOf(p netip.Prefix) []netip.Addr { return world.AddrsOf(p) }

func anyAddr(universe netip.Prefix) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		return nthOf(universe, rapid.IntRange(0, 1<<(universe.Addr().BitLen()-universe.Bits())-1).Draw(t, "n"))
	})
}

func anyPrefix(universe netip.Prefix) *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		bits := rapid.IntRange(universe.Bits(), universe.Addr().BitLen()).Draw(t, "bits")
		return netip.PrefixFrom(anyAddr(universe).Draw(t, "addr"), bits).Masked()
	})
}

func anyRange(universe netip.Prefix) *rapid.Generator[netipx.IPRange] {
	return rapid.Custom(func(t *rapid.T) netipx.IPRange {
		if rapid.Bool().Draw(t, "prefix") {
			return netipx.RangeOfPrefix(anyPrefix(universe).Draw(t, "prefix"))
		}
		a, b := anyAddr(universe).Draw(t, "a"), anyAddr(universe).Draw(t, "b")
		if b.Less(a) {
			a, b = b, a
		}
		return netipx.IPRangeFrom(a, b)
	})
}

// anyModel draws a model of an empty pool of the default policies whose spec is valid.
func anyModel() *rapid.Generator[*world.Pool] {
	return rapid.Custom(func(t *rapid.T) *world.Pool {
		universe := anyUniverse(t)
		m := world.NewPool("", universe, anyAddresses(t, universe))
		if m.Spec.Validate() != nil {
			t.Skip("nothing to hand out")
		}
		return m
	})
}

func anyUniverse(t *rapid.T) map[pool.Family]netip.Prefix {
	universe := map[pool.Family]netip.Prefix{}
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		universe[f] = rapid.SampledFrom(worlds[f]).Draw(t, "universe")
	}
	return universe
}

// anyAddresses draws what a spec says of addresses.
func anyAddresses(t *rapid.T, universe map[pool.Family]netip.Prefix) pool.Spec {
	spec := anyReserved(t)
	families := rapid.SampledFrom([][]pool.Family{
		{pool.IPv4}, {pool.IPv6}, {pool.IPv4, pool.IPv6}, {pool.IPv6, pool.IPv4},
	}).Draw(t, "families")
	for _, f := range families {
		addFamily(t, &spec, f, universe[f])
	}
	return spec
}

// anyReserved draws a spec that says only what is to be done with reserved addresses.
func anyReserved(t *rapid.T) pool.Spec {
	return pool.Spec{
		IPv4: pool.FamilySpec{AllocateReserved: rapid.Bool().Draw(t, "allocate reserved IPv4 addresses")},
		IPv6: pool.FamilySpec{AllocateReserved: rapid.Bool().Draw(t, "allocate reserved IPv6 addresses")},
	}
}

// partOf draws a universe that is the whole, or one of its quarters.
func partOf(t *rapid.T, universe map[pool.Family]netip.Prefix) map[pool.Family]netip.Prefix {
	part := map[pool.Family]netip.Prefix{}
	quarter := rapid.IntRange(-1, 3).Draw(t, "quarter")
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		part[f] = universe[f]
		if quarter >= 0 {
			size := 1 << (f.Width() - universe[f].Bits() - 2)
			part[f] = netip.PrefixFrom(nthOf(universe[f], quarter*size), universe[f].Bits()+2)
		}
	}
	return part
}

// addFamily adds ranges of a family within the universe, and the subnets, exclusions and length that go with them.
func addFamily(t *rapid.T, spec *pool.Spec, f pool.Family, universe netip.Prefix) {
	within := []netip.Prefix{universe}
	if rapid.Bool().Draw(t, "subnets") {
		// Either one subnet of any size, or the halves of the universe.
		within = []netip.Prefix{anyPrefix(universe).Draw(t, "subnet")}
		if rapid.Bool().Draw(t, "halves") {
			half := universe.Bits() + 1
			within = []netip.Prefix{
				netip.PrefixFrom(universe.Addr(), half), netip.PrefixFrom(netipx.PrefixLastIP(universe), half).Masked(),
			}
		}
		for _, p := range within {
			subnet := pool.Subnet{Prefix: p}
			if rapid.Bool().Draw(t, "gateway") {
				subnet.Gateway = anyAddr(p).Draw(t, "gateway")
			}
			spec.Subnets = append(spec.Subnets, subnet)
		}
	}
	for range rapid.IntRange(1, 3).Draw(t, "ranges") {
		spec.Ranges = append(spec.Ranges, anyRange(rapid.SampledFrom(within).Draw(t, "in")).Draw(t, "range"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "exclusions") {
		spec.Exclude = append(spec.Exclude, anyRange(universe).Draw(t, "exclusion"))
	}
	if rapid.IntRange(0, 2).Draw(t, "kind of lengths") == 0 {
		anyLengths(t, lengthsOf(spec, f), f)
	}
}

// lengthsOf is what a spec says of a family.
func lengthsOf(spec *pool.Spec, f pool.Family) *pool.FamilySpec {
	if f == pool.IPv4 {
		return &spec.IPv4
	}
	return &spec.IPv6
}

// anyLengths draws the default length of a family, and perhaps bounds around it.
func anyLengths(t *rapid.T, lengths *pool.FamilySpec, f pool.Family) {
	lengths.Bits = rapid.IntRange(f.Width()-3, f.Width()).Draw(t, "bits")
	lengths.MinBits, lengths.MaxBits = 0, 0
	if rapid.Bool().Draw(t, "least") {
		lengths.MinBits = rapid.IntRange(f.Width()-4, lengths.Bits).Draw(t, "least bits")
	}
	if rapid.Bool().Draw(t, "greatest") {
		lengths.MaxBits = rapid.IntRange(lengths.Bits, f.Width()).Draw(t, "greatest bits")
	}
}

// anyPolicies draws the rest of a spec but for the network.
func anyPolicies(t *rapid.T, spec *pool.Spec) {
	spec.Strategy = rapid.SampledFrom(everyStrategy).Draw(t, "strategy")
	spec.Cooldown = time.Duration(rapid.SampledFrom([]int{0, 0, 1, 3}).Draw(t, "cooldown")) * time.Minute
	spec.Scope = rapid.SampledFrom([]string{"", "", "", "team"}).Draw(t, "scope")
	spec.Labels = rapid.SampledFrom([]map[string]string{nil, {"zone": "a"}, {"zone": "b", "é": ""}}).Draw(t, "labels")
	spec.Cordoned = rapid.IntRange(0, 5).Draw(t, "cordoned") == 0
	anyQuotas(t, spec)
	anyBands(t, spec)
}

// anyQuotas draws quotas of scopes and nodes, mostly none.
func anyQuotas(t *rapid.T, spec *pool.Spec) {
	spec.Quotas = nil
	for range rapid.SampledFrom([]int{0, 0, 0, 1, 1, 3}).Draw(t, "quotas") {
		q := pool.Quota{
			Label:     rapid.SampledFrom([]string{"", "node"}).Draw(t, "label"),
			Family:    rapid.SampledFrom([]pool.Family{0, pool.IPv4, pool.IPv6}).Draw(t, "quota of family"),
			Addresses: cidr.CountOf(uint64(rapid.SampledFrom([]int{1, 2, 3, 8}).Draw(t, "addresses"))),
		}
		if rapid.Bool().Draw(t, "of one value") {
			q.Value = rapid.SampledFrom([]string{"team", "n1"}).Draw(t, "value")
		}
		if rapid.Bool().Draw(t, "in percent") {
			q.Addresses, q.Percent = cidr.Count{}, rapid.SampledFrom([]int{1, 5, 33, 100}).Draw(t, "percent")
		}
		if spec.Quotas = append(spec.Quotas, q); spec.Validate() != nil {
			spec.Quotas = spec.Quotas[:len(spec.Quotas)-1] // two that are about the same
		}
	}
}

func anyBands(t *rapid.T, spec *pool.Spec) {
	spec.Bands = nil
	if len(spec.Ranges) == 0 {
		return
	}
	for _, name := range []string{"static", "late"}[:rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(t, "bands")] {
		r := rapid.SampledFrom(spec.Ranges).Draw(t, "in")
		from := anyAddr(r.Prefixes()[0]).Draw(t, "from")
		rest := []netipx.IPRange{netipx.IPRangeFrom(from, r.To())}
		band := pool.Band{Name: name, Ranges: rest, Exclusive: rapid.Bool().Draw(t, "exclusive")}
		if to := anyAddr(r.Prefixes()[0]).Draw(t, "to"); !to.Less(from) {
			band.Ranges[0] = netipx.IPRangeFrom(from, to)
		}
		if len(spec.Bands) == 0 || !spec.Bands[0].Ranges[0].Overlaps(band.Ranges[0]) {
			spec.Bands = append(spec.Bands, band)
		}
	}
}

// anyChange draws another spec, which may not be valid.
func anyChange(t *rapid.T, m *world.Pool, networks []string) pool.Spec {
	spec := m.Spec
	spec.Ranges, spec.Exclude = slices.Clone(spec.Ranges), slices.Clone(spec.Exclude)
	spec.Subnets = slices.Clone(spec.Subnets)
	f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6}).Draw(t, "family")
	ofFamily := func(r netipx.IPRange) bool { return pool.FamilyOf(r.From()) == f }
	switch rapid.IntRange(0, 11).Draw(t, "change") {
	case 0: // the policies
		anyPolicies(t, &spec)
	case 1: // everything
		other := anyAddresses(t, m.Universe)
		spec.Ranges, spec.Exclude, spec.Subnets, spec.Bands = other.Ranges, other.Exclude, other.Subnets, nil
		spec.IPv4, spec.IPv6, spec.Families = other.IPv4, other.IPv6, nil
	case 2: // grow
		spec.Ranges = append(spec.Ranges, anyRange(m.Universe[f]).Draw(t, "range"))
	case 3: // shrink
		spec.Ranges = slices.Delete(spec.Ranges, 0, max(0, min(1, len(spec.Ranges)-1)))
	case 4: // exclude
		spec.Exclude = append(spec.Exclude, anyRange(m.Universe[f]).Draw(t, "exclusion"))
	case 5:
		other := anyReserved(t)
		spec.Exclude, spec.IPv4.AllocateReserved = nil, other.IPv4.AllocateReserved
		spec.IPv6.AllocateReserved = other.IPv6.AllocateReserved
	case 6: // move the gateways
		for i, subnet := range spec.Subnets {
			spec.Subnets[i].Gateway = anyAddr(subnet.Prefix).Draw(t, "gateway")
		}
	case 7: // drop a family
		spec.Ranges, spec.Exclude = slices.DeleteFunc(spec.Ranges, ofFamily), slices.DeleteFunc(spec.Exclude, ofFamily)
		spec.Subnets = slices.DeleteFunc(spec.Subnets, func(s pool.Subnet) bool {
			return pool.FamilyOf(s.Prefix.Addr()) == f
		})
		*lengthsOf(&spec, f) = pool.FamilySpec{AllocateReserved: lengthsOf(&spec, f).AllocateReserved}
		spec.Families = nil
	case 8: // add one
		if !slices.Contains(m.Families(), f) {
			addFamily(t, &spec, f, m.Universe[f])
		}
	case 9: // bound the lengths of a family that there is
		if slices.Contains(m.Families(), f) {
			anyLengths(t, lengthsOf(&spec, f), f)
		}
	case 10: // give up all ranges, or those of a family, and keep the families
		spec.Families, spec.Bands = m.Families(), nil
		spec.Subnets = nil
		if rapid.Bool().Draw(t, "all") {
			spec.Ranges = nil
		} else {
			spec.Ranges = slices.DeleteFunc(spec.Ranges, ofFamily)
		}
	case 11:
		spec.Network = rapid.SampledFrom(networks).Draw(t, "network")
	}
	if spec.Validate() != nil {
		spec.Bands = nil // which may be out of range now
	}
	return spec
}

var owners = []string{
	"a", "b", "c", "d", "e", "f", "pod-7/eth0", "uid: \"x\"", "line\nbreak", "ünïcode 🐘",
	strings.Repeat("long", 256), "../..",
}

var everyStrategy = []pool.Strategy{
	pool.LowestFree, pool.NextFree, pool.RandomFree, pool.HighestFree, pool.SpreadFree, pool.BestFit,
}

var policies = []pool.FamilyPolicy{"", pool.SingleStack, pool.PreferDualStack, pool.RequireDualStack}

// anyClaim draws a claim that breaks no rule.
func anyClaim(m *world.Pool) *rapid.Generator[pool.Claim] {
	return rapid.Custom(func(t *rapid.T) pool.Claim {
		c := anyOwnersClaim(t, m, rapid.SampledFrom(owners).Draw(t, "owner"))
		c.Policy = rapid.SampledFrom(policies).Draw(t, "policy")
		for range rapid.SampledFrom([]int{0, 0, 1, 1, 1, 2, 3}).Draw(t, "requests") {
			c.Requests = append(c.Requests, anyRequest(t, m))
		}
		if m.Spec.Strategy == pool.RandomFree && len(c.Requests) > 1 {
			c.Requests = c.Requests[:1] // what the second one gets would depend on the first
		}
		return c
	})
}

// anyOwnersClaim draws a claim for the default.
func anyOwnersClaim(t *rapid.T, m *world.Pool, owner string) pool.Claim {
	c := pool.Claim{Owner: owner, Scope: m.Spec.Scope, TTL: anyTTL(t)}
	if rapid.IntRange(0, 9).Draw(t, "other scope") == 0 {
		c.Scope = rapid.SampledFrom([]string{"", "team", "others"}).Draw(t, "scope")
	}
	c.Share = rapid.SampledFrom([]string{"", "", "", "web", "d n/s\""}).Draw(t, "share")
	if rapid.IntRange(0, 3).Draw(t, "labelled") == 0 {
		c.Labels = anyLabels(t)
	}
	return c
}

// anyLabels draws labels of which many claims have the same.
func anyLabels(t *rapid.T) map[string]string {
	labels := map[string]string{"node": rapid.SampledFrom([]string{"", "n1", "n1", "ñ"}).Draw(t, "label")}
	if rapid.IntRange(0, 2).Draw(t, "two labels") == 0 {
		labels["k8s.io/pod"] = rapid.SampledFrom([]string{"web", "a b/%"}).Draw(t, "other label")
	}
	return labels
}

// anyTTL draws how long a lease lasts; 0 for ever. All are whole minutes, and each call is made at another millisecond
// of its minute, so that what ends at once was made at once.
func anyTTL(t *rapid.T) time.Duration {
	return time.Duration(rapid.SampledFrom([]int{0, 0, 1, 2, 5}).Draw(t, "minutes")) * time.Minute
}

func anyRequest(t *rapid.T, m *world.Pool) pool.Request {
	f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6, m.Families()[0], m.Families()[0]}).Draw(t, "family")
	universe := m.Universe[f]
	var r pool.Request
	if rapid.Bool().Draw(t, "family is said") {
		r.Family = f
	}
	switch rapid.IntRange(0, 7).Draw(t, "kind") {
	case 0:
		r.Exact = anyPrefix(universe).Draw(t, "exact")
	case 1:
		r = pool.ExactAddr(anyAddr(universe).Draw(t, "address"))
	case 2:
		r.Within = cidr.SetOf(anyRange(universe).Draw(t, "within"), anyRange(universe).Draw(t, "within"))
	case 3:
		r.Family, r.Bits = f, rapid.IntRange(f.Width()-6, f.Width()).Draw(t, "bits")
	case 4:
		r.Family, r.Bits = f, rapid.IntRange(f.Width()-3, f.Width()).Draw(t, "bits")
		r.Within = cidr.SetOf(anyRange(universe).Draw(t, "within"))
	case 5:
		set := anyRange(universe).Draw(t, "within")
		r.Within = cidr.SetOf(set)
		r.Exact = rapid.SampledFrom(set.Prefixes()).Draw(t, "exact")
	case 6:
		r.Band = rapid.SampledFrom([]string{"static", "late"}).Draw(t, "band")
	}
	if !r.Exact.IsValid() && rapid.IntRange(0, 2).Draw(t, "prefers") == 0 {
		r.Prefer = anyAddr(universe).Draw(t, "preferred")
	}
	return r
}

// badClaim draws a claim against one rule.
func badClaim(t *rapid.T, m *world.Pool) pool.Claim {
	f := m.Families()[0]
	host := netip.PrefixFrom(netipx.PrefixLastIP(m.Universe[f]), f.Width()-1)
	bad := []pool.Claim{
		{},
		{Owner: strings.Repeat("x", store.MaxNameBytes+1)},
		{Owner: "a\x00b"},
		{Owner: "a\xffb"},
		{Owner: "x", Policy: "Both"},
		{Owner: "x", Requests: []pool.Request{{Family: f, Bits: f.Width() + 1}}},
		{Owner: "x", Requests: []pool.Request{{Family: f, Bits: -1}}},
		{Owner: "x", Requests: []pool.Request{{Family: 5}}},
		{Owner: "x", Requests: []pool.Request{{Exact: host}}},
		{Owner: "x", Requests: []pool.Request{{Exact: host.Masked(), Bits: f.Width()}}},
		{Owner: "x", Requests: []pool.Request{{Exact: host.Masked(), Family: 10 - f}}},
		{Owner: "x", Requests: []pool.Request{{Within: &netipx.IPSet{}}}},
		{Owner: "x", Requests: []pool.Request{{Exact: host.Masked(), Within: setOf("10.99.0.1")}}},
		{Owner: "x", Requests: []pool.Request{{Exact: netip.PrefixFrom(host.Addr(), f.Width()+1)}}},
		{Owner: "x", Requests: []pool.Request{{Exact: netip.PrefixFrom(host.Addr(), 0).Masked()}}},
		{Owner: "x", Requests: []pool.Request{{Within: setOf("10.0.0.1", "2001:db8::1")}}},
		{Owner: "x", Requests: []pool.Request{pool.ExactAddr(addr("::ffff:10.0.0.1"))}},
		{Owner: "x", Requests: []pool.Request{{Prefer: addr("::ffff:10.0.0.1")}}},
		{Owner: "x", Requests: []pool.Request{{Prefer: addr("fe80::1%eth0")}}},
		{Owner: "x", Requests: []pool.Request{{Prefer: host.Addr(), Exact: host.Masked()}}},
		{Owner: "x", Requests: []pool.Request{{Prefer: host.Addr(), Family: 10 - f}}},
		{Owner: "x", Requests: slices.Repeat([]pool.Request{{Prefer: host.Addr()}}, pool.MaxPreferences+1)},
		{Owner: "x", Requests: []pool.Request{{Band: "nobody's"}}},
		{Owner: "x", TTL: -time.Second},
		{Owner: "x", TTL: time.Nanosecond},
		{Owner: "x", TTL: pool.MaxTTL + 1},
		{Owner: "x", Labels: map[string]string{"x": strings.Repeat("x", pool.MaxLabelBytes)}},
		{Owner: "x", Labels: map[string]string{"x": "\xff"}},
		{Owner: "x", Labels: map[string]string{"x": "\x00"}},
		{Owner: "x", Labels: map[string]string{"": "x"}},
	}
	c := rapid.SampledFrom(bad).Draw(t, "bad claim")
	c.Scope = m.Spec.Scope
	return c
}
