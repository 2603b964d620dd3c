package pool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool/internal/space"
	"github.com/ipalloc/ipalloc/store"
)

// The states of a head.
const (
	stateActive = "active"
	// stateImporting is that of the head of a pool whose records are not all there yet.
	stateImporting = "importing"
)

// headData is what the record of a head has as its data.
type headData struct {
	Format int `json:"format"`
	encodedRules
	// Rules is the name of the record that has the rules instead, if they are large.
	Rules string `json:"rules,omitempty"`
	space.Head
	// History says which records the history has; zero as long as nothing was recorded.
	History ledger `json:"history,omitzero"`
	// Fence is the revision that a commit has replaced after which nothing may take effect that was sent before it. What
	// a handle has asked others for that knew no later head is left to that handle.
	Fence int64 `json:"fence,omitempty"`
	// Parent is where the pool was delegated from.
	Parent *parentage `json:"parent,omitempty"`
}

// parentage is where a pool was delegated from; see [Delegate]. The zero parentage is that of a pool that was not.
type parentage struct {
	Pool   string  `json:"pool"`
	Grants []Grant `json:"grants"`
}

// Grant is an allocation in a parent that became part of a delegated pool. A Grant may be copied; the copy shares
// Prefixes.
type Grant struct {
	// Owner is the owner in the parent.
	Owner    string         `json:"owner"`
	Prefixes []netip.Prefix `json:"prefixes"`

	// Idle and Room are set by [Pool.Grants] only. Idle reports whether none of the grant is held or cooling down, so
	// that [Pool.Retract] can give it back. Room reports whether each of its prefixes has a free address.
	Idle bool `json:"-"`
	Room bool `json:"-"`
}

// isZero reports whether there is no parent.
func (p parentage) isZero() bool { return p.Pool == "" }

// granted is the set of all that the parent has granted.
func (p parentage) granted() *netipx.IPSet {
	var all []netip.Prefix
	for _, g := range p.Grants {
		all = append(all, g.Prefixes...)
	}
	return setOfPrefixes(all)
}

// grantOf returns the index of what the parent has granted to the owner; -1 if that is nothing.
func (p parentage) grantOf(owner string) int {
	return slices.IndexFunc(p.Grants, func(g Grant) bool { return g.Owner == owner })
}

// clone returns a copy that shares nothing with p.
func (p parentage) clone() parentage {
	p.Grants = slices.Clone(p.Grants)
	for i, g := range p.Grants {
		p.Grants[i].Prefixes = slices.Clone(g.Prefixes)
	}
	return p
}

// mostRules is the largest size in bytes of rules that stand in the head. Larger ones have a record of their own, so
// that a commit does not write them again.
const mostRules = 4 << 10

// state is a pool as one head has it: by which rules it hands out what.
type state struct {
	rules  *rules
	record string // that has the rules; empty if they stand in the head, or are not committed yet
	space  *space.Space
	parent parentage
	past   ledger // as it is committed; that of a state that is planned is not looked at
	fence  int64  // the same

	// What follows is memory for plans.
	view    view
	around  around
	scratch scratch
}

// newState returns the state of an empty pool.
func newState(r *rules, parent parentage, random func() uint64) (*state, error) {
	free, err := r.newSpace(random)
	if err != nil {
		return nil, err
	}
	s := &state{rules: r, space: free, parent: parent}
	s.view = view{rules: r, space: free, around: &s.around, scratch: &s.scratch}
	return s, nil
}

// encoded is a state as one commit writes it.
type encoded struct {
	data  json.RawMessage // of the head
	free  space.Head      // in it
	rules string          // the name of the record with the rules; empty if they stand in the head
	past  ledger
	fence int64
	// records are those of pieces and rules that the commit creates or deletes.
	records []space.PieceWrite
}

// encode returns what the commit writes that makes this the state of the pool. base is the revision of the head that it
// replaces; past says which records the history has then, and fence what was sent too early. The rules are written only
// if they are not there yet.
func (s *state) encode(base int64, past ledger, fence int64) (encoded, error) {
	free, pieces, err := s.space.Encode(base)
	if err != nil {
		return encoded{}, err
	}
	e := encoded{free: free, rules: s.record, records: pieces, past: past, fence: fence}
	data := headData{Format: headFormat, Head: free, History: past, Fence: fence}
	rules, err := s.rules.encoded()
	switch {
	case err != nil:
		return encoded{}, err
	case rules.size() <= mostRules:
		data.encodedRules = rules
	case e.rules == "":
		e.rules = rulesName(base)
		text, err := json.Marshal(rules)
		if err != nil {
			return encoded{}, err
		}
		e.records = append(e.records, space.PieceWrite{ID: e.rules, Data: text})
	}
	if data.Rules = e.rules; !s.parent.isZero() {
		data.Parent = &s.parent
	}
	e.data, err = json.Marshal(data)
	return e, err
}

// rulesName returns a name for the record of rules that no other record of the pool ever had: no two commits that
// succeed replace the same revision.
func rulesName(base int64) string { return strconv.FormatInt(base, 36) + ".rules" }

func headKey(pool string) store.Key { return store.Key{Kind: store.KindPool, Pool: pool} }

// getHead reads the head of a pool. If there is none the error is [ErrNoPool].
func getHead(ctx context.Context, s store.Store, pool string) (store.Record, error) {
	head, err := s.Get(ctx, headKey(pool))
	switch {
	case errors.Is(err, store.ErrNotFound) && !errors.Is(err, store.ErrUnknown):
		return head, ErrNoPool
	case err == nil && head.State == stateImporting:
		return head, cmp.Or(refuseNewerHead(head), ErrUnfinished)
	}
	return head, err
}

// decodeHead reads a head, of which neither the rules nor the free space need be readable.
func decodeHead(r store.Record) (*headData, error) {
	var h headData
	err := json.Unmarshal(r.Data, &h)
	if err = checkFormat(headFormat, headName, r.Data, h.Format, err); err != nil && !errors.Is(err, ErrNewerFormat) {
		err = corrupt(err)
	}
	if err != nil {
		return nil, err
	}
	return &h, nil
}

// check reports what is wrong with the free space in a head of a pool with these families.
func (h *headData) check(families []Family) error {
	in := make([]space.Family, len(families))
	for i, family := range families {
		in[i] = family.inSpace()
	}
	if err := h.Check(in); err != nil {
		return corrupt(err)
	}
	return nil
}

// checkPieces reports what is wrong with the pieces of free space in a head, of whatever families.
func (h *headData) checkPieces() error {
	in := make([]Family, len(h.Spaces))
	for i, counts := range h.Counts()[:len(h.Spaces)] {
		if int(counts.Family) >= len(families) {
			return corrupt(invalid("%v is not a family", counts.Family))
		}
		in[i] = families[counts.Family]
	}
	return h.check(in)
}

// readRules returns the rules of a head as the store has them. The error wraps [store.ErrNotFound] if their record is
// gone, as it is when the head has been replaced.
func (h *headData) readRules(ctx context.Context, s store.Store, pool string) (encodedRules, error) {
	if h.Rules == "" {
		return h.encodedRules, nil
	}
	record, err := s.Get(ctx, store.Key{Kind: store.KindSpace, Pool: pool, Name: h.Rules})
	if err != nil {
		return encodedRules{}, err
	}
	var e encodedRules
	if err := json.Unmarshal(record.Data, &e); err != nil {
		return e, badSpec(err)
	}
	return e, nil
}

// records returns the names of the records of pieces and rules that the head names.
func (h *headData) records() []string {
	names := h.PieceIDs()
	if h.Rules != "" {
		names = append(names, h.Rules)
	}
	return names
}

// errGone says that a record which a head names is not there.
var errGone = fmt.Errorf("%w: the head of the pool names a record that is not there", ErrCorrupt)

func badSpec(err error) error {
	return fmt.Errorf("%w: the specification of the pool: %w", ErrCorrupt, err)
}

// corrupt is the error of a head that cannot be read.
func corrupt(err error) error { return fmt.Errorf("%w: %s: %w", ErrCorrupt, headName, err) }

// parentOf is the parent in a head; zero if there is none.
func (h *headData) parentOf() parentage {
	if h.Parent == nil {
		return parentage{}
	}
	return *h.Parent
}

// describe returns what a head says of its pool or, if that head has been replaced, what the present one does.
func describe(ctx context.Context, s store.Store, head store.Record) (Info, error) {
	for {
		info, err := infoOf(ctx, s, head)
		if !errors.Is(err, store.ErrNotFound) {
			return info, err
		}
		newer, err := getHead(ctx, s, head.Pool)
		if err == nil && newer.Revision == head.Revision {
			err = errGone
		}
		if err != nil {
			return Info{}, err
		}
		head = newer
	}
}

// infoOf describes the pool of a head. The error wraps [store.ErrNotFound] if a record is gone that the head names.
func infoOf(ctx context.Context, s store.Store, head store.Record) (Info, error) {
	h, err := decodeHead(head)
	if err != nil {
		return Info{}, err
	}
	e, err := h.readRules(ctx, s, head.Pool)
	if err != nil {
		return Info{}, err
	}
	spec, withheld, err := e.parse()
	if err != nil {
		return Info{}, badSpec(err)
	}
	if err := h.check(spec.AllFamilies()); err != nil {
		return Info{}, err
	}
	parent, stats := h.parentOf(), statsOf(h.Counts())
	return Info{
		Name: head.Pool, Spec: spec, Created: head.Created, Revision: head.Revision, Stats: stats,
		Quotas:  quotaUses(spec.Quotas, stats, h.Owned),
		Holders: h.Holding, Reservations: h.Reservations, History: int(h.History.size()),
		Withheld: withheld, Renumbering: e.Renumbering,
		Parent: parent.Pool, Grants: parent.Grants,
	}, nil
}
