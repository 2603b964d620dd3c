package pool

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// MaxRanges is the largest number of ranges in a spec: those of the pool and of its bands, exclusions and subnets
// together. It is also the largest number of ranges in all the sets of one claim together; see [Request.Within].
const MaxRanges = 1 << 20

// Spec says which addresses a pool hands out, and how. It is validated as a whole when a pool is created or changed.
//
// The zero Spec is not valid: it has no family. A Spec may be copied; the copy shares its slices. A pool keeps its own
// copy.
//
// Cost: creating, opening or changing a pool is O(n log n) for n ranges, exclusions, subnets and bands; 100,000 take
// less than a second. They do not make a claim cost more.
type Spec struct {
	// Ranges are the addresses of the pool, of one family or of both; see [ParseSpec] for text. The ranges of one
	// family form one set, which is handed out from its lowest address up. They may overlap. No ranges at all means all
	// of Subnets. At most [MaxRanges] together with the exclusions, subnets and ranges of bands.
	Ranges []netipx.IPRange

	// Families are the families of the pool, the primary one first. Empty means those of the ranges, in the order in
	// which they first appear. A family named here may have no ranges yet: claims for it are refused with
	// [ErrExhausted] until [Pool.Update] or [Pool.Extend] adds some.
	Families []Family

	// Exclude are addresses that are never handed out. They need not lie in the ranges, but must be of a family of the
	// pool.
	Exclude []netipx.IPRange

	// Subnets are the networks that the ranges lie in. A family either has none here, or each of its ranges lies in one
	// of them. They must not overlap, but one subnet may be listed several times, with different gateways: none of
	// these is handed out, and [Spec.SubnetOf] returns the first. If the hosts in two ranges of one subnet need
	// different gateways, make a pool for each range, and exclude the other pool's gateway.
	Subnets []Subnet

	// IPv4 and IPv6 say how the pool hands out each family. They must not set prefix lengths for a family that the pool
	// does not have.
	IPv4, IPv6 FamilySpec

	// Strategy says which free prefix is granted if several meet a request. Default: [LowestFree].
	Strategy Strategy

	// Bands are parts of the ranges that claims use last, or not at all, unless they ask for them. They must not
	// overlap.
	Bands []Band

	// Cooldown is how long a released address is withheld from all but its last owner. 0 means that it can be handed
	// out again at once. The address of a lease that has ended does not cool down. Otherwise 1 µs to [MaxTTL],
	// truncated to the microsecond.
	Cooldown time.Duration

	// History is how long the pool remembers who held an address, from the end of each tenure on; see [Pool.History]. 0
	// means that it does not. Otherwise 1 µs to [MaxTTL], truncated to the microsecond. It needs a store.
	History time.Duration

	// HistoryMost is how many tenures that have ended the pool remembers at most: with more, the oldest are forgotten
	// before their time. 0 means any number. It needs History, and some stores need it; see [store.Limiter]. A commit
	// may exceed it by as many as it adds.
	HistoryMost int

	// Network is the name of the routing domain that the pool is in. The ranges of two pools of one network must not
	// overlap, and neither hands out what is external there; see [SetExternal]. Pools of different networks are
	// independent, and so are pools without a network. A network needs a store. The name is at most
	// [store.MaxNameBytes] bytes of UTF-8 without NUL.
	Network string

	// Scope says whom the pool is for: claims with another [Claim.Scope] are refused. Empty admits every claim. The
	// limits are those of Network.
	Scope string

	// Quotas bound how many addresses the owners of one scope, or with one value of a label, hold together. A claim that
	// would exceed one is refused with [ErrQuota], at its commit, so however many processes claim, the bound is exact.
	// What is held stays held if a quota is lowered below it. No two quotas are about the same label, value and family.
	// At most [MaxQuotas].
	//
	// Cost: a claim costs a few look-ups in memory more. Counts stand in the head: each commit writes about 60 bytes for
	// each scope or value that counts and holds something. Which are counted is not changed without reading all
	// allocations.
	Quotas []Quota

	// Labels describe the pool, such as its zone or its site; [Select] finds pools by them. The limits are those of
	// [Claim.Labels].
	Labels map[string]string

	// Cordoned closes the pool for new claims, which are refused with [ErrCordoned], before maintenance or before the
	// pool is given up. What is held stays held, and can be claimed again, renewed and released. A lease that has ended
	// is no longer held, nor is what cools down.
	Cordoned bool
}

// FamilySpec says how a pool hands out one family. The zero FamilySpec means the defaults. It is a value; it may be
// copied and compared.
type FamilySpec struct {
	// Bits is the prefix length of requests that name none. The default, 0, means single addresses: 32 or 128. A pool
	// of node CIDRs has 24 for IPv4 and 64 for IPv6, for example. It must lie within MinBits and MaxBits.
	Bits int

	// MinBits and MaxBits are the least and greatest prefix length that a request may ask for: MinBits is that of the
	// largest prefix, MaxBits that of the smallest. A claim that asks for another length is refused with [ErrInvalid],
	// unless its owner already holds exactly that. What is held stays held when the bounds change. The default, 0,
	// means 1 for MinBits and 32 or 128 for MaxBits.
	MinBits, MaxBits int

	// AllocateReserved allows the pool to hand out the addresses that a subnet reserves. For IPv4 these are its first
	// and last address (network and broadcast address), for IPv6 its first (the subnet-router anycast address, RFC
	// 4291, section 2.6.1). Subnets of length 31 and 32 (RFC 3021), and 127 and 128 (RFC 6164), reserve nothing. Set it
	// for networks without hosts, and for pools whose claims ask for prefixes, unless Bits already says so.
	//
	// If a family has no Subnets, each of its ranges that is exactly a prefix, and not part of another range, counts as
	// a subnet. So 10.0.0.0/24 is one, but so is 10.0.0.4-10.0.0.7; for such a range, name the subnet that it is part
	// of. A family whose Bits is shorter than an address reserves nothing, because each of its prefixes has such
	// addresses of its own.
	AllocateReserved bool
}

// Subnet is a network and its gateway. The zero Subnet is not valid. It is a value; it may be copied and compared.
type Subnet struct {
	// Prefix is the network, without host bits.
	Prefix netip.Prefix
	// Gateway is an address within Prefix that is never handed out. The zero Addr means no gateway.
	Gateway netip.Addr
}

// ParseSpec returns a spec with the ranges in texts, in the forms of package cidr: "192.0.2.0/24",
// "192.0.2.10-192.0.2.99/24", "192.0.2.10-192.0.2.99", "192.0.2.7". A CIDR, or a length after a range, names the
// subnet, whose first and last address are then not handed out. The caller sets the other fields, such as gateways.
//
// The texts may overlap and repeat. Of nested subnets only the largest is named: with "10.0.0.0/8" and "10.1.0.0/16"
// that is 10.0.0.0/8, and 10.1.0.0 is handed out.
//
// The error is a [*cidr.ParseError]. The rules for a whole spec are checked when it is used; see [Spec.Validate]. Cost:
// O(n log n) for n texts.
func ParseSpec(texts ...string) (Spec, error) { return ParseSpecWith(cidr.Parser{}, texts...) }

// ParseSpecWith is [ParseSpec] with a parser that accepts more than the strict one, such as host bits.
func ParseSpecWith(parser cidr.Parser, texts ...string) (Spec, error) {
	var spec Spec
	var subnets []netip.Prefix
	for _, text := range texts {
		r, subnet, err := parser.SubnetRange(text)
		if err != nil {
			return Spec{}, err
		}
		spec.Ranges = append(spec.Ranges, r)
		if subnet.IsValid() {
			subnets = append(subnets, subnet)
		}
	}
	for _, subnet := range outermost(subnets) {
		spec.Subnets = append(spec.Subnets, Subnet{Prefix: subnet})
	}
	return spec, nil
}

// outermost returns the prefixes that lie in no other one, each once, in the order in which they came.
func outermost(prefixes []netip.Prefix) []netip.Prefix {
	outer := map[netip.Prefix]bool{}
	var last netip.Prefix
	for _, p := range slices.SortedFunc(slices.Values(prefixes), comparePrefixes) {
		if !last.IsValid() || !last.Overlaps(p) {
			last, outer[p] = p, true
		}
	}
	var kept []netip.Prefix
	for _, p := range prefixes {
		if outer[p] {
			kept, outer[p] = append(kept, p), false
		}
	}
	return kept
}

// clone returns a copy that shares nothing with s. Empty slices are nil in it, and times are cut to what is stored.
func (s Spec) clone() Spec {
	s.Ranges, s.Families = copied(s.Ranges), copied(s.Families)
	s.Exclude, s.Subnets, s.Bands = copied(s.Exclude), copied(s.Subnets), copied(s.Bands)
	for i, band := range s.Bands {
		s.Bands[i].Ranges = copied(band.Ranges)
	}
	s.Cooldown, s.History = s.Cooldown.Truncate(time.Microsecond), s.History.Truncate(time.Microsecond)
	s.Labels, s.Quotas = copiedLabels(s.Labels), copied(s.Quotas)
	s.Strategy = s.Strategy.canonical()
	return s
}

// copiedLabels returns a copy of labels, and nil for none.
func copiedLabels(from map[string]string) map[string]string {
	if len(from) == 0 {
		return nil
	}
	return maps.Clone(from)
}

// copied returns a copy of a slice, and nil for an empty one.
func copied[E any](from []E) []E { return append([]E(nil), from...) }

// Equal reports whether both specs describe the same pool: the same addresses to hand out and to withhold, in the same
// subnets, with the same defaults, the same bounds and the same primary family. The notation of ranges, and their order
// within a family, do not matter. Cost: O(n log n) for n ranges.
func (s Spec) Equal(other Spec) bool {
	if !slices.Equal(s.AllFamilies(), other.AllFamilies()) || s.Strategy.canonical() != other.Strategy.canonical() ||
		s.Cooldown.Truncate(time.Microsecond) != other.Cooldown.Truncate(time.Microsecond) ||
		s.History.Truncate(time.Microsecond) != other.History.Truncate(time.Microsecond) ||
		s.HistoryMost != other.HistoryMost ||
		s.Network != other.Network || s.Scope != other.Scope || s.Cordoned != other.Cordoned ||
		!maps.Equal(s.Labels, other.Labels) || !sameElements(s.Quotas, other.Quotas) ||
		!slices.EqualFunc(s.Bands, other.Bands, Band.equal) {
		return false
	}
	for _, family := range s.AllFamilies() {
		mine, others := s.setsOf(family), other.setsOf(family)
		if s.of(family).withDefaults(family) != other.of(family).withDefaults(family) ||
			!slices.Equal(mine.ranges, others.ranges) || !slices.Equal(mine.allowed, others.allowed) ||
			!slices.Equal(mine.exclude, others.exclude) {
			return false
		}
	}
	return sameElements(s.Subnets, other.Subnets)
}

// sameElements reports whether both have the same elements, in whatever order.
func sameElements[E comparable](some, others []E) bool {
	known := make(map[E]bool, len(others))
	for _, e := range others {
		known[e] = true
	}
	return len(some) == len(others) && !slices.ContainsFunc(some, func(e E) bool { return !known[e] })
}

// ranges are Ranges, or if there are none all of Subnets.
func (s Spec) ranges() []netipx.IPRange {
	if len(s.Ranges) > 0 {
		return s.Ranges
	}
	ranges := make([]netipx.IPRange, len(s.Subnets))
	for i, subnet := range s.Subnets {
		ranges[i] = netipx.RangeOfPrefix(subnet.Prefix)
	}
	return ranges
}

// AllFamilies returns the families of the pool, the primary one first: Families or, if that is empty, those of the
// ranges. A valid spec has one or two. Cost: O(ranges).
func (s Spec) AllFamilies() []Family {
	if len(s.Families) > 0 {
		return slices.Clone(s.Families)
	}
	var found []Family
	for _, r := range s.ranges() {
		family := FamilyOf(r.From())
		if len(found) == 0 || found[0] != family {
			found = append(found, family)
		}
		if len(found) == len(families) {
			break
		}
	}
	return found
}

// Bits returns the prefix length of requests of the family that name none.
func (s Spec) Bits(family Family) int { return s.of(family).withDefaults(family).Bits }

// of returns how the pool hands out the family.
func (s Spec) of(family Family) FamilySpec {
	if family == IPv4 {
		return s.IPv4
	}
	return s.IPv6
}

// withDefaults returns f with the lengths that its zero fields stand for.
func (f FamilySpec) withDefaults(family Family) FamilySpec {
	if f.Bits == 0 {
		f.Bits = family.Width()
	}
	if f.MinBits == 0 {
		f.MinBits = 1
	}
	if f.MaxBits == 0 {
		f.MaxBits = family.Width()
	}
	return f
}

// SubnetOf returns the subnet of the spec that contains addr: what a host needs to know beside its address. If that
// subnet is listed several times, SubnetOf returns the first. It returns false if there is none. Cost: O(subnets).
func (s Spec) SubnetOf(addr netip.Addr) (Subnet, bool) {
	for _, subnet := range s.Subnets {
		if subnet.Prefix.Contains(addr) {
			return subnet, true
		}
	}
	return Subnet{}, false
}

// Set returns the addresses of the family that the pool hands out: its ranges, less exclusions, gateways and reserved
// addresses. Cost: O(n log n) for n ranges.
func (s Spec) Set(family Family) *netipx.IPSet { return s.setsOf(family).allowed.ipSet() }
