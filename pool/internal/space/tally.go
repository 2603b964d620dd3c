package space

import (
	"net/netip"

	"github.com/ipalloc/ipalloc/cidr"
)

// Counter names a number of records that the space keeps for its user, so that it is committed and undone with
// the rest.
type Counter uint8

// The counters.
const (
	// Expiring counts the records with a time at which what they hold becomes free.
	Expiring Counter = iota
	// Aside counts those of them that are kept beside the record of their owner.
	Aside
	// Delegated counts the records of which a pool was delegated.
	Delegated
	// Holding counts the records of owners that hold something.
	Holding
	// Reserved counts the records of owners for whom something is reserved, whether they hold it or not.
	Reserved
	// Shared counts the records of what several owners may share.
	Shared

	numCounters = 6
)

// Use is what taken addresses are used for.
type Use uint8

// The uses.
const (
	// Held addresses are held by an owner.
	Held Use = iota
	// Cooling addresses were released, and are withheld for a time.
	Cooling
	// Kept addresses are reserved for an owner that does not hold them.
	Kept

	numUses = 3
)

// Counts are the numbers of addresses of one family. Total is the sum of Reserved, Used, Cooling, Kept and Free.
// It is a value; it may be copied and compared.
type Counts struct {
	Family Family `json:"family"`
	// Total is the number of addresses in the ranges.
	Total cidr.Count `json:"total"`
	// Reserved are those that are never handed out.
	Reserved cidr.Count `json:"reserved"`
	// Used are those that are held.
	Used cidr.Count `json:"used"`
	// Cooling are those that were released and are withheld.
	Cooling cidr.Count `json:"cooling,omitzero"`
	// Kept are those that are reserved for owners that do not hold them.
	Kept cidr.Count `json:"kept,omitzero"`
	// Free are those that are left.
	Free cidr.Count `json:"free"`
	// OutOfRange are addresses that are taken, for any use, but may not be handed out.
	OutOfRange cidr.Count `json:"outOfRange,omitzero"`
}

// tallies are what the free space does not say.
type tallies struct {
	families [numFamilies]tally
	records  [numCounters]int // by Counter
}

// tally is that for one family.
type tally struct {
	uses       [numUses]cidr.Count // addresses of the space that are taken, by use; those that are held are not counted
	outOfRange cidr.Count          // addresses that are taken, but may not be handed out
	cursor     netip.Addr          // where Next looks first; the zero Addr is the bottom
}

// earlier is what the tally of a family was before a change.
type earlier struct {
	family Family
	tally  tally
}

// recount is what a counter of records was before a change.
type recount struct {
	counter Counter
	before  int
}

// change returns the tally of a family, to be changed, and remembers what it was.
func (s *Space) change(f Family) *tally {
	t := &s.tallies.families[f]
	s.earlier = append(s.earlier, earlier{f, *t})
	return t
}

// Counts counts the addresses: one entry for each family of the rules, in their order, and then one for a family
// that the rules do not have, if addresses of it are held, with nothing but OutOfRange. The result is the
// caller's. Cost: O(1).
func (s *Space) Counts() []Counts { return s.AppendCounts(make([]Counts, 0, numFamilies)) }

// AppendCounts appends what Counts returns.
func (s *Space) AppendCounts(counts []Counts) []Counts {
	for _, f := range s.families {
		t := s.tallies.families[f.family]
		counts = append(counts, Counts{
			Family: f.family, Total: f.free.Total().Add(f.reserved), Reserved: f.reserved,
			Used: f.free.Taken().Sub(t.uses[Cooling]).Sub(t.uses[Kept]), Cooling: t.uses[Cooling], Kept: t.uses[Kept],
			Free: f.free.Free(), OutOfRange: t.outOfRange,
		})
	}
	for f, t := range s.tallies.families {
		if f := Family(f); !s.Has(f) && !t.outOfRange.IsZero() {
			counts = append(counts, Counts{Family: f, OutOfRange: t.outOfRange})
		}
	}
	return counts
}

// Tally returns a counter of records; 0 for one that there is not.
func (s *Space) Tally(c Counter) int {
	if c >= numCounters {
		return 0
	}
	return s.tallies.records[c]
}

// Add adds to a counter of records. It stops at 0. A counter that there is not stays 0.
func (s *Space) Add(c Counter, by int) {
	if c < numCounters && by != 0 {
		records := &s.tallies.records[c]
		s.recounts = append(s.recounts, recount{c, *records})
		*records = max(0, *records+by)
	}
}

// OutOfRange returns how many addresses of the family are held, or cool down, but may not be handed out.
func (s *Space) OutOfRange(f Family) cidr.Count {
	if f >= numFamilies {
		return cidr.Count{}
	}
	return s.tallies.families[f].outOfRange
}

// AnyOutOfRange reports whether OutOfRange of some family is not 0.
func (s *Space) AnyOutOfRange() bool {
	return !s.OutOfRange(V4).IsZero() || !s.OutOfRange(V6).IsZero()
}

// InUse returns how many addresses of the family are taken for a use other than [Held], those out of range excepted.
func (s *Space) InUse(f Family, use Use) cidr.Count {
	if f >= numFamilies || use >= numUses {
		return cidr.Count{}
	}
	return s.tallies.families[f].uses[use]
}

// Change notes that p, which is taken, is used for something else from now on. What may not be handed out of p does not
// count.
func (s *Space) Change(p netip.Prefix, from, to Use) {
	if from == to {
		return
	}
	size, t := s.sizeInside(p), s.change(FamilyOf(p.Addr()))
	t.count(from, cidr.Count{}, size)
	t.count(to, size, cidr.Count{})
}

// count counts addresses of a use. Those that are held need no count.
func (t *tally) count(use Use, more, fewer cidr.Count) {
	if use != Held && use < numUses {
		t.uses[use] = t.uses[use].Add(more).Sub(fewer)
	}
}

// Cursors returns where [Next] looks first, IPv4 before IPv6, without those that are at the bottom. Each goes
// back with [Space.SetCursor].
func (s *Space) Cursors() []netip.Addr {
	var cursors []netip.Addr
	for _, t := range s.tallies.families {
		if t.cursor.IsValid() {
			cursors = append(cursors, t.cursor)
		}
	}
	return cursors
}

// SetCursor makes [Next] look first at addr, in the family of addr. If that is no family of the rules, or addr
// is not valid, it does nothing. It is for a new space: a Rollback neither undoes it nor may come later in the
// same transaction.
func (s *Space) SetCursor(addr netip.Addr) {
	if family := FamilyOf(addr); addr.IsValid() && s.Has(family) {
		s.tallies.families[family].cursor = addr.WithZone("")
	}
}

// KeepCursors makes [Next] look first where it does in old, in the families that s has. It is for a new space,
// as SetCursor is.
func (s *Space) KeepCursors(old *Space) {
	for _, cursor := range old.Cursors() {
		s.SetCursor(cursor)
	}
}
