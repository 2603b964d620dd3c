package allocator

import (
	"fmt"
	"net/netip"
)

// FirstFree returns the lowest free prefix of the length bits that starts at addr or above. It does not take it, and
// does not go round to the start of the set. It is for callers that search several ranges by leaping from one free
// prefix to the next.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have or an address of the other family.
func (a *Allocator) FirstFree(addr netip.Addr, bits int) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err == nil {
		err = a.checkFamily(addr)
	}
	if err != nil {
		return netip.Prefix{}, err
	}
	x, ok := a.firstIn(span{keyOf(addr), a.highest()}, order)
	if !ok {
		return netip.Prefix{}, errNoneAbove
	}
	return netip.PrefixFrom(x.addr(a.is4), bits), nil
}

// errNoneAbove has no address in it, so that a search that finds nothing allocates nothing.
var errNoneAbove = fmt.Errorf("%w: no free prefix of the length is left at the address or above", ErrExhausted)
