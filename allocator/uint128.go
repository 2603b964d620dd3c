package allocator

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// uint128 is an address as a number. An IPv4 address has hi 0 and its 32 bits in lo.
type uint128 struct{ hi, lo uint64 }

func keyOf(addr netip.Addr) uint128 {
	if addr.Is4() {
		b := addr.As4()
		return uint128{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return uint128{binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])}
}

func (x uint128) addr(is4 bool) netip.Addr {
	if is4 {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(x.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], x.hi)
	binary.BigEndian.PutUint64(b[8:], x.lo)
	return netip.AddrFrom16(b)
}

func (x uint128) less(y uint128) bool {
	return x.hi < y.hi || x.hi == y.hi && x.lo < y.lo
}

func compare(x, y uint128) int {
	return cmp.Or(cmp.Compare(x.hi, y.hi), cmp.Compare(x.lo, y.lo))
}

func (x uint128) add(y uint128) uint128 {
	lo, carry := bits.Add64(x.lo, y.lo, 0)
	hi, _ := bits.Add64(x.hi, y.hi, carry)
	return uint128{hi, lo}
}

func (x uint128) sub(y uint128) uint128 {
	lo, borrow := bits.Sub64(x.lo, y.lo, 0)
	hi, _ := bits.Sub64(x.hi, y.hi, borrow)
	return uint128{hi, lo}
}

func (x uint128) next() uint128 { return x.add(uint128{lo: 1}) }
func (x uint128) prev() uint128 { return x.sub(uint128{lo: 1}) }

func (x uint128) or(y uint128) uint128 { return uint128{x.hi | y.hi, x.lo | y.lo} }

// shr and shl are defined for every n; from 128 on they give 0.
func (x uint128) shr(n uint) uint128 {
	if n >= 64 {
		return uint128{0, x.hi >> (n - 64)}
	}
	return uint128{x.hi >> n, x.lo>>n | x.hi<<(64-n)}
}

func (x uint128) shl(n uint) uint128 {
	if n >= 64 {
		return uint128{x.lo << (n - 64), 0}
	}
	return uint128{x.hi<<n | x.lo>>(64-n), x.lo << n}
}

// trailingZeros is 128 for 0.
func (x uint128) trailingZeros() uint {
	if x.lo == 0 {
		return uint(64 + bits.TrailingZeros64(x.hi))
	}
	return uint(bits.TrailingZeros64(x.lo))
}

// bitLen is the number of bits needed to write x; 0 for 0.
func (x uint128) bitLen() uint {
	if x.hi != 0 {
		return uint(64 + bits.Len64(x.hi))
	}
	return uint(bits.Len64(x.lo))
}

// floor is the start of the aligned block of 2^order addresses that x lies in.
func (x uint128) floor(order uint) uint128 {
	if order >= 64 {
		return uint128{x.hi >> (order - 64) << (order - 64), 0}
	}
	return uint128{x.hi, x.lo >> (order & 63) << (order & 63)}
}

// last is the last address of the aligned block of 2^order addresses that x lies in.
func (x uint128) last(order uint) uint128 {
	if order >= 64 {
		return uint128{x.hi | (1<<(order-64) - 1), ^uint64(0)}
	}
	return uint128{x.hi, x.lo | (1<<(order&63) - 1)}
}

// sameBlock reports whether x and y lie in the same aligned block of 2^order addresses.
func (x uint128) sameBlock(y uint128, order uint) bool {
	if order >= 64 {
		return (x.hi^y.hi)>>(order-64) == 0
	}
	return x.hi == y.hi && (x.lo^y.lo)>>(order&63) == 0
}

// slot is the six bits of x above shift, which is a multiple of six.
func (x uint128) slot(shift uint) uint {
	if shift < 60 {
		return uint(x.lo>>(shift&63)) & 63
	}
	return uint(x.shr(shift).lo) & 63
}
