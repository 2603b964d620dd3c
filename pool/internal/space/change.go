package space

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"
)

// appendChange appends a change in 2 to 18 bytes: the number of bytes of the address that follow, with the
// highest bit set if the prefix became free; the prefix length; and the address, without the leading bytes that
// it shares with from.
func appendChange(b []byte, from netip.Addr, p netip.Prefix, free bool) []byte {
	base, addr := from.As16(), p.Addr().As16()
	shared := 0
	for shared < 16 && base[shared] == addr[shared] {
		shared++
	}
	head := byte(16 - shared)
	if free {
		head |= 0x80
	}
	return append(append(b, head, byte(p.Bits())), addr[shared:]...)
}

// nextChange reads the change at the start of b, which is not empty.
func nextChange(from netip.Addr, b []byte) (p netip.Prefix, free bool, rest []byte, err error) {
	n := int(b[0] & 0x7f)
	if n > 16 || len(b) < 2+n {
		return p, false, nil, fmt.Errorf("%w: the changes from %v on are cut short", ErrCorrupt, from)
	}
	addr := from.As16()
	copy(addr[16-n:], b[2:2+n])
	ip := netip.AddrFrom16(addr)
	if from.Is4() {
		ip = ip.Unmap()
	}
	if p = netip.PrefixFrom(ip, int(b[1])); !p.IsValid() {
		return p, false, nil, fmt.Errorf("%w: the changes from %v on have no valid prefix", ErrCorrupt, from)
	}
	return p, b[0]&0x80 != 0, b[2+n:], nil
}

// apply does in the free space what the changes of a piece say. Each must lie in the range of the piece.
func (f *familySpace) apply(span netipx.IPRange, changes []byte) error {
	for len(changes) > 0 {
		p, free, rest, err := nextChange(span.From(), changes)
		switch {
		case err != nil:
			return err
		case !span.Contains(p.Addr()) || !span.Contains(netipx.PrefixLastIP(p)):
			return fmt.Errorf("%w: the changes from %v on have %v, which is in another piece",
				ErrCorrupt, span.From(), p)
		case free:
			err = f.free.Release(p)
		default:
			err = f.free.Take(p)
		}
		if err != nil {
			return fmt.Errorf("%w: the changes from %v on: %w", ErrCorrupt, span.From(), err)
		}
		changes = rest
	}
	return nil
}
