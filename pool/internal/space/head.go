package space

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/cidr"
)

// ErrCorrupt is returned when what a store had is not what [Space.Encode] made. The message says what is wrong
// with it.
var ErrCorrupt = errors.New("corrupt")

// errBroken is the error of a space whose Load failed.
var errBroken = fmt.Errorf("%w: the free space could not be loaded, load it anew", ErrCorrupt)

// Head is the free space as the record of the pool's head has it: counts for people, pieces for machines. A
// struct that embeds it has its members in JSON.
//
// The zero Head is that of no pool. A Head may be copied; copies share what they point to, and nobody changes that.
type Head struct {
	// Spaces are the families of the rules, in their order.
	Spaces []headSpace `json:"spaces"`
	// Left counts what is held of a family that the rules do not have.
	Left []Counts `json:"left,omitempty"`
	// Expiring, Aside, Delegated, Holding, Reservations and Shares are the counters of records.
	Expiring     int `json:"expiring,omitempty"`
	Aside        int `json:"aside,omitempty"`
	Delegated    int `json:"delegated,omitempty"`
	Holding      int `json:"holding,omitempty"`
	Reservations int `json:"reservations,omitempty"`
	Shares       int `json:"shares,omitempty"`
	// Owned are counts of addresses by label and value.
	Owned []Owned `json:"owned,omitempty"`
}

// headSpace is one family of a head.
type headSpace struct {
	Counts
	Cursor netip.Addr `json:"cursor,omitzero"`
	Pieces []piece    `json:"pieces"`
}

// Check reports what is wrong with the structure of a head for rules with these families. Its error wraps
// [ErrCorrupt]. What the pieces encode is looked at by [Space.Load]. Cost: O(n log n) for n pieces.
func (h *Head) Check(families []Family) error {
	if len(families) != len(h.Spaces) {
		return fmt.Errorf("%w: the head has free space for %d families, want %d",
			ErrCorrupt, len(h.Spaces), len(families))
	}
	for i, s := range h.Spaces {
		if s.Family != families[i] {
			return fmt.Errorf("%w: the head has free space for %v, want %v", ErrCorrupt, s.Family, families[i])
		}
		if err := s.check(); err != nil {
			return err
		}
	}
	for i, left := range h.Left {
		if slices.Contains(families, left.Family) || i > 0 {
			return fmt.Errorf("%w: the head counts %v twice", ErrCorrupt, left.Family)
		}
	}
	if min(h.Expiring, h.Aside, h.Delegated, h.Holding, h.Reservations, h.Shares) < 0 {
		return fmt.Errorf("%w: the head has negative counts of records", ErrCorrupt)
	}
	ids := h.PieceIDs()
	slices.Sort(ids)
	if distinct := len(slices.Compact(ids)); distinct < len(ids) {
		return fmt.Errorf("%w: the head names one piece twice", ErrCorrupt)
	}
	return nil
}

// check reports what is wrong with one family: its pieces must cover all its addresses, each only once, in
// order, either as one piece in the head or all in records of their own.
func (s *headSpace) check() error {
	corrupt := func(what string) error {
		return fmt.Errorf("%w: the head's %v free space %s", ErrCorrupt, s.Family, what)
	}
	isOurs := func(addr netip.Addr) bool { return addr.BitLen() == s.Family.Width() && addr.Zone() == "" }
	if s.Cursor.IsValid() && !isOurs(s.Cursor) {
		return corrupt("has a cursor that is not of the family")
	}
	if len(s.Pieces) == 0 || s.Pieces[0].From != s.Family.whole().Addr() {
		return corrupt("does not start at the family's first address")
	}
	for i, p := range s.Pieces {
		switch {
		case !isOurs(p.From), i > 0 && !s.Pieces[i-1].From.Less(p.From):
			return corrupt("is not in order")
		case p.ID == "" && len(s.Pieces) > 1:
			return corrupt("has a piece without a record beside others")
		case p.ID != "" && len(p.Free) > 0:
			return corrupt("has a piece in the head and in a record")
		case p.Size < 0:
			return corrupt("has a piece of a negative size")
		}
	}
	return nil
}

// Counts returns the counts of the head, as [Space.Counts] returned them when it was made. The result is the
// caller's.
func (h *Head) Counts() []Counts {
	counts := make([]Counts, 0, numFamilies)
	for _, s := range h.Spaces {
		counts = append(counts, s.Counts)
	}
	return append(counts, h.Left...)
}

// PieceIDs returns the IDs of the pieces that stand in records of their own. The result is the caller's.
func (h *Head) PieceIDs() []string {
	var ids []string
	for _, s := range h.Spaces {
		for _, p := range s.Pieces {
			if p.ID != "" {
				ids = append(ids, p.ID)
			}
		}
	}
	return ids
}

// tallies are those of a head that was checked.
func (h *Head) tallies() tallies {
	var t tallies
	t.records = [numCounters]int{
		Expiring: h.Expiring, Aside: h.Aside, Delegated: h.Delegated, Holding: h.Holding, Reserved: h.Reservations,
		Shared: h.Shares,
	}
	for _, s := range h.Spaces {
		uses := [numUses]cidr.Count{Cooling: s.Cooling, Kept: s.Kept}
		t.families[s.Family] = tally{uses, s.OutOfRange, s.Cursor}
	}
	for _, left := range h.Left {
		t.families[left.Family].outOfRange = left.OutOfRange
	}
	return t
}

// Encode returns the head that has the space as it is now, and what the commit of that head does to the records
// of pieces. base is the revision of the head that is replaced, 0 if there is none: IDs of new pieces are made
// of it, and are not used by any other commit that succeeds, because no two replace the same revision.
//
// The space stays as it is. If the commit succeeds, [Space.Committed] is to be called before anything else is
// done. If it does not, the changes are still there: [Space.Rollback] undoes them.
//
// Errors: [ErrCorrupt] after a failed Load. Cost: O(bytes), about 1 KiB while the whole space is encoded in
// that, otherwise O(changes + pieces), and now and then a piece of at most 512 KiB.
func (s *Space) Encode(base int64) (Head, []PieceWrite, error) {
	if s.broken {
		return Head{}, nil, errBroken
	}
	counts := s.Counts()
	records := &s.tallies.records
	h := Head{
		Spaces: make([]headSpace, len(s.families)), Left: counts[len(s.families):],
		Expiring: records[Expiring], Aside: records[Aside], Delegated: records[Delegated], Holding: records[Holding],
		Reservations: records[Reserved], Shares: records[Shared], Owned: s.Owned(),
	}
	d := &draft{limits: s.limits, base: base}
	for i, f := range s.families {
		pieces, err := f.nextPieces(s.journal, d)
		if err != nil {
			return Head{}, nil, err
		}
		h.Spaces[i] = headSpace{counts[i], s.tallies.families[f.family].cursor, pieces}
	}
	return h, d.writes, nil
}

// Committed tells the space that the head that the last [Space.Encode] returned has been committed. The
// transaction ends, and what was done in it stays.
func (s *Space) Committed(h Head) {
	for i, f := range s.families {
		if i < len(h.Spaces) {
			f.pieces, f.rewrite = h.Spaces[i].Pieces, false
		}
	}
	s.forget()
}

// Missing returns the IDs of the piece records that [Space.Load] needs for h, in order: those that the space
// does not know. h has been checked. Cost: O(pieces × log pieces + changes).
func (s *Space) Missing(h *Head) []string {
	var ids []string
	for i, f := range s.families {
		if i >= len(h.Spaces) {
			break
		}
		pieces := h.Spaces[i].Pieces
		for j, p := range pieces {
			if _, known := f.known(pieces, j); p.ID != "" && !known {
				ids = append(ids, p.ID)
			}
		}
	}
	return ids
}

// Load makes the space what a head of the same rules says, after it has undone what is not committed. pieces has
// the data of the records that [Space.Missing] named, by ID. The space keeps parts of h, which must not be
// changed any more.
//
// The only error is [ErrCorrupt]: h is not what [Head.Check] wants, a record is missing, an encoding or a change
// cannot be read, or the pieces have another number of free addresses than the head counts.
//
// After an error the space is in no defined state, and says so: Take, Free and Encode return ErrCorrupt until a
// Load succeeds, for which every piece is missing. Until then the results of the other methods mean nothing.
//
// Cost: O(changes that are new to the space + bytes of the records + pieces).
func (s *Space) Load(h *Head, pieces map[string][]byte) error {
	s.Rollback(Mark{})
	err := s.load(h, pieces)
	s.broken = err != nil
	for _, f := range s.families {
		f.rewrite = s.broken
	}
	return err
}

func (s *Space) load(h *Head, records map[string][]byte) error {
	if err := h.Check(s.familyList()); err != nil {
		return err
	}
	for i, f := range s.families {
		if err := f.load(h.Spaces[i].Pieces, records); err != nil {
			return err
		}
		if want, got := h.Spaces[i].Free, f.free.Free(); got != want {
			return fmt.Errorf("%w: the head counts %v free %v addresses, its pieces have %v",
				ErrCorrupt, want, f.family, got)
		}
	}
	s.tallies = h.tallies()
	s.loadOwned(h.Owned)
	return nil
}

func (s *Space) familyList() []Family {
	families := make([]Family, len(s.families))
	for i, f := range s.families {
		families[i] = f.family
	}
	return families
}
