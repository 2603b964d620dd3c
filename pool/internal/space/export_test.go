package space

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"

	"github.com/ipalloc/ipalloc/cidr"
)

// Limits are the thresholds of the pieces: see limits.
type Limits struct{ Inline, MinPiece, MaxPiece, MinChanges, MaxChanges int }

// SetLimits makes a space cut and replace its pieces at other thresholds than usual.
func (s *Space) SetLimits(l Limits) {
	s.limits = limits{l.Inline, l.MinPiece, l.MaxPiece, l.MinChanges, l.MaxChanges}
}

// MendCounts makes the head count as many free addresses as its pieces have, as far as those can be loaded. The
// checks of single pieces are so reached by a fuzzer.
func (h *Head) MendCounts(rules Rules, records map[string][]byte) {
	s, err := New(rules, nil)
	if err != nil || h.Check(s.familyList()) != nil {
		return
	}
	for i, f := range s.families {
		if f.load(h.Spaces[i].Pieces, records) == nil {
			h.Spaces[i].Free = f.free.Free()
		}
	}
}

// MendChecksums makes the last 4 bytes of each encoding in the head its checksum.
func (h *Head) MendChecksums() {
	for _, s := range h.Spaces {
		for _, p := range s.Pieces {
			if body := len(p.Free) - 4; body >= 0 {
				sum := crc32.Checksum(p.Free[:body], crc32.MakeTable(crc32.Castagnoli))
				binary.LittleEndian.PutUint32(p.Free[body:], sum)
			}
		}
	}
}

// FirstFree searches in a part as a Take does.
func FirstFree(p *Part, free searcher, bits, i int, addr netip.Addr) (netip.Prefix, error) {
	found, _, err := p.firstFree(free, bits, i, addr)
	return found, err
}

// Nth returns the n-th address of a part.
func Nth(p *Part, n cidr.Count) (netip.Addr, bool) { return p.nth(n) }

// RangeOf returns the index of the range in which a want has found something last.
func RangeOf(w *Want) int { return w.at }
