package space

import (
	"fmt"
	"maps"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Free gives back p, which was taken, in one or in parts, or was counted as out of range: what may be handed out
// of it becomes free, and the rest leaves the count. use is what p was used for, see [Space.Change]. After an
// error nothing has changed.
//
// Errors: [allocator.ErrNotTaken] if any of p is free already; [allocator.ErrInvalid] for a prefix that is not
// valid or has host bits; [ErrCorrupt] after a failed Load.
//
// Cost: O(levels), and nothing on the heap in steady state; O(ranges in p) for what is partly out of range.
func (s *Space) Free(p netip.Prefix, use Use) error {
	if s.broken {
		return errBroken
	}
	if !p.IsValid() || p != p.Masked() {
		return fmt.Errorf("%w: %v: want a prefix without host bits", allocator.ErrInvalid, p)
	}
	family := FamilyOf(p.Addr())
	if f := s.byFamily[family]; f != nil && f.free.Covers(p) {
		if err := s.release(f, p); err != nil {
			return err
		}
		s.Change(p, use, Held)
		return nil
	}
	start := s.Mark()
	inside, outside := s.Inside(p)
	for _, part := range inside {
		if err := s.release(s.byFamily[family], part); err != nil {
			s.Rollback(start)
			return err
		}
	}
	if use != Held || !outside.IsZero() {
		t := s.change(family)
		t.outOfRange = t.outOfRange.Sub(outside)
		t.count(use, cidr.Count{}, cidr.PrefixSize(p).Sub(outside))
	}
	return nil
}

func (s *Space) release(f *familySpace, p netip.Prefix) error {
	err := f.free.Release(p)
	if err == nil {
		s.freed++
		s.journal = append(s.journal, change{f.family, p, true})
	}
	return err
}

// Hold takes what may be handed out of p and is free, and counts the rest as out of range. It reports whether
// anything of p was taken before. use is what p is used for.
//
// It is for making a space anew from the records that say who holds what: it does not fail, and ends the
// transaction as [Space.Keep] does. Cost: O(levels), and more where p is partly taken.
func (s *Space) Hold(p netip.Prefix, use Use) (clash bool) {
	p = p.Masked()
	family := FamilyOf(p.Addr())
	inside, outside := s.Inside(p)
	for _, part := range inside {
		f := s.byFamily[family]
		clash = clash || !f.free.IsFree(part)
		f.takeRest(part)
		f.rewrite = true
	}
	t := &s.tallies.families[family]
	t.outOfRange = t.outOfRange.Add(outside)
	t.count(use, cidr.PrefixSize(p).Sub(outside), cidr.Count{})
	s.Keep()
	return clash
}

// takeRest takes what is free of a prefix, all of which may be handed out.
func (f *familySpace) takeRest(p netip.Prefix) {
	if f.free.Take(p) == nil || f.free.FreeIn(netipx.RangeOfPrefix(p)).IsZero() {
		return
	}
	bits := p.Bits() + 1
	f.takeRest(netip.PrefixFrom(p.Addr(), bits))
	f.takeRest(netip.PrefixFrom(netipx.PrefixLastIP(p), bits).Masked())
}

// TakeOver makes a new space hold what an old one does, under other rules: what is taken and for what use, and the
// counters of records and of owned addresses. It is false if old has addresses out of range, or ones taken that s may
// not hand out; then s is to be thrown away, and the records have to say what belongs together, see [Space.Hold]. It
// ends the transaction of s as [Space.Keep] does, and does not change old. The cursors are left out; see
// [Space.KeepCursors].
//
// Cost: O(runs of taken addresses).
func (s *Space) TakeOver(old *Space) bool {
	if old.broken {
		return false
	}
	for i, t := range old.tallies.families {
		if !t.outOfRange.IsZero() {
			return false
		}
		s.tallies.families[i].uses = t.uses
	}
	for _, from := range old.families {
		for r := range from.free.TakenRanges() {
			to := s.byFamily[from.family]
			if to == nil || !to.takeRange(r) {
				return false
			}
			to.rewrite = true
		}
	}
	s.tallies.records, s.owned = old.tallies.records, maps.Clone(old.owned)
	s.Keep()
	return true
}

// takeRange takes a range, and reports whether all of it was free.
func (f *familySpace) takeRange(r netipx.IPRange) bool {
	for p := range cidr.Prefixes(r) {
		if f.free.Take(p) != nil {
			return false
		}
	}
	return true
}
