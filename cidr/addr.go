package cidr

import (
	"encoding/binary"
	"net/netip"
)

// number returns addr as a number of 32 bits for IPv4 and 128 bits for IPv6.
func number(addr netip.Addr) Count {
	if addr.Is4() {
		b := addr.As4()
		return Count{lo: uint64(binary.BigEndian.Uint32(b[:]))}
	}
	b := addr.As16()
	return Count{mid: binary.BigEndian.Uint64(b[:8]), lo: binary.BigEndian.Uint64(b[8:])}
}

// distance returns to-from. Both are of one family, and from is not after to.
func distance(from, to netip.Addr) Count { return number(to).Sub(number(from)) }

// advance returns addr+n, which must be an address of the same family.
func advance(addr netip.Addr, n Count) netip.Addr {
	sum := number(addr).Add(n)
	if addr.Is4() {
		var b [4]byte
		binary.BigEndian.PutUint32(b[:], uint32(sum.lo))
		return netip.AddrFrom4(b)
	}
	var b [16]byte
	binary.BigEndian.PutUint64(b[:8], sum.mid)
	binary.BigEndian.PutUint64(b[8:], sum.lo)
	return netip.AddrFrom16(b)
}
