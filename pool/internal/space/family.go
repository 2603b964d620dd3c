package space

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
)

// Family is an address family: [V4], which is the zero Family, or [V6]. It is a value.
type Family uint8

// The two address families.
const (
	V4 Family = iota
	V6
)

// numFamilies is how many there are. A valid Family is an index below it.
const numFamilies = 2

// FamilyOf returns the family of addr. An IPv4-mapped address (4in6) is an IPv6 one, as it is for package netip.
func FamilyOf(addr netip.Addr) Family {
	if addr.Is4() {
		return V4
	}
	return V6
}

// Width returns the number of bits of the family's addresses: 32 or 128; 0 for what is not a family.
func (f Family) Width() int {
	switch f {
	case V4:
		return 32
	case V6:
		return 128
	default:
		return 0
	}
}

// String returns "IPv4" or "IPv6".
func (f Family) String() string {
	switch f {
	case V4:
		return "IPv4"
	case V6:
		return "IPv6"
	default:
		return fmt.Sprintf("Family(%d)", uint8(f))
	}
}

// MarshalText returns what String does. For what is not a family the error wraps [allocator.ErrInvalid].
func (f Family) MarshalText() ([]byte, error) {
	if f >= numFamilies {
		return nil, fmt.Errorf("%w: %v is not a family, want IPv4 or IPv6", allocator.ErrInvalid, f)
	}
	return []byte(f.String()), nil
}

// UnmarshalText reads what MarshalText writes. For any other text the error wraps [allocator.ErrInvalid], and f
// stays as it is.
func (f *Family) UnmarshalText(text []byte) error {
	for family := range Family(numFamilies) {
		if string(text) == family.String() {
			*f = family
			return nil
		}
	}
	return fmt.Errorf("%w: %q is not a family, want IPv4 or IPv6", allocator.ErrInvalid, text)
}

// whole is the prefix of all addresses of the family.
func (f Family) whole() netip.Prefix {
	if f == V4 {
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.PrefixFrom(netip.IPv6Unspecified(), 0)
}

// all is the range of all addresses of the family.
func (f Family) all() netipx.IPRange { return netipx.RangeOfPrefix(f.whole()) }
