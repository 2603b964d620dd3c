package pool

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// Validate returns nil, or an error that wraps [ErrInvalid], quotes what is wrong and names the rule. Cost: O(n log n)
// for n ranges, exclusions, subnets and bands.
func (s Spec) Validate() error {
	_, err := s.validated()
	return err
}

// validated returns what follows from the spec, by Family.index, or an error that says which rule the spec breaks.
func (s Spec) validated() (sets [2]familySets, err error) {
	checks := []func() error{
		s.validateSize, s.validateFamilies, s.validateRanges, s.validateSubnets, s.validateLengths, s.validateRest,
	}
	for _, check := range checks {
		if err := check(); err != nil {
			return sets, err
		}
	}
	for _, family := range s.AllFamilies() {
		sets[family.index()] = s.setsOf(family)
	}
	if err := s.validateBands(&sets); err != nil {
		return sets, err
	}
	for _, family := range s.AllFamilies() {
		if err := s.validateRoom(family, &sets[family.index()]); err != nil {
			return sets, err
		}
	}
	return sets, nil
}

func (s Spec) validateSize() error {
	size := len(s.Ranges) + len(s.Exclude) + len(s.Subnets) + len(s.Bands)
	for _, band := range s.Bands {
		size += len(band.Ranges)
	}
	if size > MaxRanges {
		return invalid("the pool has %d ranges, exclusions, subnets and bands, the most is %d", size, MaxRanges)
	}
	return nil
}

func (s Spec) validateFamilies() error {
	for i, family := range s.Families {
		switch {
		case family != IPv4 && family != IPv6:
			return invalid("the pool's family %v is none, want IPv4 or IPv6", family)
		case slices.Contains(s.Families[:i], family):
			return invalid("the pool's families name %v twice", family)
		}
	}
	if len(s.Families) == 0 && len(s.Ranges) == 0 && len(s.Subnets) == 0 {
		return invalid("the pool has no ranges and no subnets, want at least one, or its families")
	}
	return nil
}

func (s Spec) validateRanges() error {
	has := s.familyTest()
	for _, list := range []struct {
		what   string
		ranges []netipx.IPRange
	}{{"range", s.Ranges}, {"exclusion", s.Exclude}} {
		for _, r := range list.ranges {
			if err := validateRange(list.what, r); err != nil {
				return err
			}
			if family := FamilyOf(r.From()); !has(family) {
				return invalid("the %s %s is %v, but the pool does not have that family",
					list.what, cidr.FormatRange(r), family)
			}
		}
	}
	return nil
}

// familyTest returns a function that reports whether the pool has a family, at O(1) a call.
func (s Spec) familyTest() func(Family) bool {
	all := s.AllFamilies()
	return func(family Family) bool { return slices.Contains(all, family) }
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
	has := s.familyTest()
	prefixes := make([]netip.Prefix, len(s.Subnets))
	for i, subnet := range s.Subnets {
		if err := subnet.validate(has); err != nil {
			return err
		}
		prefixes[i] = subnet.Prefix
	}
	slices.SortFunc(prefixes, comparePrefixes)
	prefixes = slices.Compact(prefixes)
	for i := 1; i < len(prefixes); i++ {
		if prefixes[i-1].Overlaps(prefixes[i]) {
			return invalid("the subnets %v and %v overlap", prefixes[i-1], prefixes[i])
		}
	}
	return s.validateInSubnets(prefixes)
}

func (s Subnet) validate(has func(Family) bool) error {
	p, gateway := s.Prefix, s.Gateway
	switch {
	case !p.IsValid() || p.Addr().Is4In6():
		return invalid("the subnet %v is not a valid IPv4 or IPv6 prefix", p)
	case p != p.Masked():
		return invalid("the subnet %v has host bits set, want %v", p, p.Masked())
	case !has(FamilyOf(p.Addr())):
		return invalid("the subnet %v is %v, but the pool does not have that family", p, FamilyOf(p.Addr()))
	case gateway.IsValid() && FamilyOf(gateway) != FamilyOf(p.Addr()):
		return invalid("the gateway %v is %v, but its subnet %v is not", gateway, FamilyOf(gateway), p)
	case gateway.IsValid() && !p.Contains(gateway):
		return invalid("the gateway %v is outside of its subnet %v", gateway, p)
	}
	return nil
}

// validateInSubnets refuses a range that lies in none of the subnets, which are in order and do not overlap, if these
// name any of its family.
func (s Spec) validateInSubnets(subnets []netip.Prefix) error {
	var named [2]bool
	for _, p := range subnets {
		named[FamilyOf(p.Addr()).index()] = true
	}
	for _, r := range s.Ranges {
		if !named[FamilyOf(r.From()).index()] {
			continue
		}
		i, found := slices.BinarySearchFunc(subnets, r.From(), func(p netip.Prefix, addr netip.Addr) int {
			return p.Addr().Compare(addr)
		})
		if !found {
			i--
		}
		if i < 0 || !subnets[i].Contains(r.From()) || !subnets[i].Contains(r.To()) {
			return invalid("the range %s does not lie in one of the pool's subnets", cidr.FormatRange(r))
		}
	}
	return nil
}

func (s Spec) validateLengths() error {
	has := s.familyTest()
	for _, family := range families {
		if err := s.of(family).validate(family, has(family)); err != nil {
			return err
		}
	}
	return nil
}

func (f FamilySpec) validate(family Family, has bool) error {
	width := family.Width()
	for _, length := range []struct {
		what string
		bits int
	}{{"", f.Bits}, {"least ", f.MinBits}, {"greatest ", f.MaxBits}} {
		switch {
		case length.bits < 0 || length.bits > width:
			return invalid("the %s%v prefix length %d is out of range, want 1 to %d", length.what, family, length.bits, width)
		case length.bits != 0 && !has:
			return invalid("there is an %v prefix length, %d, but the pool does not have that family", family, length.bits)
		}
	}
	f = f.withDefaults(family)
	switch {
	case f.MinBits > f.MaxBits:
		return invalid("the least %v prefix length %d is above the greatest, %d", family, f.MinBits, f.MaxBits)
	case f.Bits < f.MinBits || f.Bits > f.MaxBits:
		return invalid("the default %v prefix length %d is out of the pool's bounds, want %d to %d",
			family, f.Bits, f.MinBits, f.MaxBits)
	}
	return nil
}

func (s Spec) validateRest() error {
	if err := s.Strategy.validate(); err != nil {
		return err
	}
	if s.Cooldown != 0 && s.Cooldown < time.Microsecond || s.Cooldown > MaxTTL {
		return invalid("the cooldown %v is out of range, want 0 or %v to %v", s.Cooldown, time.Microsecond, MaxTTL)
	}
	if s.History != 0 && s.History < time.Microsecond || s.History > MaxTTL {
		return invalid("the history %v is out of range, want 0 or %v to %v", s.History, time.Microsecond, MaxTTL)
	}
	if s.HistoryMost < 0 || s.HistoryMost > 0 && s.History == 0 {
		return invalid("the pool remembers at most %d tenures, for %v; want 0 or more, and 0 without a history",
			s.HistoryMost, s.History)
	}
	for _, name := range []struct{ what, text string }{{"network", s.Network}, {"scope", s.Scope}} {
		if name.text == "" {
			continue
		}
		if err := validateName(name.what, name.text); err != nil {
			return err
		}
	}
	if err := s.validateQuotas(); err != nil {
		return err
	}
	return validateLabels(s.Labels)
}

// validateRoom makes sure that the empty pool has something to hand out of a family, unless that has no ranges yet.
func (s Spec) validateRoom(family Family, sets *familySets) error {
	switch {
	case len(sets.ranges) == 0:
		return nil
	case len(sets.allowed) == 0:
		return invalid("all %v addresses of the pool are excluded, gateways or reserved", family)
	case !sets.allowed.hasRoom(s.Bits(family)):
		return invalid("no %v prefix of length %d fits into what the pool may hand out", family, s.Bits(family))
	}
	return nil
}
