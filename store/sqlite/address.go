package sqlite

import (
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

// sortable returns the address with all its digits, so that texts of one family sort as the addresses do.
func sortable(addr netip.Addr) string {
	if addr.Is4() {
		b := addr.As4()
		return fmt.Sprintf("%03d.%03d.%03d.%03d", b[0], b[1], b[2], b[3])
	}
	return addr.StringExpanded()
}

// familyOf returns 4 or 6.
func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return 4
	}
	return 6
}

// lastOf returns the last address of the prefix.
func lastOf(p netip.Prefix) netip.Addr {
	bytes := p.Addr().AsSlice()
	for bit := p.Bits(); bit < 8*len(bytes); bit++ {
		bytes[bit/8] |= 0x80 >> (bit % 8)
	}
	last, _ := netip.AddrFromSlice(bytes)
	return last
}

// addressArgs are the values of a row of table address.
func addressArgs(key store.Key, p netip.Prefix) []any {
	return []any{
		string(key.Kind), key.Pool, familyOf(p.Addr()), sortable(p.Addr()), p.Bits(), key.Name,
		sortable(lastOf(p)), p.String(),
	}
}

// hasAddresses reports whether table address has the prefixes of records of the kind.
func hasAddresses(kind store.Kind) bool {
	return kind == store.KindAllocation || kind == store.KindCooling
}

// commonBits returns how many of the leading bits of two addresses of one family are the same.
func commonBits(a, b netip.Addr) int {
	bits := 0
	for bits < a.BitLen() {
		p, err := a.Prefix(bits + 1)
		if err != nil || !p.Contains(b) {
			break
		}
		bits++
	}
	return bits
}
