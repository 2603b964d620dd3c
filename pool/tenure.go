package pool

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Tenure is what an owner holds, or has held: from the grant to the release, or to the end of the lease. A renewal goes
// on with a tenure; a grant begins another one, also of the same addresses to the same owner. So does a renumbering, of
// the same grant: when new addresses come beside the old ones, and when either go; see [Pool.Renumber].
//
// The zero Tenure is none. A Tenure may be copied; the copy shares what its Allocation shares.
type Tenure struct {
	// Allocation is what was held, as it was at last. Created is when the tenure began.
	Allocation
	// To is when the tenure ended, in UTC, to the microsecond; zero if it goes on. Of a lease that was not released, that
	// is when the lease ended, also if a claim took its addresses later.
	To time.Time
	// End says how the tenure ended; empty if it goes on.
	End End
}

// End says how a tenure ended.
type End string

// The ends of a tenure.
const (
	// Released means that the owner, or somebody for it, released what it held, or that it was transferred.
	Released End = "released"
	// Lapsed means that the lease ended, whatever became of the addresses then.
	Lapsed End = "lapsed"
	// Declined means that the owner declined it, so that it went into quarantine; see [Pool.Decline]. Of what others go on
	// to share nothing does, and the owner that declined it has released it.
	Declined End = "declined"
	// Renumbered means that the same grant goes on with other addresses; see [Pool.Renumber].
	Renumbered End = "renumbered"
)

// HistoryQuery says which tenures [Pool.History] yields: those that meet all of it. The zero HistoryQuery means all. It
// may be copied; the copy shares Labels.
type HistoryQuery struct {
	// Owner is the owner. Empty means any.
	Owner string
	// Addr is an address that was held, by itself or in a prefix. A zone is ignored. It is not 4in6. The zero Addr means
	// any.
	Addr netip.Addr
	// Labels are what the claim had, all of them.
	Labels map[string]string
	// From and Until bound the time: tenures that had ended by From, or began after Until, are left out. To ask for one
	// moment, set both to it. The zero time is no bound.
	From, Until time.Time
}

func (q *HistoryQuery) validate() error {
	if q.Owner != "" {
		if err := validateOwner(q.Owner); err != nil {
			return err
		}
	}
	switch {
	case q.Addr.Is4In6():
		return invalid("the query is for %v, which is 4in6; want %v", q.Addr, q.Addr.Unmap())
	case !q.Until.IsZero() && q.Until.Before(q.From):
		return invalid("the query is from %v until %v, which is before", q.From, q.Until)
	}
	return validateLabels(q.Labels)
}

// wants reports whether the query is for a tenure.
func (q *HistoryQuery) wants(t *Tenure) bool {
	addr := q.Addr.WithZone("")
	switch {
	case q.Owner != "" && t.Owner != q.Owner,
		q.Addr.IsValid() && !t.contains(addr),
		!q.From.IsZero() && !t.To.IsZero() && !t.To.After(q.From),
		!q.Until.IsZero() && t.Created.After(q.Until):
		return false
	}
	return hasLabels(t.Labels, q.Labels)
}

// History iterates over tenures in a pool whose spec asks for a history, the oldest first: those that have ended, in
// the order in which they were recorded, then those that go on, the earliest grant first. The tenures of one owner come
// in the order of their times, and so do those of one address, unless owners share it. A lease that has ended is
// recorded when its addresses are taken back, and so may come after tenures of other addresses that ended later. Each
// tenure comes up once. One that ends while History runs comes up once, as it was at some moment. An error ends the
// iteration.
//
// What has ended for longer than [Spec.History] may be left out, and is deleted in passing; [ForgetHistory] deletes
// more. A pool that is deleted leaves its history, which the next pool of that name goes on with.
//
// Errors: [ErrInvalid] for a query that breaks a rule of [HistoryQuery], and for a pool without a store; those of the
// store.
//
// Cost: with a store that has an index of labels ([store.Labeller]), O(tenures found) by owner or by labels, read page
// by page; of several labels, the store is asked for the one with the longest value. By address it is that of 6 such
// searches for IPv4, and of 18 for IPv6; a prefix of another length than a multiple of 8 bits is found among those with
// which it shares the next shorter such prefix. By time alone, and on other stores, it is O(tenures remembered). Of
// those that go on, one look-up for an owner, or for an address and one for each owner that shares it, else
// O(allocations that have the label) or O(allocations); those that match are in memory.
func (p *Pool) History(ctx context.Context, q HistoryQuery) iter.Seq2[Tenure, error] {
	return func(yield func(Tenure, error) bool) {
		err := q.validate()
		if err == nil {
			err = p.history(ctx, &q, func(t *Tenure) bool { return yield(*t, nil) })
		}
		if err != nil && !errors.Is(err, errStopped) {
			yield(Tenure{}, p.failed("read the history", "", err))
		}
	}
}

// tenureName names a tenure within its pool.
type tenureName struct {
	owner      string
	generation int64
	began      int64 // in microseconds
}

func (t *Tenure) tenureName() tenureName {
	return tenureName{t.Owner, t.Generation, t.Created.UnixMicro()}
}

// history gives the tenures that a query wants to yield. What goes on is read first: what ends in between is then in
// the records that are read later.
func (p *Pool) history(ctx context.Context, q *HistoryQuery, yield func(*Tenure) bool) error {
	s, ok := p.home.(*stored)
	if !ok {
		return errNeedsStore("a history")
	}
	present := map[tenureName]*Tenure{}
	for h, err := range s.presentFor(ctx, q) {
		if err != nil {
			return err
		}
		if t := h.tenure(); h.live() && q.wants(t) {
			present[t.tenureName()] = t
		}
	}
	for r, err := range s.pastFor(ctx, q) {
		if err != nil {
			return err
		}
		t, err := tenureOf(r)
		if err != nil {
			return err
		}
		delete(present, t.tenureName())
		if q.wants(t) && !yield(t) {
			return errStopped
		}
	}
	for _, t := range slices.SortedFunc(maps.Values(present), beganEarlier) {
		if !yield(t) {
			return errStopped
		}
	}
	return nil
}

func beganEarlier(a, b *Tenure) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Generation, b.Generation), cmp.Compare(a.Owner, b.Owner))
}

// presentFor iterates over records that hold addresses, among them all that a query wants.
func (s *stored) presentFor(ctx context.Context, q *HistoryQuery) iter.Seq2[*holding, error] {
	var h *holding
	var err error
	switch {
	case q.Owner != "":
		h, err = s.get(ctx, q.Owner)
	case q.Addr.IsValid():
		return holdersAt(ctx, s, q.Addr)
	case len(q.Labels) > 0:
		name, value := longestLabel(q.Labels)
		return s.labelled(ctx, store.Labelled{Kind: store.KindAllocation, Pool: s.name, Name: name, Value: value})
	default:
		return s.records(ctx, false)
	}
	return func(yield func(*holding, error) bool) {
		if !errors.Is(err, store.ErrNotFound) {
			yield(h, err)
		}
	}
}

// pastFor iterates over records of the history, in their order, among them all that a query wants.
func (s *stored) pastFor(ctx context.Context, q *HistoryQuery) iter.Seq2[store.Record, error] {
	by := func(name, value string) iter.Seq2[store.Record, error] {
		return store.ByLabel(ctx, s.store, store.Labelled{Kind: store.KindHistory, Pool: s.name, Name: name, Value: value})
	}
	switch {
	case q.Owner != "":
		return by(labelOwner, q.Owner)
	case q.Addr.IsValid():
		all := []iter.Seq2[store.Record, error]{by(labelIn, "")}
		addr := q.Addr.WithZone("")
		for bits := 0; bits <= addr.BitLen(); bits += indexedBits {
			all = append(all, by(labelIn+netip.PrefixFrom(addr, bits).Masked().String(), ""))
		}
		return byName(all)
	case len(q.Labels) > 0:
		name, value := longestLabel(q.Labels)
		return by(pastLabel(name), value)
	default:
		return by(labelAll, "")
	}
}

// byName merges iterations over records in the order of their names, each record once. Errors come last.
func byName(all []iter.Seq2[store.Record, error]) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		var open []*pulled
		defer func() {
			for _, p := range open {
				p.stop()
			}
		}()
		for _, records := range all {
			p := &pulled{}
			p.next, p.stop = iter.Pull2(records)
			if p.advance() {
				open = append(open, p)
			}
		}
		for len(open) > 0 {
			first := slices.MinFunc(open, (*pulled).compare)
			if r, err := first.record, first.err; !yield(r, err) || err != nil {
				return
			}
			name := first.record.Name
			open = slices.DeleteFunc(open, func(p *pulled) bool { return p.err == nil && p.record.Name == name && !p.advance() })
		}
	}
}

// pulled is an iteration over records, at one of them.
type pulled struct {
	next   func() (store.Record, error, bool)
	stop   func() // does nothing at its end
	record store.Record
	err    error
}

// advance goes on to the next record, and reports whether there is one, or an error.
func (p *pulled) advance() (ok bool) {
	p.record, p.err, ok = p.next()
	return ok
}

// compare orders iterations by the names of their records, and those that have failed behind the others.
func (p *pulled) compare(o *pulled) int {
	switch {
	case p.err == nil && o.err == nil:
		return cmp.Compare(p.record.Name, o.record.Name)
	case p.err == nil:
		return -1
	case o.err == nil:
		return 1
	default:
		return 0
	}
}
