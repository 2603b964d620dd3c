package pool

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Snapshot is a whole pool as of one moment: for pictures, for a look, and to be kept or moved as JSON. It is the caller's.
type Snapshot struct {
	Info
	// Allocations are what is held, and Cooling what was released and is withheld until its Expires; each in the order of its first prefix.
	Allocations, Cooling []Allocation
	// Next is where a pool of [NextFree] looks first, at most one address a family.
	Next []netip.Addr
}

// Snapshot reads the whole pool, as of one moment.
//
// Errors: [ErrBusy] if other processes changed the pool each time before all was read; [ErrNoPool]; those of the store. Cost:
// O(allocations), in memory too.
func (p *Pool) Snapshot(ctx context.Context) (Snapshot, error) {
	var s Snapshot
	err := p.exclusively(ctx, func(ctx context.Context) (err error) {
		s, err = p.readAll(ctx)
		return err
	})
	return s, p.failed("snapshot", "", err)
}

func (p *Pool) readAll(ctx context.Context) (Snapshot, error) {
	if p.store == nil {
		s := Snapshot{Info: p.infoInMemory()}
		return s, s.fill(ctx, p)
	}
	for range p.options.Attempts {
		if err := p.catchUp(ctx); err != nil {
			return Snapshot{}, err
		}
		info, err := infoOf(p.head)
		if err != nil {
			return Snapshot{}, err
		}
		s := Snapshot{Info: info}
		if err := s.fill(ctx, p); err != nil {
			return Snapshot{}, err
		}
		head, err := getHead(ctx, p.store, p.name)
		if err != nil {
			return Snapshot{}, err
		}
		if head.Revision == s.Revision {
			return s, nil
		}
	}
	return Snapshot{}, fmt.Errorf("%w: the pool did not stay the same for long enough to read it all", ErrBusy)
}

// fill adds the records, and what else the info does not have.
func (s *Snapshot) fill(ctx context.Context, p *Pool) error {
	for _, t := range p.ledger.tallies.families {
		if t.cursor.IsValid() {
			s.Next = append(s.Next, t.cursor)
		}
	}
	for h, err := range p.all(ctx) {
		switch {
		case err != nil:
			return err
		case h.live():
			s.Allocations = append(s.Allocations, h.Allocation.clone())
		default:
			s.Cooling = append(s.Cooling, h.Allocation.clone())
		}
	}
	for _, list := range [][]Allocation{s.Allocations, s.Cooling} {
		slices.SortFunc(list, func(a, b Allocation) int {
			byAddr := slices.CompareFunc(a.Addrs(), b.Addrs(), netip.Addr.Compare)
			return cmp.Or(byAddr, strings.Compare(a.Owner, b.Owner))
		})
	}
	return nil
}

// snapshotText is the JSON form of a Snapshot.
type snapshotText struct {
	Format      int              `json:"format"`
	Name        string           `json:"name,omitempty"`
	Spec        Spec             `json:"spec"`
	Created     time.Time        `json:"created,omitzero"`
	Revision    int64            `json:"revision"`
	Parent      *Parent          `json:"parent,omitempty"`
	Foreign     []string         `json:"foreign,omitempty"`
	Next        []netip.Addr     `json:"next,omitempty"`
	Stats       Stats            `json:"stats"`
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
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
}

const snapshotFormat = 1

// MarshalJSON writes the snapshot for people and for [Import]: its spec as [Spec.MarshalJSON] has it, and each allocation with its owner, prefixes, state
// ("allocated" or "cooling") and times.
func (s Snapshot) MarshalJSON() ([]byte, error) {
	text := snapshotText{
		Format: snapshotFormat, Name: s.Name, Spec: s.Spec, Created: s.Created, Revision: s.Revision,
		Foreign: formatRanges(s.Foreign), Next: s.Next, Stats: s.Stats, Allocations: []allocationText{},
	}
	if s.Parent != (Parent{}) {
		text.Parent = &s.Parent
	}
	add := func(state string, list []Allocation) {
		for _, a := range list {
			text.Allocations = append(text.Allocations,
				allocationText{a.Owner, state, a.Prefixes, a.Generation, a.Created, a.Expires, a.Scope, a.Labels, a.Child})
		}
	}
	add(stateAllocated, s.Allocations)
	add(stateCooling, s.Cooling)
	return json.Marshal(text)
}

// UnmarshalJSON reads what MarshalJSON writes. It checks the form, and not the rules; [Import] does.
func (s *Snapshot) UnmarshalJSON(b []byte) error {
	var text snapshotText
	if err := json.Unmarshal(b, &text); err != nil {
		return fmt.Errorf("a pool's snapshot: %w", err)
	}
	if text.Format != snapshotFormat {
		return invalid("the snapshot has the format %d, want %d", text.Format, snapshotFormat)
	}
	read := Snapshot{Info: Info{Name: text.Name, Spec: text.Spec, Created: text.Created, Revision: text.Revision, Stats: text.Stats}, Next: text.Next}
	if text.Parent != nil {
		read.Parent = *text.Parent
	}
	var err error
	if read.Foreign, err = parseRanges(text.Foreign); err != nil {
		return err
	}
	for _, a := range text.Allocations {
		allocation := Allocation{a.Owner, a.Prefixes, a.Generation, a.Created, a.Expires, a.Scope, a.Labels, a.Child}
		switch a.State {
		case stateAllocated:
			read.Allocations = append(read.Allocations, allocation)
		case stateCooling:
			read.Cooling = append(read.Cooling, allocation)
		default:
			return invalid("what %q has is in the state %q, want %q or %q", a.Owner, a.State, stateAllocated, stateCooling)
		}
	}
	*s = read
	return nil
}

// Export writes the whole pool as JSON, indented, as of one moment; see [Snapshot.MarshalJSON]. Errors and cost: as for [Pool.Snapshot], and those
// of w.
func (p *Pool) Export(ctx context.Context, w io.Writer) error {
	s, err := p.Snapshot(ctx)
	if err != nil {
		return err
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return p.failed("export", "", encoder.Encode(s))
}

// Import makes a pool of that name in the store which is what the snapshot says: the same spec, and the same held and withheld by the same
// owners until the same times, so that a pool moves from one store to another. Each allocation gets a new generation. If the spec names a
// network the pool comes into that, and respects what is foreign there. One that was carved from another is imported under its own name, after its
// parent; clear [Info.Parent] to import it as a pool by itself.
//
// All of it is checked before anything is written. A pool that is too large for one commit is written in several; until the last one it cannot be
// opened ([ErrUnfinished]). If that does not come, import it again, or [Delete] it.
//
// Errors: [ErrInvalid] if the snapshot breaks a rule: two that hold one address, an owner twice, a prefix with host bits; [ErrExists];
// [ErrOverlap] in the network; those of the store. Cost: one commit, or one for every 4,096 allocations.
func Import(ctx context.Context, s store.Store, name string, snapshot Snapshot, options *Options) (*Pool, error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		err = p.importAll(ctx, &snapshot)
	}
	if err != nil {
		return nil, &Error{Op: "import", Pool: name, Err: storeError(err)}
	}
	return p, nil
}

func (p *Pool) importAll(ctx context.Context, s *Snapshot) error {
	if err := s.Spec.Validate(); err != nil {
		return err
	}
	if err := s.check(p.name); err != nil {
		return err
	}
	held, err := s.holdings()
	if err != nil {
		return err
	}
	return p.retry(ctx, func() error {
		var n *network
		if s.Spec.Network != "" {
			if n, err = readNetwork(ctx, p.store, s.Spec.Network); err != nil {
				return err
			}
		}
		if err := p.admitImport(ctx, s, n); err != nil {
			return err
		}
		l, err := p.emptyLedger(s.Spec, n.foreignIn(s.Spec))
		if err != nil {
			return err
		}
		if err := l.holdAll(held); err != nil {
			return err
		}
		for _, addr := range s.Next {
			l.tallies.families[FamilyOf(addr).index()].cursor = addr
		}
		return p.write(ctx, s, l, held, n)
	})
}

// admitImport finds a place for the pool: in its network, or in what its parent has granted for it.
func (p *Pool) admitImport(ctx context.Context, s *Snapshot, n *network) error {
	switch {
	case s.Parent != (Parent{}):
		return p.checkParent(ctx, s.Parent, s.Spec)
	case n != nil:
		return n.admit(p.name, s.Spec)
	}
	return nil
}

// check finds what the head of a pool of that name must not have.
func (s *Snapshot) check(name string) error {
	if s.Parent != (Parent{}) {
		if err := validateName("parent's name", s.Parent.Pool); err != nil {
			return err
		}
		if err := validateOwner(s.Parent.Owner); err != nil {
			return err
		}
		if s.Parent.Pool == name {
			return invalid("the pool %q is its own parent", name)
		}
	}
	for _, addr := range s.Next {
		if !addr.IsValid() || addr.Zone() != "" || addr.Is4In6() {
			return invalid("the next address %v is not valid, want one without zone that is not IPv4-mapped", addr)
		}
	}
	record := store.Record{Key: headKey(name), Created: s.Created}
	if err := record.Validate(); err != nil {
		return invalid("%v", err)
	}
	return nil
}

// holdings are what the snapshot says, checked as far as that is possible without a pool.
func (s *Snapshot) holdings() ([]*holding, error) {
	held := make([]*holding, 0, len(s.Allocations)+len(s.Cooling))
	owners := map[string]bool{}
	// Of what one owner has released, the last is what it gets back; the rest is aside.
	cooling := slices.SortedStableFunc(slices.Values(s.Cooling), func(a, b Allocation) int {
		return cmp.Or(cmp.Compare(b.Generation, a.Generation), b.Expires.Compare(a.Expires))
	})
	for i, list := range [][]Allocation{s.Allocations, cooling} {
		for _, a := range list {
			h := &holding{Allocation: a.clone(), cooling: i == 1}
			h.Generation = 0
			h.stray = h.cooling && owners[a.Owner]
			if !h.stray && owners[a.Owner] {
				return nil, invalid("the owner %q has two allocations", a.Owner)
			}
			owners[a.Owner] = true
			if err := h.check(); err != nil {
				return nil, err
			}
			held = append(held, h)
		}
	}
	return held, nil
}

// check finds what no record may hold.
func (h *holding) check() error {
	claim := Claim{Owner: h.Owner, Scope: h.Scope, Labels: h.Labels}
	if err := claim.checkOwnerAndRest(); err != nil {
		return err
	}
	if h.Child != "" {
		if err := validateName("name of the pool that was carved out", h.Child); err != nil {
			return err
		}
		if h.cooling || !h.Expires.IsZero() {
			return invalid("the pool %q was carved out of what %q has for a time only, want a reservation", h.Child, h.Owner)
		}
	}
	if len(h.Prefixes) == 0 {
		return invalid("the owner %q has an allocation without prefixes", h.Owner)
	}
	if h.cooling && h.Expires.IsZero() {
		return invalid("what %q has released cools down for ever, want a time", h.Owner)
	}
	for _, prefix := range h.Prefixes {
		r := Request{Exact: prefix}
		if !prefix.IsValid() {
			return invalid("a prefix of the owner %q is not valid", h.Owner)
		}
		if err := r.check(); err != nil {
			return err
		}
	}
	record, err := h.record("pool")
	if err != nil {
		return err
	}
	if err := record.Validate(); err != nil {
		return invalid("what the owner %q has: %v", h.Owner, err)
	}
	return nil
}

// holdAll takes all that records hold, each address once, also out of range.
func (l *ledger) holdAll(held []*holding) error {
	if err := apart(held); err != nil {
		return err
	}
	for _, h := range held {
		if twice := l.hold(h); len(twice) > 0 {
			return invalid("%v of the owner %q is held by another owner too", twice, h.Owner)
		}
	}
	return nil
}

// apart refuses prefixes that overlap.
func apart(held []*holding) error {
	var all []netip.Prefix
	for _, h := range held {
		all = append(all, h.Prefixes...)
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	for i := 1; i < len(all); i++ {
		if all[i-1].Overlaps(all[i]) { // the larger ones come first, and prefixes overlap only if one contains the other
			return invalid("%v and %v are both held, and overlap", all[i-1], all[i])
		}
	}
	return nil
}

// stateImporting is that of the head of a pool whose records are not all there yet.
const stateImporting = "importing"

// write writes a new pool with its records, in one commit if the store takes it.
func (p *Pool) write(ctx context.Context, s *Snapshot, l *ledger, held []*holding, n *network) error {
	head, err := p.store.Get(ctx, headKey(p.name))
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.head = store.Record{Key: headKey(p.name), State: stateActive, Created: s.Created}
		if s.Created.IsZero() {
			p.head.Created = p.now()
		}
	case err != nil:
		return err
	case head.State != stateImporting:
		return ErrExists
	default:
		p.head = head
	}
	if s.Parent != (Parent{}) {
		p.parent = &s.Parent
	}
	if p.head.Revision == 0 {
		if err := p.writeLast(ctx, l, held, n); !errors.Is(err, store.ErrTooLarge) {
			return p.existsAlready(err)
		}
	}
	if err := p.writeInPieces(ctx, l, held); err != nil {
		return p.existsAlready(err)
	}
	return p.writeLast(ctx, l, nil, n)
}

// writeLast commits the head of the whole pool, and with it these records.
func (p *Pool) writeLast(ctx context.Context, l *ledger, held []*holding, n *network) error {
	p.head.State = stateActive
	d := p.draft()
	for _, h := range held {
		if err := d.add([]write{{store.Put, h}}); err != nil {
			return err
		}
	}
	next, err := p.finishDraft(l, d)
	if err != nil {
		return err
	}
	changes := []store.Change{next.change}
	if n != nil {
		change, err := n.change()
		if err != nil {
			return err
		}
		changes = append(changes, change)
	}
	heads, err := p.commitChanges(ctx, changes)
	if err != nil {
		return err
	}
	p.ledger = l
	p.committed(heads[0], next)
	return nil
}

// writeInPieces commits a head that says that the pool is not whole yet, and then the records with it. Those of an earlier import go.
func (p *Pool) writeInPieces(ctx context.Context, l *ledger, held []*holding) error {
	empty, err := newLedger(l.spec, l.random)
	if err != nil {
		return err
	}
	p.head.State = stateImporting
	next, err := p.finishDraft(empty, p.draft())
	if err != nil {
		return err
	}
	if p.head, err = p.commitOne(ctx, next.change.Head, next.change.Writes); err != nil {
		return err
	}
	if err := p.clearRecords(ctx); err != nil {
		return err
	}
	d := p.draft()
	for _, h := range held {
		if err := d.add([]write{{store.Put, h}}); err != nil {
			return err
		}
	}
	return p.commitAll(ctx, d.writes)
}

// clearRecords deletes all records of the pool but its head.
func (p *Pool) clearRecords(ctx context.Context) error {
	var writes []store.Write
	for _, kind := range []store.Kind{store.KindAllocation, store.KindCooling, store.KindSpace} {
		for r, err := range p.store.List(ctx, kind, p.name) {
			if err != nil {
				return err
			}
			writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}})
		}
	}
	return p.commitAll(ctx, writes)
}

// commitAll commits the writes under the head as it is, in as many commits as the store needs.
func (p *Pool) commitAll(ctx context.Context, writes []store.Write) error {
	for size := maxBatch; len(writes) > 0; {
		n := min(size, len(writes))
		head, err := p.commitOne(ctx, p.head, writes[:n])
		switch {
		case errors.Is(err, store.ErrTooLarge) && n > 1:
			size = n / 2
		case err != nil:
			return err
		default:
			p.head, writes = head, writes[n:]
		}
	}
	return nil
}
