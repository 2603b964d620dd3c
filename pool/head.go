package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// headFormat is the version of the head's data. A higher one is of a later release, and is refused.
const headFormat = 1

// The states of a head.
const (
	stateActive = "active"
	// stateImporting is that of the head of a pool whose records are not all there yet.
	stateImporting = "importing"
)

// headData is what the record of a head has as its data.
type headData struct {
	Format int             `json:"format"`
	Spec   json.RawMessage `json:"spec"`
	space.Head
	// Withheld are the addresses that the pool may not hand out because others decide so.
	Withheld []string `json:"withheld,omitempty"`
	// Parent is where the pool was carved from.
	Parent *Parent `json:"parent,omitempty"`
}

// Parent says which pool another one was carved from, and what that granted for it; see [Carve]. The zero Parent is
// that of a pool that was not carved. A Parent may be copied; the copy shares Grants.
type Parent struct {
	// Pool is the name of the parent.
	Pool string `json:"pool"`
	// Grants are what the parent has granted for the pool, in the order in which it did.
	Grants []Grant `json:"grants"`
}

// Grant is what an owner holds in a parent and a pool was made of. A Grant may be copied; the copy shares Prefixes.
type Grant struct {
	Owner    string         `json:"owner"`
	Prefixes []netip.Prefix `json:"prefixes"`
}

// isZero reports whether there is no parent.
func (p Parent) isZero() bool { return p.Pool == "" }

// granted is the set of all that the parent has granted.
func (p Parent) granted() *netipx.IPSet {
	var all []netip.Prefix
	for _, g := range p.Grants {
		all = append(all, g.Prefixes...)
	}
	return setOfPrefixes(all)
}

// grantOf returns the index of what the parent has granted to the owner; -1 if that is nothing.
func (p Parent) grantOf(owner string) int {
	return slices.IndexFunc(p.Grants, func(g Grant) bool { return g.Owner == owner })
}

// clone returns a copy that shares nothing with p.
func (p Parent) clone() Parent {
	p.Grants = slices.Clone(p.Grants)
	for i, g := range p.Grants {
		p.Grants[i].Prefixes = slices.Clone(g.Prefixes)
	}
	return p
}

// state is a pool as one head has it: by which rules it hands out what.
type state struct {
	rules  *rules
	space  *space.Space
	parent Parent

	// What follows is memory for plans.
	view    view
	around  around
	scratch scratch
}

// newState returns the state of an empty pool.
func newState(r *rules, parent Parent, random func() uint64) (*state, error) {
	free, err := r.newSpace(random)
	if err != nil {
		return nil, err
	}
	s := &state{rules: r, space: free, parent: parent}
	s.view = view{rules: r, space: free, around: &s.around, scratch: &s.scratch}
	return s, nil
}

// encode returns the data of a head with this state, and what to do with the records of pieces. base is the
// revision of the head that it replaces.
func (s *state) encode(base int64) (json.RawMessage, space.Head, []space.PieceWrite, error) {
	head, pieces, err := s.space.Encode(base)
	if err != nil {
		return nil, head, nil, err
	}
	data := headData{Format: headFormat, Spec: s.rules.text, Head: head, Withheld: formatRanges(s.rules.withheld)}
	if !s.parent.isZero() {
		data.Parent = &s.parent
	}
	text, err := json.Marshal(data)
	return text, head, pieces, err
}

func headKey(pool string) store.Key { return store.Key{Kind: store.KindPool, Pool: pool} }

// getHead reads the head of a pool. If there is none the error is [ErrNoPool].
func getHead(ctx context.Context, s store.Store, pool string) (store.Record, error) {
	head, err := s.Get(ctx, headKey(pool))
	switch {
	case errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrUnknown):
		return head, ErrNoPool
	case err == nil && head.State == stateImporting:
		return head, ErrUnfinished
	}
	return head, err
}

// parsedHead is a head that has been read.
type parsedHead struct {
	headData
	spec     Spec
	withheld []netipx.IPRange
}

// parseHead reads a head.
func parseHead(r store.Record) (*parsedHead, error) {
	h, err := parseSpec(r)
	if err != nil {
		return nil, err
	}
	var families []space.Family
	for _, family := range h.spec.Families() {
		families = append(families, family.inSpace())
	}
	if err := h.Check(families); err != nil {
		return nil, corrupt(err)
	}
	return h, nil
}

// parseSpec reads a head, of which the free space need not be readable.
func parseSpec(r store.Record) (*parsedHead, error) {
	var h parsedHead
	if err := json.Unmarshal(r.Data, &h.headData); err != nil {
		return nil, fmt.Errorf("%w: the head of the pool: %w", ErrCorrupt, err)
	}
	if h.Format != headFormat {
		return nil, fmt.Errorf("%w: the head of the pool has format %d, want %d", ErrCorrupt, h.Format, headFormat)
	}
	if err := json.Unmarshal(h.Spec, &h.spec); err != nil {
		return nil, badSpec(err)
	}
	var err error
	if h.withheld, err = parseRanges(h.Withheld); err != nil {
		return nil, badSpec(err)
	}
	return &h, nil
}

func badSpec(err error) error {
	return fmt.Errorf("%w: the specification of the pool: %w", ErrCorrupt, err)
}

// corrupt makes the free space's way to say that it cannot be read this package's.
func corrupt(err error) error { return fmt.Errorf("%w: the head of the pool: %w", ErrCorrupt, err) }

// parentOf is the parent in a head; zero if there is none.
func (h *parsedHead) parentOf() Parent {
	if h.Parent == nil {
		return Parent{}
	}
	return *h.Parent
}

// rules are those of the head.
func (h *parsedHead) rules() (*rules, error) {
	r, err := newRules(h.spec, h.withheld)
	if err != nil {
		return nil, badSpec(err)
	}
	return r, nil
}

// infoOf describes the pool of a head.
func infoOf(head store.Record) (Info, error) {
	h, err := parseHead(head)
	if err != nil {
		return Info{}, err
	}
	return Info{
		Name: head.Pool, Spec: h.spec, Created: head.Created, Revision: head.Revision,
		Stats: statsOf(h.Counts()), Withheld: h.withheld, Parent: h.parentOf(),
	}, nil
}
