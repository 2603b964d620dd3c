package pool

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Spec says which addresses a pool hands out, and how. It is validated as a whole when a pool is created or changed.
//
// The zero Spec is not valid: it has no ranges. A Spec may be copied; the copy shares its slices. A pool keeps a copy
// of its own.
type Spec struct {
	// Ranges are the addresses of the pool, of one family or of both; see [ParseSpec] for text. The family of the first
	// is the primary family. The ranges of one family make one set, which is handed out from its lowest address on. They
	// may overlap. No ranges at all means all of Subnets.
	Ranges []netipx.IPRange

	// Exclude are addresses never to hand out. They need not lie in the ranges, but must be of a family
	// that these have.
	Exclude []netipx.IPRange

	// Subnets are the networks that the ranges lie in. A family either has none here, or each of its
	// ranges lies in one of them. They must not overlap, but one may stand here more than once, with other gateways.
	Subnets []Subnet

	// IPv4Bits and IPv6Bits are the prefix lengths of requests that name none. The default, 0, means single addresses:
	// 32 and 128. A pool of node CIDRs has 24 and 64 here, for example.
	IPv4Bits, IPv6Bits int

	// AllocateReserved allows the pool to hand out the addresses that a subnet reserves. These are for IPv4 its first
	// and last address (network and broadcast address), and for IPv6 its first (the subnet-router anycast address, RFC
	// 4291, section 2.6.1). Subnets of length 31 and 32 (RFC 3021), and 127 and 128 (RFC 6164) reserve nothing. Set it
	// for networks without hosts, and for pools whose claims ask for prefixes, unless IPv4Bits or IPv6Bits say that
	// already.
	//
	// A family without named Subnets has as subnets those of its ranges that are exactly a prefix and not part of
	// another range. So 10.0.0.0/24 is one, but also 10.0.0.4-10.0.0.7, for which you name the subnet that it is a part
	// of. A family whose default length is shorter than an address reserves nothing, since each of its prefixes has such
	// addresses in itself.
	AllocateReserved bool

	// Strategy says which free prefix a request gets that leaves the choice. Default: [LowestFree].
	Strategy Strategy

	// Bands are parts of the ranges that claims use last, or not at all, unless they ask for them. They must not
	// overlap.
	Bands []Band

	// Cooldown is how long a released address is withheld from all but its last owner. 0 means that it can be handed out
	// again at once, as can the address of a lease that has ended. Cut to the microsecond; at most [MaxTTL].
	Cooldown time.Duration

	// Network is the name of the routing domain that the pool is in. The ranges of two pools of one network must not
	// overlap, and neither hands out what is foreign there; see [SetForeign]. Pools of different networks know nothing
	// of each other; the same is true of pools without a network. A network needs a store. Any UTF-8 without NUL, at
	// most [store.MaxNameBytes] bytes.
	Network string

	// Scope is for whom the pool is: claims with another [Claim.Scope] are refused. Empty admits every claim. Bounds as
	// for Network.
	Scope string
}

// Subnet is a network and its gateway. The zero Subnet is not valid. It is a value; it may be copied and compared.
type Subnet struct {
	// Prefix is the network, without host bits.
	Prefix netip.Prefix
	// Gateway is an address within Prefix that is never handed out. The zero Addr means that there is none.
	Gateway netip.Addr
}

// ParseSpec returns a spec with the ranges that the texts say, in the forms of package cidr: "192.0.2.0/24",
// "192.0.2.10-192.0.2.99/24", "192.0.2.10-192.0.2.99", "192.0.2.7". A CIDR, and the length behind a range, names the
// subnet, whose first and last address are then not handed out. The caller adds what else the spec is to say, such as
// gateways.
//
// The error is a [*cidr.ParseError]. The rules for a whole spec are checked when it is used; see [Spec.Validate].
func ParseSpec(texts ...string) (Spec, error) {
	var spec Spec
	for _, text := range texts {
		r, subnet, err := cidr.Parser{}.SubnetRange(text)
		if err != nil {
			return Spec{}, err
		}
		spec.Ranges = append(spec.Ranges, r)
		if named := (Subnet{Prefix: subnet}); subnet.IsValid() && !slices.Contains(spec.Subnets, named) {
			spec.Subnets = append(spec.Subnets, named)
		}
	}
	return spec, nil
}

func (s Spec) clone() Spec {
	s.Ranges, s.Exclude, s.Subnets = slices.Clone(s.Ranges), slices.Clone(s.Exclude), slices.Clone(s.Subnets)
	s.Bands = slices.Clone(s.Bands)
	for i, band := range s.Bands {
		s.Bands[i].Ranges = slices.Clone(band.Ranges)
	}
	return s
}

// Equal reports whether both specs make the same pool: the same addresses to hand out and to withhold, in the same
// subnets, with the same defaults and the same primary family. How ranges are written, and their order within a
// family, do not matter.
func (s Spec) Equal(other Spec) bool {
	if !slices.Equal(s.Families(), other.Families()) || s.AllocateReserved != other.AllocateReserved ||
		s.Strategy != other.Strategy ||
		s.Cooldown.Truncate(time.Microsecond) != other.Cooldown.Truncate(time.Microsecond) ||
		s.Network != other.Network || s.Scope != other.Scope || !slices.EqualFunc(s.Bands, other.Bands, Band.equal) {
		return false
	}
	for _, family := range s.Families() {
		if s.Bits(family) != other.Bits(family) || !s.rangeSet(family).Equal(other.rangeSet(family)) ||
			!s.Set(family).Equal(other.Set(family)) ||
			!cidr.SetOf(ofFamily(s.Exclude, family)...).Equal(cidr.SetOf(ofFamily(other.Exclude, family)...)) {
			return false
		}
	}
	if len(s.Subnets) != len(other.Subnets) {
		return false
	}
	for _, subnet := range s.Subnets {
		if !slices.Contains(other.Subnets, subnet) {
			return false
		}
	}
	return true
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

// Families returns the families of the pool, the primary one first: none, one or two.
func (s Spec) Families() []Family {
	var families []Family
	for _, r := range s.ranges() {
		family := FamilyOf(r.From())
		if len(families) == 0 || len(families) == 1 && families[0] != family {
			families = append(families, family)
		}
	}
	return families
}

// Has reports whether the pool has addresses of the family.
func (s Spec) Has(family Family) bool {
	for _, r := range s.ranges() {
		if FamilyOf(r.From()) == family {
			return true
		}
	}
	return false
}

// Bits returns the prefix length of a request of the family that names none.
func (s Spec) Bits(family Family) int {
	bits := s.IPv6Bits
	if family == IPv4 {
		bits = s.IPv4Bits
	}
	if bits == 0 {
		return family.Width()
	}
	return bits
}

// SubnetOf returns the subnet of the spec that contains addr: what a host needs to know beside its address. It is
// false if there is none.
func (s Spec) SubnetOf(addr netip.Addr) (Subnet, bool) {
	for _, subnet := range s.Subnets {
		if subnet.Prefix.Contains(addr) {
			return subnet, true
		}
	}
	return Subnet{}, false
}

// Set returns what the pool hands out of the family: its ranges, less exclusions, gateways and reserved addresses.
func (s Spec) Set(family Family) *netipx.IPSet {
	return cidr.Difference(s.rangeSet(family), s.withheld(family))
}

func (s Spec) rangeSet(family Family) *netipx.IPSet {
	return cidr.SetOf(ofFamily(s.ranges(), family)...)
}

// withheld are the addresses of the family never to hand out.
func (s Spec) withheld(family Family) *netipx.IPSet {
	ranges := ofFamily(s.Exclude, family)
	if family == IPv6 {
		ranges = append(ranges, mapped)
	}
	for _, addr := range append(s.gateways(family), s.reserved(family)...) {
		ranges = append(ranges, netipx.IPRangeFrom(addr, addr))
	}
	return cidr.SetOf(ranges...)
}

func (s Spec) gateways(family Family) []netip.Addr {
	var gateways []netip.Addr
	for _, subnet := range s.Subnets {
		if subnet.Gateway.IsValid() && FamilyOf(subnet.Gateway) == family {
			gateways = append(gateways, subnet.Gateway)
		}
	}
	return gateways
}

func (s Spec) reserved(family Family) []netip.Addr {
	if s.AllocateReserved || s.Bits(family) != family.Width() {
		return nil
	}
	var reserved []netip.Addr
	for _, subnet := range s.subnetPrefixes(family) {
		reserved = append(reserved, cidr.Reserved(subnet)...)
	}
	return reserved
}

// subnetPrefixes are the named subnets of the family or, if there are none, the ranges that are exactly a prefix.
func (s Spec) subnetPrefixes(family Family) []netip.Prefix {
	var named, implied []netip.Prefix
	for _, subnet := range s.Subnets {
		if FamilyOf(subnet.Prefix.Addr()) == family {
			named = append(named, subnet.Prefix)
		}
	}
	if named != nil {
		return named
	}
	ranges := ofFamily(s.ranges(), family)
	for _, r := range ranges {
		if p, ok := r.Prefix(); ok && !isPart(r, ranges) {
			implied = append(implied, p)
		}
	}
	return implied
}

// isPart tells whether r lies in another of the ranges.
func isPart(r netipx.IPRange, ranges []netipx.IPRange) bool {
	return slices.ContainsFunc(ranges, func(other netipx.IPRange) bool {
		return other != r && other.Contains(r.From()) && other.Contains(r.To())
	})
}

func ofFamily(ranges []netipx.IPRange, family Family) []netipx.IPRange {
	var out []netipx.IPRange
	for _, r := range ranges {
		if FamilyOf(r.From()) == family {
			out = append(out, r)
		}
	}
	return out
}

// Validate returns nil, or an error that wraps [ErrInvalid], quotes what is wrong and names the rule.
func (s Spec) Validate() error {
	if len(s.Ranges) == 0 && len(s.Subnets) == 0 {
		return invalid("the pool has no ranges and no subnets, want at least one")
	}
	for _, check := range []func() error{
		s.validateRanges, s.validateSubnets, s.validateBits, s.validateBands, s.validateRest,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	for _, family := range s.Families() {
		if err := s.validateRoom(family); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) validateRanges() error {
	for _, r := range s.Ranges {
		if err := validateRange("range", r); err != nil {
			return err
		}
	}
	for _, r := range s.Exclude {
		if err := validateRange("exclusion", r); err != nil {
			return err
		}
		if family := FamilyOf(r.From()); !s.Has(family) {
			return invalid("the exclusion %s is %v, but the pool has no range of that family", cidr.FormatRange(r), family)
		}
	}
	return nil
}

// mapped are the IPv4-mapped IPv6 addresses, which are another way to write IPv4 ones. No pool hands them out.
var mapped = netipx.RangeOfPrefix(netip.MustParsePrefix("::ffff:0:0/96"))

func validateRange(what string, r netipx.IPRange) error {
	switch {
	case !r.IsValid():
		return invalid("the %s %v-%v is not valid, want two addresses of one family without zone, the lower first",
			what, r.From(), r.To())
	case mapped.Contains(r.From()) || mapped.Contains(r.To()):
		return invalid("the %s %v-%v has a bound that is an IPv4-mapped IPv6 address, in %v; want IPv4 ones",
			what, r.From(), r.To(), mapped.Prefixes()[0])
	}
	return nil
}

func (s Spec) validateSubnets() error {
	for i, subnet := range s.Subnets {
		if err := s.validateSubnet(subnet); err != nil {
			return err
		}
		for _, other := range s.Subnets[:i] {
			if other.Prefix != subnet.Prefix && other.Prefix.Overlaps(subnet.Prefix) {
				return invalid("the subnets %v and %v overlap", other.Prefix, subnet.Prefix)
			}
		}
	}
	for _, r := range s.Ranges {
		if err := s.validateInSubnet(r); err != nil {
			return err
		}
	}
	return nil
}

func (s Spec) validateSubnet(subnet Subnet) error {
	p, gateway := subnet.Prefix, subnet.Gateway
	switch {
	case !p.IsValid() || p.Addr().Is4In6():
		return invalid("the subnet %v is not a valid IPv4 or IPv6 prefix", p)
	case p != p.Masked():
		return invalid("the subnet %v has host bits set, want %v", p, p.Masked())
	case !s.Has(FamilyOf(p.Addr())):
		return invalid("the subnet %v is %v, but the pool has no range of that family", p, FamilyOf(p.Addr()))
	case gateway.IsValid() && FamilyOf(gateway) != FamilyOf(p.Addr()):
		return invalid("the gateway %v is %v, but its subnet %v is not", gateway, FamilyOf(gateway), p)
	case gateway.IsValid() && !p.Contains(gateway):
		return invalid("the gateway %v is outside of its subnet %v", gateway, p)
	}
	return nil
}

func (s Spec) validateInSubnet(r netipx.IPRange) error {
	named := false
	for _, subnet := range s.Subnets {
		if FamilyOf(subnet.Prefix.Addr()) != FamilyOf(r.From()) {
			continue
		}
		named = true
		if subnet.Prefix.Contains(r.From()) && subnet.Prefix.Contains(r.To()) {
			return nil
		}
	}
	if named {
		return invalid("the range %s does not lie in one of the pool's subnets", cidr.FormatRange(r))
	}
	return nil
}

func (s Spec) validateBits() error {
	for _, length := range []struct {
		family Family
		bits   int
	}{{IPv4, s.IPv4Bits}, {IPv6, s.IPv6Bits}} {
		if length.bits < 0 || length.bits > length.family.Width() {
			return invalid("the %v prefix length %d is out of range, want 1 to %d",
				length.family, length.bits, length.family.Width())
		}
		if length.bits != 0 && !s.Has(length.family) {
			return invalid("there is an %v prefix length, %d, but the pool has no range of that family",
				length.family, length.bits)
		}
	}
	return nil
}

func (s Spec) validateRest() error {
	switch {
	case s.Strategy > RandomFree:
		return invalid("%v is not a strategy", s.Strategy)
	case s.Cooldown < 0 || s.Cooldown > MaxTTL:
		return invalid("the cooldown %v is out of range, want 0 to %v", s.Cooldown, MaxTTL)
	}
	for _, name := range []struct{ what, text string }{{"network", s.Network}, {"scope", s.Scope}} {
		if name.text == "" {
			continue
		}
		if err := validateName(name.what, name.text); err != nil {
			return err
		}
	}
	return nil
}

// validateRoom makes sure that the empty pool has something to hand out.
func (s Spec) validateRoom(family Family) error {
	free, err := allocator.New(s.Set(family))
	if err != nil {
		return invalid("all %v addresses of the pool are excluded, gateways or reserved", family)
	}
	if _, err := free.TakeFirst(s.Bits(family)); err != nil {
		return invalid("no %v prefix of length %d fits into what the pool may hand out", family, s.Bits(family))
	}
	return nil
}

// whyNot says why p is not in the set of the spec.
func (s Spec) whyNot(p netip.Prefix) string {
	family := FamilyOf(p.Addr())
	asked := cidr.SetOf(netipx.RangeOfPrefix(p))
	if !s.rangeSet(family).ContainsPrefix(p) {
		return "it is outside of the ranges"
	}
	if cidr.Overlaps(asked, cidr.SetOf(ofFamily(s.Exclude, family)...)) {
		return "it is excluded"
	}
	if cidr.Overlaps(asked, cidr.SetOf(mapped)) {
		return "it has IPv4-mapped IPv6 addresses"
	}
	for _, gateway := range s.gateways(family) {
		if p.Contains(gateway) {
			return fmt.Sprintf("%v is a gateway", gateway)
		}
	}
	for _, addr := range s.reserved(family) {
		if p.Contains(addr) {
			return fmt.Sprintf("%v is reserved as the first or last address of its subnet", addr)
		}
	}
	return "it is withheld"
}
