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
}

func resolveSpec(spec Spec) (*resolvedSpec, error) {
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
	return &resolvedSpec{Spec: own, text: text, families: own.Families()}, nil
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

// ledger is which addresses of a pool are free, and what is being done about it: changes go to a journal, from which they are
// undone if the commit fails. It is not safe for concurrent use.
type ledger struct {
	spec    *resolvedSpec
	spaces  []*space // one a family, in the order of spec.families
	journal []change
	scratch []Request
	order   []int
}

// change is one prefix that became free or taken.
type change struct {
	space  int
	prefix netip.Prefix
	free   bool
}

// newLedger returns the ledger of an empty pool.
func newLedger(spec *resolvedSpec) (*ledger, error) {
	l := &ledger{spec: spec}
	for _, family := range spec.families {
		s, err := newSpace(spec, family)
		if err != nil {
			return nil, err
		}
		l.spaces = append(l.spaces, s)
	}
	return l, nil
}

// grant takes what the claim asks for, all of it or nothing, and returns it in the order of the requests.
func (l *ledger) grant(c *Claim) ([]netip.Prefix, error) {
	requests, err := c.resolve(l.spec, c.Policy, l.scratch[:0])
	if err != nil {
		return nil, err
	}
	l.scratch = requests
	mark := len(l.journal)
	prefixes := make([]netip.Prefix, len(requests))
	for _, i := range l.inOrder(requests) {
		if prefixes[i], err = l.take(&requests[i]); err != nil {
			l.undo(mark)
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
	i := l.spec.index(r.Family)
	free := l.spaces[i].free
	var p netip.Prefix
	var err error
	switch {
	case r.Exact.IsValid():
		p, err = r.Exact, free.Take(r.Exact)
	case r.Within != nil:
		p, err = free.TakeFirstIn(r.Bits, r.Within.Ranges()...)
	default:
		p, err = free.TakeFirst(r.Bits)
	}
	if err != nil {
		return p, l.explain(r, err)
	}
	l.journal = append(l.journal, change{i, p, false})
	return p, nil
}

// explain turns an error of the allocator into one of this package.
func (l *ledger) explain(r *Request, err error) error {
	free := l.spaces[l.spec.index(r.Family)].free
	switch {
	case errors.Is(err, allocator.ErrExhausted) && r.Within != nil:
		return fmt.Errorf("%w: no %v /%d is free within the set asked for", ErrExhausted, r.Family, r.Bits)
	case errors.Is(err, allocator.ErrExhausted):
		return fmt.Errorf("%w: no %v /%d is free; free addresses: %v of %v%s", ErrExhausted, r.Family, r.Bits,
			free.Free(), free.Total(), l.hint(r))
	case errors.Is(err, allocator.ErrTaken):
		return &Error{Prefix: r.Exact, Err: ErrTaken}
	case errors.Is(err, allocator.ErrOutside):
		return &Error{Prefix: r.Exact, Err: fmt.Errorf("%w: %s", ErrNotInPool, l.spec.whyNot(r.Exact))}
	default:
		return err
	}
}

// hint says what may be in the way of a large prefix in a pool of addresses.
func (l *ledger) hint(r *Request) string {
	if r.Bits == r.Family.Width() || len(l.spec.reserved(r.Family)) == 0 {
		return ""
	}
	return "; the first and last address of each subnet are reserved, see Spec.AllocateReserved"
}

// release frees prefixes, all of them or none. Of a prefix that is not in the pool (see [Report.Foreign]) it frees what is.
func (l *ledger) release(prefixes []netip.Prefix) error {
	mark := len(l.journal)
	for _, p := range prefixes {
		i := l.spec.index(FamilyOf(p.Addr()))
		if i < 0 {
			continue
		}
		err := l.releaseIn(i, p)
		if errors.Is(err, allocator.ErrOutside) {
			err = nil
			for _, part := range cidr.Intersection(l.spaces[i].free.Set(), cidr.SetOf(netipx.RangeOfPrefix(p))).Prefixes() {
				err = errors.Join(err, l.releaseIn(i, part))
			}
		}
		if err != nil {
			l.undo(mark)
			return fmt.Errorf("%w: %v is held, but not taken in the pool: %w", ErrCorrupt, p, err)
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

// undo takes back what the journal has from mark on.
func (l *ledger) undo(mark int) {
	for len(l.journal) > mark {
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
}

// stats counts the pool's addresses, in the order of the families.
func (l *ledger) stats() []FamilyStats {
	stats := make([]FamilyStats, len(l.spaces))
	for i, s := range l.spaces {
		stats[i] = s.stats()
	}
	return stats
}

// FamilyStats counts the addresses of one family of a pool. Total is the sum of the other three. It is a value; it
// may be copied and compared.
type FamilyStats struct {
	Family Family `json:"family"`
	// Total is the number of addresses in the ranges.
	Total cidr.Count `json:"total"`
	// Reserved are those that are never handed out: excluded ones, gateways, and first and last ones of subnets.
	Reserved cidr.Count `json:"reserved"`
	// Used are those that are held.
	Used cidr.Count `json:"used"`
	// Free are those that are left.
	Free cidr.Count `json:"free"`
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
	free     *allocator.Allocator
	reserved cidr.Count
	pieces   []piece // as committed
}

func newSpace(spec *resolvedSpec, family Family) (*space, error) {
	free, err := allocator.New(spec.Set(family))
	if err != nil {
		return nil, err
	}
	return &space{family: family, free: free, reserved: cidr.Size(spec.rangeSet(family)).Sub(free.Total())}, nil
}

func (s *space) stats() FamilyStats {
	return FamilyStats{Family: s.family, Total: s.free.Total().Add(s.reserved), Reserved: s.reserved, Used: s.free.Taken(), Free: s.free.Free()}
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
