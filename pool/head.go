package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

// headFormat is the version of the head's data. A higher one is of a later release, and is refused.
const headFormat = 1

// headData is what the record of a head has as its data.
type headData struct {
	Format int             `json:"format"`
	Spec   json.RawMessage `json:"spec"`
	Spaces []headSpace     `json:"spaces"`
	// Foreign are the addresses of the ranges that are foreign in the pool's network.
	Foreign []string `json:"foreign,omitempty"`
	// Left counts what is held of families that the spec does not have.
	Left []FamilyStats `json:"left,omitempty"`
	// Expiring and Strays count records; see tallies.
	Expiring int `json:"expiring,omitempty"`
	Strays   int `json:"strays,omitempty"`
	// Parent is where the pool was carved from.
	Parent *Parent `json:"parent,omitempty"`
}

// headSpace is one family of it: counts for people, pieces for machines.
type headSpace struct {
	FamilyStats
	Cursor netip.Addr `json:"cursor,omitzero"` // see tally
	Pieces []piece    `json:"pieces"`
}

// Parent says where a pool was carved from; see [Carve]. It is a value; it may be copied and compared.
type Parent struct {
	// Pool is the name of the parent.
	Pool string `json:"pool"`
	// Owner is who holds, in the parent, what the pool hands out.
	Owner string `json:"owner"`
}

func headKey(pool string) store.Key { return store.Key{Kind: store.KindPool, Pool: pool} }

// getHead reads the head of a pool. If there is none the error is [ErrNoPool].
func getHead(ctx context.Context, s store.Store, pool string) (store.Record, error) {
	head, err := s.Get(ctx, headKey(pool))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return head, ErrNoPool
	case err == nil && head.State == stateImporting:
		return head, ErrUnfinished
	}
	return head, err
}

func parseHead(r store.Record) (headData, Spec, error) {
	var data headData
	var spec Spec
	if err := json.Unmarshal(r.Data, &data); err != nil {
		return data, spec, fmt.Errorf("%w: the head of the pool: %w", ErrCorrupt, err)
	}
	if data.Format != headFormat {
		return data, spec, fmt.Errorf("%w: the head of the pool has format %d, want %d", ErrCorrupt, data.Format, headFormat)
	}
	if err := json.Unmarshal(data.Spec, &spec); err != nil {
		return data, spec, badSpec(err)
	}
	families := spec.Families()
	if len(families) != len(data.Spaces) {
		return data, spec, fmt.Errorf("%w: the head of the pool has %d families, its specification %d", ErrCorrupt, len(data.Spaces), len(families))
	}
	for i, s := range data.Spaces {
		if s.Family != families[i] || !inOrder(s.Pieces, families[i]) {
			return data, spec, fmt.Errorf("%w: the head of the pool has no free space for %v, or not in order", ErrCorrupt, families[i])
		}
	}
	return data, spec, nil
}

func badSpec(err error) error {
	return fmt.Errorf("%w: the specification of the pool: %w", ErrCorrupt, err)
}

// inOrder tells whether pieces cover all addresses of the family, each only once.
func inOrder(pieces []piece, family Family) bool {
	for i, p := range pieces {
		if p.From.BitLen() != family.Width() || p.From.Zone() != "" || i > 0 && !pieces[i-1].From.Less(p.From) {
			return false
		}
	}
	return len(pieces) > 0 && pieces[0].From == wholeOf(family).From()
}

// tallies are those of a head.
func (d *headData) tallies() tallies {
	all := tallies{expiring: d.Expiring, strays: d.Strays}
	for _, s := range d.Spaces {
		all.families[s.Family.index()] = tally{s.Cooling, s.OutOfRange, s.Cursor}
	}
	for _, left := range d.Left {
		all.families[left.Family.index()].outOfRange = left.OutOfRange
	}
	return all
}

// ledger returns a ledger for the spec of a head, with nothing taken.
func (d *headData) ledger(spec Spec, random func() uint64) (*ledger, error) {
	foreign, err := parseRanges(d.Foreign)
	if err != nil {
		return nil, badSpec(err)
	}
	resolved, err := resolveSpec(spec, foreign)
	if err != nil {
		return nil, badSpec(err)
	}
	l, err := newLedger(resolved, random)
	if err != nil {
		return nil, badSpec(err)
	}
	return l, nil
}

// encodeHead returns the data of the head with the given pieces, one list a family.
func (l *ledger) encodeHead(pieces [][]piece, parent *Parent) (json.RawMessage, error) {
	data := headData{
		Format: headFormat, Spec: l.spec.text, Foreign: formatRanges(l.spec.foreign),
		Expiring: l.tallies.expiring, Strays: l.tallies.strays, Parent: parent,
	}
	stats := l.stats()
	for i, s := range l.spaces {
		cursor := l.tallies.families[s.family.index()].cursor
		data.Spaces = append(data.Spaces, headSpace{FamilyStats: stats[i], Cursor: cursor, Pieces: pieces[i]})
	}
	data.Left = stats[len(l.spaces):]
	return json.Marshal(data)
}

// nextHead prepares what the journal's changes make of the head: its data and the pieces, and in d the writes for
// these.
func (l *ledger) nextHead(d *draft) (json.RawMessage, [][]piece, error) {
	pieces := make([][]piece, len(l.spaces))
	for i, s := range l.spaces {
		var changes []change
		for _, c := range l.journal {
			if c.space == i {
				changes = append(changes, c)
			}
		}
		pieces[i] = s.pieces
		if len(changes) == 0 && len(s.pieces) > 0 {
			continue
		}
		var err error
		if pieces[i], err = s.nextPieces(changes, d); err != nil {
			return nil, nil, err
		}
	}
	data, err := l.encodeHead(pieces, d.parent)
	return data, pieces, err
}

// committed says that what nextHead prepared has been committed.
func (l *ledger) committed(pieces [][]piece) {
	for i, s := range l.spaces {
		s.pieces = pieces[i]
	}
	l.forget()
}
