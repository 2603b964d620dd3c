package mysql

import (
	"cmp"
	"encoding/hex"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// address is a row of table address, as procedure apply takes it.
type address struct {
	Kind   string `json:"k"`
	Pool   string `json:"p"`
	Name   string `json:"n"`
	First  string `json:"f"`
	Last   string `json:"l"`
	Prefix string `json:"a"`
}

// addressesOf are the rows of a record.
func addressesOf(r *store.Record) (rows []address) {
	if r.Kind != store.KindAllocation && r.Kind != store.KindCooling {
		return nil
	}
	for _, p := range outermost(r.Prefixes) {
		rows = append(rows, address{
			Kind: string(r.Kind), Pool: r.Pool, Name: r.Name, First: hexOf(p.Addr()), Last: hexOf(lastOf(p)),
			Prefix: p.String(),
		})
	}
	return rows
}

// outermost returns those of the prefixes that are not in another one of them, each once, in order.
func outermost(prefixes []netip.Prefix) (outer []netip.Prefix) {
	for _, p := range slices.SortedFunc(slices.Values(prefixes), byFirst) {
		if n := len(outer); n == 0 || !outer[n-1].Overlaps(p) {
			outer = append(outer, p)
		}
	}
	return outer
}

// byFirst orders prefixes by their first addresses, and of those that begin alike the largest first.
func byFirst(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
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

// hexOf is what HEX(INET6_ATON(addr)) is in SQL.
func hexOf(addr netip.Addr) string { return hex.EncodeToString(addr.AsSlice()) }
