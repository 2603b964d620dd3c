package pool

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// Query says which allocations [Pool.Find] yields, and in which order. The zero Query is not valid: it names no label
// and no order. A Query may be copied; the copy shares Labels.
type Query struct {
	// Labels are what an allocation must have to be found: all of these names with these values. They must be such that
	// a claim can have them. None means all allocations, which are found by address only.
	Labels map[string]string

	// ByAddress means in the order of the lowest address of each allocation, IPv4 before IPv6. Otherwise the order is one
	// of the owners that is the store's own, and the same each time.
	ByAddress bool

	// AfterOwner is the owner behind which to begin, whether or not it still holds something: that of the last allocation
	// of the page before. Empty means at the beginning. With ByAddress it is only for what several owners share, who come
	// in the order of the bytes of their names: of those at AfterAddr it begins behind this one. Empty then means behind
	// all of them.
	AfterOwner string

	// AfterAddr is the address behind which to begin, with ByAddress: the lowest one of the last allocation of the page
	// before. A zone is ignored. The zero Addr means at the beginning.
	AfterAddr netip.Addr
}

func (q *Query) validate() error {
	if err := validateLabels(q.Labels); err != nil {
		return err
	}
	switch {
	case len(q.Labels) == 0 && !q.ByAddress:
		return invalid("the query names no label, and is not by address; Allocations yields all in any order")
	case q.ByAddress && q.AfterOwner != "" && !q.AfterAddr.IsValid():
		return invalid("the query is by address, and begins after the owner %.40q; want an address", q.AfterOwner)
	case !q.ByAddress && q.AfterAddr.IsValid():
		return invalid("the query is not by address, and begins after %v; want an owner", q.AfterAddr)
	case q.AfterAddr.Is4In6():
		return invalid("the query begins after %v, which is 4in6; want %v", q.AfterAddr, q.AfterAddr.Unmap())
	case q.AfterOwner != "":
		return validateOwner(q.AfterOwner)
	}
	return nil
}

// longestLabel is the one of several that the store is asked for: the one with the longest value, since few share that.
func longestLabel(labels map[string]string) (name, value string) {
	longer := func(a, b string) int {
		return cmp.Or(cmp.Compare(len(labels[a]), len(labels[b])), cmp.Compare(b, a))
	}
	name = slices.MaxFunc(slices.Collect(maps.Keys(labels)), longer)
	return name, labels[name]
}

// wants reports whether an owner holds h, with all of the labels.
func (q *Query) wants(h *holding) bool {
	return h.live() && hasLabels(h.Labels, q.Labels)
}

// hasLabels reports whether labels have all those that are wanted.
func hasLabels(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if got, ok := labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// Find iterates over the allocations that have certain labels: all pods of a node, everything of a customer, what was
// given out for an order. To read them in pages, stop after as many as there are to a page, and begin the next one
// behind the last:
//
//	q.AfterOwner = last.Owner // and, by address, q.AfterAddr = its lowest address
//
// An allocation that is held during the whole iteration comes up exactly once. One that is granted or released
// meanwhile may or may not be included; with ByAddress, an owner that gets another address meanwhile may come up with
// both. An error ends the iteration.
//
// Errors: [ErrInvalid] if the query breaks a rule of [Query]; those of the store.
//
// Cost: with a store that has an index of labels ([store.Labeller]), O(allocations that have the label), read page by
// page, wherever it begins; without one, O(allocations of the pool), and those with the label are in memory. Of several
// labels, the store is asked for the one with the longest value, and the others are compared. With ByAddress, all of
// these are read before the first one is yielded, and once more for every 4,096 that are yielded; at most 8,192
// allocations are in memory. A claim without labels costs nothing for this, and one with labels what the driver says.
func (p *Pool) Find(ctx context.Context, q Query) iter.Seq2[Allocation, error] {
	return func(yield func(Allocation, error) bool) {
		err := q.validate()
		if err == nil {
			q.AfterAddr = q.AfterAddr.WithZone("")
			if err = p.find(ctx, &q, func(a *Allocation) bool { return yield(*a, nil) }); errors.Is(err, errStopped) {
				return
			}
		}
		if err != nil {
			yield(Allocation{}, p.failed("find", "", err))
		}
	}
}

// errStopped says that a loop over an iteration has been left.
var errStopped = errors.New("stopped")

// find gives what a query wants to yield, until that returns false.
func (p *Pool) find(ctx context.Context, q *Query, yield func(*Allocation) bool) error {
	if q.ByAddress {
		return p.findByAddr(ctx, q, yield)
	}
	for h, err := range p.candidates(ctx, q) {
		if err != nil {
			return err
		}
		if !q.wants(h) {
			continue
		}
		if a := h.Allocation.clone(); !yield(&a) {
			return errStopped
		}
	}
	return nil
}

// candidates iterates over records of which some are wanted.
func (p *Pool) candidates(ctx context.Context, q *Query) iter.Seq2[*holding, error] {
	if len(q.Labels) == 0 {
		return p.home.records(ctx, false)
	}
	name, value := longestLabel(q.Labels)
	l := store.Labelled{Kind: store.KindAllocation, Pool: p.name, Name: name, Value: value}
	if !q.ByAddress {
		l.After = q.AfterOwner
	}
	return p.home.labelled(ctx, l)
}

// maxSorted is how many allocations are sorted by address at a time; twice as many are in memory.
const maxSorted = 4096

// findByAddr is find in the order of addresses.
func (p *Pool) findByAddr(ctx context.Context, q *Query, yield func(*Allocation) bool) error {
	for after, more := (located{addr: q.AfterAddr, owner: q.AfterOwner}), true; more; {
		var next lowest
		var damaged error
		for h, err := range p.candidates(ctx, q) {
			switch {
			case errors.Is(err, store.ErrDamaged): // it comes last
				damaged = err
			case err != nil:
				return err
			case q.wants(h):
				next.add(h, after)
			}
		}
		next.sort()
		for i := range next.all {
			after = next.all[i]
			if a := next.all[i].clone(); !yield(&a) {
				return errStopped
			}
		}
		if more = next.more; !more && damaged != nil {
			return fmt.Errorf("not all records can be read: %w", damaged)
		}
	}
	return nil
}

// lowest keeps those of many allocations that have the lowest addresses.
type lowest struct {
	all  []located
	more bool // there are others
}

// located is an allocation of an owner at its lowest address.
type located struct {
	*holding
	addr  netip.Addr
	owner string // empty for behind all owners
}

// isBehind reports whether l comes behind a place.
func (l located) isBehind(place located) bool {
	switch order := l.addr.Compare(place.addr); {
	case !place.addr.IsValid() || order > 0:
		return true
	default:
		return order == 0 && place.owner != "" && l.owner > place.owner
	}
}

// add takes in an allocation if it is behind after.
func (l *lowest) add(h *holding, after located) {
	at := located{h, lowestAddr(h.Prefixes), h.Owner}
	if !at.isBehind(after) {
		return
	}
	if l.all = append(l.all, at); len(l.all) >= 2*maxSorted {
		l.sort()
	}
}

// sort sorts them, and keeps maxSorted of them at most.
func (l *lowest) sort() {
	slices.SortFunc(l.all, func(a, b located) int {
		return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(a.owner, b.owner))
	})
	if len(l.all) > maxSorted {
		clear(l.all[maxSorted:])
		l.all, l.more = l.all[:maxSorted], true
	}
}

func lowestAddr(prefixes []netip.Prefix) netip.Addr {
	var first netip.Addr
	for _, p := range prefixes {
		if a := p.Addr(); !first.IsValid() || a.Less(first) {
			first = a
		}
	}
	return first
}

// Find iterates over the allocations in all selected pools that a query wants, one pool after the other in the order of
// their names, and within each as [Pool.Find] does. To go on behind some allocation, ask the pool that it is in, and
// those of [Selection.Pools] that come after it.
//
// Errors: those of [Pool.Find]; [ErrInvalid] if the query begins behind something. Cost: that of Pools, and of
// [Pool.Find] for each pool.
func (s *Selection) Find(ctx context.Context, q Query) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		pools, err := s.Pools(ctx)
		if q.AfterOwner != "" || q.AfterAddr.IsValid() {
			err = wrapped(invalid("a query of several pools begins after %q; ask one pool", q.after()), Error{Op: "find"})
		}
		if err != nil {
			yield(Result{}, err)
			return
		}
		for _, p := range pools {
			for a, err := range p.Find(ctx, q) {
				if !yield(Result{Pool: p, Allocation: a}, err) || err != nil {
					return
				}
			}
		}
	}
}

// after is where the query begins, for an error.
func (q *Query) after() string {
	if q.AfterAddr.IsValid() {
		return q.AfterAddr.String()
	}
	return q.AfterOwner
}

// labelled implements [home].
func (s *stored) labelled(ctx context.Context, l store.Labelled) iter.Seq2[*holding, error] {
	return holdings(store.ByLabel(ctx, s.store, l))
}

// label is a name with a value.
type label struct{ name, value string }

// labelIndex has the records that have a label, by owner.
type labelIndex map[label]map[string]*kept

// replace notes that after takes the place of before. Either may be nil.
func (x labelIndex) replace(before, after *kept) {
	if before != nil && before.rest != nil {
		for name, value := range before.rest.labels {
			l := label{name, value}
			if delete(x[l], before.owner); len(x[l]) == 0 {
				delete(x, l)
			}
		}
	}
	if after == nil || after.rest == nil {
		return
	}
	for name, value := range after.rest.labels {
		l := label{name, value}
		if x[l] == nil {
			x[l] = map[string]*kept{}
		}
		x[l][after.owner] = after
	}
}

// labelled implements [home], in the order of the owners, as of one moment.
func (m *memory) labelled(_ context.Context, l store.Labelled) iter.Seq2[*holding, error] {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.shown = m.clock
	var found []*kept
	for owner, h := range m.labels[label{l.Name, l.Value}] {
		if owner > l.After {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b *kept) int { return cmp.Compare(a.owner, b.owner) })
	return opened(slices.Values(found))
}
