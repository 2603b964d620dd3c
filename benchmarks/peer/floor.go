package peer

import (
	"context"
	"encoding/binary"
	"net/netip"

	"github.com/ipalloc/ipalloc/internal/bench"
)

// Floor is the name of the bare bitmap among the peers.
const Floor = "floor"

func floor() Peer {
	return Peer{
		Name: Floor, Module: "github.com/ipalloc/ipalloc",
		Package: "internal/bench: a bare bitmap of a /16 in two levels", Order: Lowest,
		Note:     "no allocator, but the least that one has to do; offsets of a /16 alone; shows how fast the machine is",
		NewSpace: newFloor,
	}
}

type floorSpace struct {
	*bench.Floor
	base uint32
}

func newFloor(s Shape) (Space, error) {
	if s.Prefix.Bits() != 16 || !s.Single() || !s.Prefix.Addr().Is4() {
		return nil, cannot("only a /16")
	}
	return floorSpace{bench.NewFloor(), toUint32(s.Prefix.Addr())}, nil
}

func (f floorSpace) Take(int) (netip.Prefix, error) {
	n := f.TakeFirst()
	if n < 0 {
		return netip.Prefix{}, errExhausted
	}
	return netip.PrefixFrom(fromUint32(f.base+uint32(n)), 32), nil
}

func (f floorSpace) Release(p netip.Prefix) error {
	f.Floor.Release(int(toUint32(p.Addr()) - f.base))
	return nil
}

// Fill takes all and releases what is not held: the bitmap cannot take a certain one.
func (f floorSpace) Fill(_ context.Context, held []netip.Prefix) error {
	keep := make([]bool, 1<<16)
	for _, p := range held {
		keep[toUint32(p.Addr())-f.base] = true
	}
	for range keep {
		f.TakeFirst()
	}
	for n, kept := range keep {
		if !kept {
			f.Floor.Release(n)
		}
	}
	return nil
}

func toUint32(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint32(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}
