package pool

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Snapshot is a whole pool as of one moment: to draw, to look at, and to keep or move as JSON. It belongs to the
// caller. The zero Snapshot describes no pool. A copy shares its slices.
type Snapshot struct {
	Info
	// Allocations are what is held. Cooling are released allocations whose addresses are withheld until Expires. Kept are
	// reservations whose owners hold nothing. All are in the order of the first prefix.
	Allocations, Cooling, Kept []Allocation
	// Next is where a pool with [NextFree] looks first: at most one address for each family.
	Next []netip.Addr
}

// Snapshot reads the whole pool, as of one moment.
//
// Errors: [ErrBusy] if other processes changed the pool each time before all was read; [ErrNoPool]; those of the
// store. Cost: O(allocations), in memory too.
func (p *Pool) Snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := exclusively(ctx, func(a *attempt) (err error) {
		s, err = a.snapshot(p)
		return err
	}, p)
	return s, p.failed("snapshot", "", err)
}

func (a *attempt) snapshot(p *Pool) (s Snapshot, err error) {
	err = a.walk(p, func(info Info) error {
		s = Snapshot{Info: info, Next: p.home.state().space.Cursors()}
		return nil
	}, func(h *holding) error {
		s.add(h)
		return nil
	})
	if err != nil {
		return Snapshot{}, err
	}
	s.sort()
	return s, nil
}

// add adds what a record says.
func (s *Snapshot) add(h *holding) {
	list := &s.Allocations
	switch h.use() {
	case space.Cooling:
		list = &s.Cooling
	case space.Kept:
		list = &s.Kept
	}
	*list = append(*list, h.Allocation)
}

func (s *Snapshot) sort() {
	for _, list := range [][]Allocation{s.Allocations, s.Cooling, s.Kept} {
		slices.SortFunc(list, func(a, b Allocation) int {
			byAddr := func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) }
			return cmp.Or(slices.CompareFunc(a.Prefixes, b.Prefixes, byAddr), strings.Compare(a.Owner, b.Owner))
		})
	}
}

// Walk reads the whole pool, as of one moment, without holding it in memory. It calls begin with a description of the
// pool, and then each for every allocation that is held, cooling down or kept, in no particular order. If other
// processes change the pool meanwhile, Walk starts again by calling begin: discard what was reported before.
//
// The allocations belong to the caller. The functions must not use the pool: other calls through this handle wait for
// them. An error of a function ends Walk, which returns it wrapped.
//
// Errors and cost: as for [Pool.Snapshot]; memory use does not depend on the size of the pool.
func (p *Pool) Walk(ctx context.Context, begin func(Info) error, each func(a Allocation, cooling bool) error) error {
	return p.failed("walk", "", exclusively(ctx, func(a *attempt) error {
		return a.walk(p, begin, func(h *holding) error { return each(h.Allocation, h.cooling) })
	}, p))
}

// walk is Walk. What each gets is its own until it returns, and what that refers to for ever.
func (a *attempt) walk(p *Pool, begin func(Info) error, each func(*holding) error) error {
	for range p.options.Attempts {
		d, err := a.present(p)
		if err != nil {
			return err
		}
		info, r := p.infoNow(), d.state().rules
		if err := begin(info); err != nil {
			return err
		}
		err = p.home.each(a.ctx, func(h *holding) error {
			if h.shared {
				return nil // its owners have it
			}
			return each(r.current(h))
		})
		if err != nil {
			return err
		}
		if same, err := p.home.isAt(a.ctx, info.Revision); err != nil || same {
			return err
		}
	}
	return fmt.Errorf("%w: the pool did not stay the same for long enough to read it all", ErrBusy)
}

// parentage is where the pool was delegated from.
func (i Info) parentage() parentage { return parentage{Pool: i.Parent, Grants: i.Grants} }

// snapshotText is the JSON form of a Snapshot.
type snapshotText struct {
	Format      int              `json:"format"`
	Name        string           `json:"name,omitempty"`
	Spec        Spec             `json:"spec"`
	Created     time.Time        `json:"created,omitzero"`
	Revision    int64            `json:"revision"`
	Parent      *parentage       `json:"parent,omitempty"`
	Withheld    []string         `json:"withheld,omitempty"`
	Next        []netip.Addr     `json:"next,omitempty"`
	Stats       []Stats          `json:"stats"`
	Allocations []allocationText `json:"allocations"`
}

type allocationText struct {
	Owner      string            `json:"owner"`
	State      string            `json:"state"`
	Prefixes   []netip.Prefix    `json:"prefixes"`
	Generation int64             `json:"generation,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	Scope      string            `json:"scope,omitempty"`
	Share      string            `json:"share,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
	Reserved   bool              `json:"reserved,omitempty"`
}

// MarshalJSON writes the snapshot for people and for [Import]: its spec as [Spec.MarshalJSON] writes it, and each
// allocation with its owner, prefixes, state ("allocated", "cooling", "declined" or "reserved") and times.
// docs/formats.md in the repository describes the format.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	text := s.header()
	for a := range s.texts() {
		text.Allocations = append(text.Allocations, a)
	}
	return json.Marshal(text)
}

// header is the JSON form without the allocations.
func (s *Snapshot) header() snapshotText {
	text := snapshotText{
		Format: snapshotFormat, Name: s.Name, Spec: s.Spec, Created: s.Created, Revision: s.Revision,
		Withheld: formatRanges(s.Withheld), Next: s.Next, Stats: s.Stats, Allocations: []allocationText{},
	}
	if parent := s.parentage(); !parent.isZero() {
		text.Parent = &parent
	}
	return text
}

// texts iterates over the JSON forms of the allocations.
func (s *Snapshot) texts() iter.Seq[allocationText] {
	return func(yield func(allocationText) bool) {
		for i, list := range [][]Allocation{s.Allocations, s.Cooling, s.Kept} {
			for _, a := range list {
				state := (&holding{Allocation: a, cooling: i > 0}).state()
				if !yield(allocationText{
					a.Owner, state, a.Prefixes, a.Generation, a.Created, a.Expires, a.Scope, a.Share, a.Labels, a.Child,
					a.Reserved,
				}) {
					return
				}
			}
		}
	}
}

// UnmarshalJSON reads what MarshalJSON writes, and nothing else. Unknown members, member names that differ in case,
// duplicate members and text that is not UTF-8 are errors that wrap [ErrInvalid]. A snapshot of a newer release is
// refused with [ErrNewerFormat]. UnmarshalJSON checks the form but not the rules; [Import] checks those. Cost:
// O(len(b)).
func (s *Snapshot) UnmarshalJSON(b []byte) error {
	read, ok := readExport(b)
	if !ok {
		var err error
		if read, err = readSnapshot(b); err != nil {
			return err
		}
	}
	*s = read
	return nil
}

// readSnapshot reads any snapshot.
func readSnapshot(b []byte) (s Snapshot, err error) {
	var text snapshotText
	err = unmarshalStrict(b, &text)
	if err = checkFormat(snapshotFormat, "the snapshot", b, text.Format, err); err != nil {
		return s, fmt.Errorf("a pool's snapshot: %w", err)
	}
	s = Snapshot{
		Info: Info{Name: text.Name, Spec: text.Spec, Created: text.Created, Revision: text.Revision, Stats: text.Stats},
		Next: text.Next,
	}
	if text.Parent != nil {
		s.Parent, s.Grants = text.Parent.Pool, text.Parent.Grants
	}
	if s.Withheld, err = parseRanges(text.Withheld); err != nil {
		return s, err
	}
	for _, a := range text.Allocations {
		h, err := a.holding()
		if err != nil {
			return s, err
		}
		s.add(&h)
	}
	s.Holders = len(s.Allocations)
	return s, nil
}

// holding returns what the text says, or an error for a state that there is not.
func (a *allocationText) holding() (holding, error) {
	h := holding{Allocation: Allocation{
		Owner: a.Owner, Prefixes: a.Prefixes, Generation: a.Generation, Created: a.Created, Expires: a.Expires,
		Scope: a.Scope, Share: a.Share, Labels: a.Labels, Child: a.Child, Reserved: a.Reserved || a.State == stateReserved,
	}}
	switch a.State {
	case stateAllocated:
		return h, nil
	case stateCooling, stateDeclined, stateReserved:
		h.cooling, h.Declined, h.Kept = true, a.State == stateDeclined, h.Reserved
		return h, nil
	}
	return h, invalid("what %q has is in the state %q, want %q",
		a.Owner, a.State, []string{stateAllocated, stateCooling, stateDeclined, stateReserved})
}
