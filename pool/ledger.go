package pool

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// resolvedSpec is a spec with what follows from it, computed once.
type resolvedSpec struct {
	Spec
	text     json.RawMessage
	families []Family
	foreign  []netipx.IPRange // of the pool's network, as far as they lie in the ranges
	tiers    [2]tiers         // by Family.index
}

func resolveSpec(spec Spec, foreign []netipx.IPRange) (*resolvedSpec, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	// Through its text and back, so that the caller's slices are not shared.
	var own Spec
	if err := json.Unmarshal(text, &own); err != nil {
		return nil, err
	}
	resolved := &resolvedSpec{Spec: own, text: text, families: own.Families(), foreign: foreign}
	for _, family := range resolved.families {
		resolved.tiers[family.index()] = own.tiersOf(family)
	}
	return resolved, nil
}

// sameAs tells whether a head with this text of a spec and these foreign ranges needs no other resolvedSpec.
func (s *resolvedSpec) sameAs(text []byte, foreign []netipx.IPRange) bool {
	return bytes.Equal(s.text, text) && slices.Equal(s.foreign, foreign)
}

func (s *resolvedSpec) has(family Family) bool {
	return s.index(family) >= 0
}

func (s *resolvedSpec) index(family Family) int {
	for i, f := range s.families {
		if f == family {
			return i
		}
	}
	return -1
}

func (s *resolvedSpec) bits(family Family) int { return s.Spec.Bits(family) }

// allowed is what the pool hands out of the family: [Spec.Set] without what is foreign.
func (s *resolvedSpec) allowed(family Family) *netipx.IPSet {
	return cidr.Difference(s.Set(family), cidr.SetOf(ofFamily(s.foreign, family)...))
}

// ledger is which addresses of a pool are free, and what is being done about it: changes go to a journal, from which they are
// undone if the commit fails. It is not safe for concurrent use.
type ledger struct {
	spec    *resolvedSpec
	spaces  []*space // one a family, in the order of spec.families
	tallies tallies
	random  func() uint64

	journal []change
	earlier []tallies // what the tallies were before each of their changes
	scratch []Request
	order   []int
}

// tallies are what the free space does not say.
type tallies struct {
	families [2]tally // by Family.index
	expiring int      // records with a time at which they expire
	strays   int      // those of them that are of store.KindCooling
}

// tally is that for one family.
type tally struct {
	cooling    cidr.Count // addresses of the space that are taken, and cool down
	outOfRange cidr.Count // addresses that are held, or cool down, but are none that the pool hands out
	cursor     netip.Addr // where NextFree looks first
}

// change is one prefix that became free or taken.
type change struct {
	space  int
	prefix netip.Prefix
	free   bool
}

// mark is a point of the journal to go back to.
type mark struct{ changes, tallies int }

// newLedger returns the ledger of an empty pool.
func newLedger(spec *resolvedSpec, random func() uint64) (*ledger, error) {
	l := &ledger{spec: spec, random: random}
	for _, family := range spec.families {
		s, err := newSpace(spec, family)
		if err != nil {
			return nil, err
		}
		l.spaces = append(l.spaces, s)
	}
	return l, nil
}

// space returns the space of the family, or nil and -1 if the pool does not have it.
func (l *ledger) space(family Family) (*space, int) {
	if i := l.spec.index(family); i >= 0 {
		return l.spaces[i], i
	}
	return nil, -1
}

func (l *ledger) mark() mark { return mark{len(l.journal), len(l.earlier)} }

// tally returns that of a family, to be changed.
func (l *ledger) tally(family Family) *tally {
	l.earlier = append(l.earlier, l.tallies)
	return &l.tallies.families[family.index()]
}

// count notes that so many more records expire, and so many more are strays.
func (l *ledger) count(expiring, strays int) {
	if expiring != 0 || strays != 0 {
		l.earlier = append(l.earlier, l.tallies)
		l.tallies.expiring += expiring
		l.tallies.strays += strays
	}
}

// forget says that what has been done stays.
func (l *ledger) forget() { l.journal, l.earlier = l.journal[:0], l.earlier[:0] }

// grant takes what the claim asks for, all of it or nothing, and returns it in the order of the requests.
func (l *ledger) grant(c *Claim) ([]netip.Prefix, error) {
	requests, err := c.resolve(l.spec, c.Policy, l.scratch[:0])
	if err != nil {
		return nil, err
	}
	l.scratch = requests
	start := l.mark()
	prefixes := make([]netip.Prefix, len(requests))
	for _, i := range l.inOrder(requests) {
		if prefixes[i], err = l.take(&requests[i]); err != nil {
			l.undo(start)
			return nil, err
		}
	}
	return prefixes, nil
}

// inOrder returns the indexes of the requests in the order in which to take them: those first that leave less choice, so that the
// others do not take what they need. These are exact ones, then those within a set, and of these and of the rest the larger
// prefixes.
func (l *ledger) inOrder(requests []Request) []int {
	l.order = l.order[:0]
	for i := range requests {
		l.order = append(l.order, i)
	}
	if len(requests) > 1 {
		slices.SortStableFunc(l.order, func(i, j int) int {
			byChoice := requests[i].choice() - requests[j].choice()
			if byChoice == 0 && !requests[i].Exact.IsValid() {
				return requests[i].Bits - requests[j].Bits
			}
			return byChoice
		})
	}
	return l.order
}

// take takes what a complete request asks for.
func (l *ledger) take(r *Request) (netip.Prefix, error) {
	s, i := l.space(r.Family)
	p, err := l.find(s, r)
	if err != nil {
		return p, l.explain(r, err)
	}
	l.journal = append(l.journal, change{i, p, false})
	if l.spec.Strategy == NextFree && !r.Exact.IsValid() {
		l.tally(r.Family).cursor = netipx.PrefixLastIP(p).Next()
	}
	return p, nil
}

func (l *ledger) find(s *space, r *Request) (p netip.Prefix, err error) {
	if r.Exact.IsValid() {
		return r.Exact, s.free.Take(r.Exact)
	}
	for _, ranges := range r.tiers(l.spec) {
		if p, err = l.search(s, r.Bits, ranges); err == nil {
			return p, nil
		}
	}
	return p, err
}

// explain turns an error of the allocator into one of this package.
func (l *ledger) explain(r *Request, err error) error {
	s, _ := l.space(r.Family)
	free := s.free
	switch {
	case errors.Is(err, allocator.ErrExhausted):
		return &ExhaustedError{
			Family: r.Family, Bits: r.Bits, Limited: r.Within != nil || len(l.spec.Bands) > 0,
			Free: free.Free(), Total: free.Total(), Cooling: l.tallies.families[r.Family.index()].cooling, hint: l.hint(r),
		}
	case errors.Is(err, allocator.ErrTaken):
		return &Error{Prefix: r.Exact, Err: &takenError{}}
	case errors.Is(err, allocator.ErrOutside):
		return &Error{Prefix: r.Exact, Err: fmt.Errorf("%w: %s", ErrNotInPool, l.spec.whyNot(r.Exact))}
	default:
		return err
	}
}

// hint says what may be in the way of a large prefix in a pool of addresses.
func (l *ledger) hint(r *Request) string {
	if r.Bits == r.Family.Width() || r.Within != nil || len(l.spec.reserved(r.Family)) == 0 {
		return ""
	}
	return "; the first and last address of each subnet are reserved, see Spec.AllocateReserved"
}

// parts cuts a prefix into what the pool hands out, as prefixes, and the number of addresses that it does not.
func (l *ledger) parts(p netip.Prefix) (inside []netip.Prefix, outside cidr.Count) {
	s, _ := l.space(FamilyOf(p.Addr()))
	if s == nil {
		return nil, cidr.PrefixSize(p)
	}
	set := cidr.Intersection(s.set, cidr.SetOf(netipx.RangeOfPrefix(p)))
	return set.Prefixes(), cidr.PrefixSize(p).Sub(cidr.Size(set))
}

// covers tells whether the pool hands out all addresses of the prefixes.
func (l *ledger) covers(prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		if s, _ := l.space(FamilyOf(p.Addr())); s == nil || !s.free.Covers(p) {
			return false
		}
	}
	return true
}

// coversSome tells whether the pool hands out any address of the prefixes.
func (l *ledger) coversSome(prefixes []netip.Prefix) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return !l.sizeInside(p).IsZero() })
}

// free gives back what h holds or has held, all of it or nothing: what the pool hands out becomes free, the rest leaves the tally.
func (l *ledger) free(h *holding) error {
	start := l.mark()
	for _, p := range h.Prefixes {
		if err := l.freePrefix(p, h.cooling); err != nil {
			l.undo(start)
			return fmt.Errorf("%w: %v is held, but not taken in the pool: %w", ErrCorrupt, p, err)
		}
	}
	return nil
}

func (l *ledger) freePrefix(p netip.Prefix, cooling bool) error {
	family := FamilyOf(p.Addr())
	s, i := l.space(family)
	if s != nil && s.free.Covers(p) {
		if cooling {
			t := l.tally(family)
			t.cooling = t.cooling.Sub(cidr.PrefixSize(p))
		}
		return l.releaseIn(i, p)
	}
	inside, outside := l.parts(p)
	t := l.tally(family)
	t.outOfRange = t.outOfRange.Sub(outside)
	if cooling {
		t.cooling = t.cooling.Sub(cidr.PrefixSize(p).Sub(outside))
	}
	for _, part := range inside {
		if err := l.releaseIn(i, part); err != nil {
			return err
		}
	}
	return nil
}

func (l *ledger) releaseIn(i int, p netip.Prefix) error {
	err := l.spaces[i].free.Release(p)
	if err == nil {
		l.journal = append(l.journal, change{i, p, true})
	}
	return err
}

// cool says that what is held and taken cools down from now on, and warm the contrary.
func (l *ledger) cool(prefixes []netip.Prefix) {
	for _, p := range prefixes {
		size, t := l.sizeInside(p), l.tally(FamilyOf(p.Addr()))
		t.cooling = t.cooling.Add(size)
	}
}

func (l *ledger) warm(prefixes []netip.Prefix) {
	for _, p := range prefixes {
		size, t := l.sizeInside(p), l.tally(FamilyOf(p.Addr()))
		t.cooling = t.cooling.Sub(size)
	}
}

// sizeInside is how many addresses of the prefix the pool hands out.
func (l *ledger) sizeInside(p netip.Prefix) cidr.Count {
	if s, _ := l.space(FamilyOf(p.Addr())); s != nil && s.free.Covers(p) {
		return cidr.PrefixSize(p)
	}
	_, outside := l.parts(p)
	return cidr.PrefixSize(p).Sub(outside)
}

// undo takes back what the journal has from start on.
func (l *ledger) undo(start mark) {
	for len(l.journal) > start.changes {
		last := l.journal[len(l.journal)-1]
		l.journal = l.journal[:len(l.journal)-1]
		free := l.spaces[last.space].free
		// What was just done can be undone; it fails for nobody but a second user of the ledger.
		if last.free {
			_ = free.Take(last.prefix)
		} else {
			_ = free.Release(last.prefix)
		}
	}
	for len(l.earlier) > start.tallies {
		l.tallies = l.earlier[len(l.earlier)-1]
		l.earlier = l.earlier[:len(l.earlier)-1]
	}
}

// stats counts the pool's addresses, in the order of the families. A family that the pool has no more comes last, if addresses of it are
// still held.
func (l *ledger) stats() []FamilyStats {
	stats := make([]FamilyStats, len(l.spaces), 2)
	for i, s := range l.spaces {
		stats[i] = s.stats(l.tallies.families[s.family.index()])
	}
	for i, family := range families {
		if !l.spec.has(family) && !l.tallies.families[i].outOfRange.IsZero() {
			stats = append(stats, FamilyStats{Family: family, OutOfRange: l.tallies.families[i].outOfRange})
		}
	}
	return stats
}

// FamilyStats counts the addresses of one family of a pool. Total is the sum of Reserved, Used, Cooling and Free. It is a value; it
// may be copied and compared.
type FamilyStats struct {
	Family Family `json:"family"`
	// Total is the number of addresses in the ranges.
	Total cidr.Count `json:"total"`
	// Reserved are those that are never handed out: excluded and foreign ones, gateways, and first and last ones of subnets.
	Reserved cidr.Count `json:"reserved"`
	// Used are those that are held. Leases that have ended are among them as long as nobody has needed them; see [Pool.Reap].
	Used cidr.Count `json:"used"`
	// Cooling are those that were released and are withheld; see [Spec.Cooldown].
	Cooling cidr.Count `json:"cooling,omitzero"`
	// Free are those that are left.
	Free cidr.Count `json:"free"`
	// OutOfRange are addresses that are held, or cool down, but are none of Total, since the pool was changed by [Pool.Drain], or that
	// are Reserved now. They are never handed out again.
	OutOfRange cidr.Count `json:"outOfRange,omitzero"`
}

// Stats are the counts of a pool: one entry a family, the primary one first.
type Stats []FamilyStats

// Of returns the counts of one family; all zero if the pool does not have it.
func (s Stats) Of(family Family) FamilyStats {
	for _, f := range s {
		if f.Family == family {
			return f
		}
	}
	return FamilyStats{Family: family}
}

// space is the free space of one family, and how the head keeps it.
type space struct {
	family   Family
	set      *netipx.IPSet // what the pool hands out
	free     *allocator.Allocator
	reserved cidr.Count
	pieces   []piece // as committed
}

func newSpace(spec *resolvedSpec, family Family) (*space, error) {
	set := spec.allowed(family)
	if len(set.Ranges()) == 0 {
		return nil, invalid("all %v addresses of the pool are excluded, foreign, gateways or reserved", family)
	}
	free, err := allocator.New(set)
	if err != nil {
		return nil, err
	}
	return &space{family: family, set: set, free: free, reserved: cidr.Size(spec.rangeSet(family)).Sub(free.Total())}, nil
}

func (s *space) stats(t tally) FamilyStats {
	return FamilyStats{
		Family: s.family, Total: s.free.Total().Add(s.reserved), Reserved: s.reserved,
		Used: s.free.Taken().Sub(t.cooling), Cooling: t.cooling, Free: s.free.Free(), OutOfRange: t.outOfRange,
	}
}

// wholeOf is the range of all addresses of the family.
func wholeOf(family Family) netipx.IPRange {
	addr := netip.IPv6Unspecified()
	if family == IPv4 {
		addr = netip.IPv4Unspecified()
	}
	return netipx.RangeOfPrefix(netip.PrefixFrom(addr, 0))
}

// load makes the space hold what the pieces say. data has the encodings of those that stand in records of their own, by ID. After
// an error the space is in no defined state.
func (s *space) load(pieces []piece, data map[string][]byte) error {
	for i, p := range pieces {
		changes := p.Changes
		old, known := s.find(p)
		switch {
		case known && bytes.HasPrefix(changes, old.Changes):
			changes = changes[len(old.Changes):]
		default:
			encoded := p.Free
			if p.ID != "" {
				encoded = data[p.ID]
			}
			if err := s.free.SetFree(s.rangeOf(pieces, i), encoded); err != nil {
				return fmt.Errorf("%w: the free space from %v on: %w", ErrCorrupt, p.From, err)
			}
		}
		if err := s.apply(p.From, changes); err != nil {
			return err
		}
	}
	s.pieces = pieces
	return nil
}

// find returns the piece that is committed with the same encoding as p.
func (s *space) find(p piece) (piece, bool) {
	for _, old := range s.pieces {
		if old.From == p.From && old.ID == p.ID && bytes.Equal(old.Free, p.Free) {
			return old, true
		}
	}
	return piece{}, false
}

// missing appends the IDs of the pieces whose encodings load will need.
func (s *space) missing(pieces []piece, ids []string) []string {
	for _, p := range pieces {
		if old, known := s.find(p); p.ID != "" && (!known || !bytes.HasPrefix(p.Changes, old.Changes)) {
			ids = append(ids, p.ID)
		}
	}
	return ids
}

func (s *space) apply(from netip.Addr, changes []byte) error {
	for len(changes) > 0 {
		p, free, rest, err := nextChange(from, changes)
		if err != nil {
			return err
		}
		if free {
			err = s.free.Release(p)
		} else {
			err = s.free.Take(p)
		}
		if err != nil {
			return fmt.Errorf("%w: the changes from %v on: %w", ErrCorrupt, from, err)
		}
		changes = rest
	}
	return nil
}
