package peer

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/bits-and-blooms/bitset"

	"github.com/ipalloc/ipalloc/cidr"
)

// flatBitset is what people write before they look for an allocator: a bit for each prefix that can be handed out.
func flatBitset() Peer {
	return Peer{
		Name: "flat bitset", Module: "github.com/bits-and-blooms/bitset",
		Package: "BitSet.NextClear from the start of the space", Order: Lowest,
		Note: "as people write it; a bit for each prefix of one length, and the search passes what is taken at the start; " +
			"keeps network and broadcast address; no owners; does not notice a release of what is free",
		NewSpace: newFlatBitset,
	}
}

// flatSpace knows IPv4, and one half of IPv6 addresses, so that a number fits into 64 bits.
type flatSpace struct {
	taken *bitset.BitSet
	base  netip.Addr
	bits  int
	end   int // the bit of the address after which the number ends: 32, 64 or 128
}

func newFlatBitset(s Shape) (Space, error) {
	const most = 26 // 8 MiB
	f := &flatSpace{base: s.Prefix.Addr(), bits: s.Bits, end: s.Prefix.Addr().BitLen()}
	if f.base.Is6() && s.Bits <= 64 {
		f.end = 64
	}
	switch order := s.Bits - s.Prefix.Bits(); {
	case s.Bits == 0:
		return nil, cannot("only prefixes of one length")
	case order > most:
		return nil, cannot("it would need 2^%d bits", order)
	case f.end == 128 && s.Prefix.Bits() < 64:
		return nil, cannot("only within one half of an IPv6 address")
	default:
		f.taken = bitset.New(1 << order)
	}
	if s.Single() { // network and broadcast addresses are kept back, as most peers do
		for _, addr := range cidr.Reserved(s.Prefix) {
			f.taken.Set(f.index(addr))
		}
	}
	return f, nil
}

func (f *flatSpace) Take(int) (netip.Prefix, error) {
	i, ok := f.taken.NextClear(0)
	if !ok {
		return netip.Prefix{}, errExhausted
	}
	f.taken.Set(i)
	return netip.PrefixFrom(f.addr(i), f.bits), nil
}

func (f *flatSpace) Release(p netip.Prefix) error {
	f.taken.Clear(f.index(p.Addr()))
	return nil
}

func (f *flatSpace) Fill(_ context.Context, held []netip.Prefix) error {
	for _, p := range held {
		f.taken.Set(f.index(p.Addr()))
	}
	return nil
}

func (f *flatSpace) Snapshot() (int, error) {
	b, err := f.taken.MarshalBinary()
	if err != nil {
		return 0, err
	}
	return len(b), new(bitset.BitSet).UnmarshalBinary(b)
}

func (f *flatSpace) index(addr netip.Addr) uint {
	return uint((f.number(addr) - f.number(f.base)) >> (f.end - f.bits))
}

func (f *flatSpace) addr(i uint) netip.Addr {
	number := f.number(f.base) + uint64(i)<<(f.end-f.bits)
	if f.end == 32 {
		return fromUint32(uint32(number))
	}
	b := f.base.As16()
	binary.BigEndian.PutUint64(b[f.end/8-8:], number)
	return netip.AddrFrom16(b)
}

// number is the 32 bits of an IPv4 address, or the 64 bits of an IPv6 address that end with bit f.end.
func (f *flatSpace) number(addr netip.Addr) uint64 {
	if f.end == 32 {
		return uint64(toUint32(addr))
	}
	b := addr.As16()
	return binary.BigEndian.Uint64(b[f.end/8-8:])
}
