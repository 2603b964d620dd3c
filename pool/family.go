package pool

import (
	"fmt"
	"net/netip"
)

// Family is an address family: [IPv4] or [IPv6]. The zero Family means that none is given; each place that allows it
// documents its meaning.
type Family uint8

// The two address families.
const (
	IPv4 Family = 4
	IPv6 Family = 6
)

// FamilyOf returns the family of addr. A 4in6 address is IPv6, as in package netip; no pool holds one.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return IPv4
	}
	return IPv6
}

// Width returns the number of bits of the family's addresses: 32 or 128; 0 for the zero Family.
func (f Family) Width() int {
	switch f {
	case IPv4:
		return 32
	case IPv6:
		return 128
	default:
		return 0
	}
}

// index is the place of a valid family in arrays of one value a family.
func (f Family) index() int {
	if f == IPv4 {
		return 0
	}
	return 1
}

// families are the valid ones, in the order of their indexes.
var families = [2]Family{IPv4, IPv6}

// String returns "IPv4" or "IPv6", as Kubernetes writes them.
func (f Family) String() string {
	switch f {
	case IPv4, IPv6:
		return fmt.Sprintf("IPv%d", uint8(f))
	default:
		return fmt.Sprintf("Family(%d)", uint8(f))
	}
}

// MarshalText returns "IPv4" or "IPv6". Any other family is an error that wraps [ErrInvalid].
func (f Family) MarshalText() ([]byte, error) {
	if f != IPv4 && f != IPv6 {
		return nil, invalid("%v is not a family, want IPv4 or IPv6", f)
	}
	return []byte(f.String()), nil
}

// UnmarshalText reads what MarshalText writes. Any other text is an error that wraps [ErrInvalid].
func (f *Family) UnmarshalText(text []byte) error {
	for _, family := range families {
		if string(text) == family.String() {
			*f = family
			return nil
		}
	}
	return invalid("%q is not a family, want IPv4 or IPv6", text)
}

// FamilyPolicy says how many families a claim is for. The names are those of a Kubernetes Service's ipFamilyPolicy, and
// so is the meaning for a claim without requests. A Service with SingleStack must not name two families, but the
// requests of a claim with SingleStack may. The zero FamilyPolicy is SingleStack.
type FamilyPolicy string

// The family policies.
const (
	// SingleStack asks for one address, of the pool's primary family. It has no effect on requests that name their
	// families. It is the default.
	SingleStack FamilyPolicy = "SingleStack"
	// PreferDualStack asks for one address of each family that the pool has, the primary one first. The claim is
	// granted a single family only if the pool has no other. If any family of the pool is exhausted, the claim fails.
	PreferDualStack FamilyPolicy = "PreferDualStack"
	// RequireDualStack asks for one address of each family, the primary one first. A pool with only one family refuses
	// it with [ErrFamily].
	RequireDualStack FamilyPolicy = "RequireDualStack"
)

// isOf reports whether the prefix is of the family.
func (f Family) isOf(p netip.Prefix) bool { return FamilyOf(p.Addr()) == f }
