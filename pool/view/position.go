package view

import (
	"encoding/binary"
	"net/netip"
)

// position is an address as a number of 128 bits; an IPv4 address stands in the lowest 32.
type position struct{ hi, lo uint64 }

func positionOf(addr netip.Addr) position {
	if addr.Is4() {
		b := addr.As4()
		return position{0, uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return position{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

// bits returns the count bits that stand above the lowest low ones, at most 63.
func (p position) bits(low, count int) int {
	var shifted uint64
	switch {
	case low >= 64:
		shifted = p.hi >> (low - 64)
	default:
		shifted = p.lo>>low | p.hi<<(64-low)
	}
	return int(shifted & (1<<count - 1))
}

// sizeOf returns how many addresses there are from one to another, exactly up to 2^53.
func sizeOf(from, to netip.Addr) float64 {
	a, b := positionOf(from), positionOf(to)
	lo := b.lo - a.lo
	hi := b.hi - a.hi
	if b.lo < a.lo {
		hi--
	}
	const word = 1 << 64
	return float64(hi)*word + float64(lo) + 1
}
