package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Tenure is what an owner holds, or has held: from the grant to the release, or to the end of the lease. A renewal goes
// on with a tenure; a grant begins another one, also of the same addresses to the same owner.
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
	// Declined means that the owner declined it; see [Pool.Decline].
	Declined End = "declined"
)

// HistoryQuery says which tenures [Pool.History] yields: those that meet all of it. The zero HistoryQuery means all. It
// may be copied; the copy shares Labels.
type HistoryQuery struct {
	// Owner is the owner. Empty means any.
	Owner string
	// Addr is an address that was held, by itself or in a prefix. A zone is ignored. The zero Addr means any.
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
	if !q.Until.IsZero() && q.Until.Before(q.From) {
		return invalid("the query is from %v until %v, which is before", q.From, q.Until)
	}
	return validateLabels(q.Labels)
}

// wants reports whether the query is for a tenure.
func (q *HistoryQuery) wants(t *Tenure) bool {
	addr := q.Addr.WithZone("")
	switch {
	case q.Owner != "" && t.Owner != q.Owner,
		q.Addr.IsValid() && !slices.ContainsFunc(t.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) }),
		!q.From.IsZero() && !t.To.IsZero() && !t.To.After(q.From),
		!q.Until.IsZero() && t.Created.After(q.Until):
		return false
	}
	return hasLabels(t.Labels, q.Labels)
}

func hasLabels(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if got, ok := labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// History iterates over tenures in a pool whose spec asks for a history: first those that have ended, the earliest end
// first, then those that go on, the earliest grant first. Each comes up once. One that ends while History runs comes up
// once, as it was at some moment. An error ends the iteration.
//
// What has ended for longer than [Spec.History] may be left out, and is deleted in passing: each commit that adds to
// the history deletes up to two records that are due for each that it adds. A change of the spec does not change how
// long earlier tenures are remembered, and the order is then that in which they are forgotten.
//
// Errors: [ErrInvalid] for a query that breaks a rule of [HistoryQuery]; those of the store. Cost: O(tenures that are
// remembered), read page by page, and O(allocations) that match and go on, of which those are in memory.
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

// history gives the tenures that a query wants to yield. What goes on is read first: what ends in between is then in
// the records that are read later.
func (p *Pool) history(ctx context.Context, q *HistoryQuery, yield func(*Tenure) bool) error {
	s, ok := p.home.(*stored)
	if !ok {
		return errNeedsStore("a history")
	}
	type grant struct {
		owner      string
		generation int64
	}
	present := map[grant]*Tenure{}
	for h, err := range s.records(ctx, false) {
		if err != nil {
			return err
		}
		if t := (&Tenure{Allocation: h.Allocation}); h.live() && q.wants(t) {
			present[grant{h.Owner, h.Generation}] = t
		}
	}
	for r, err := range s.store.ByExpiry(ctx, store.KindHistory, s.name) {
		if err != nil {
			return err
		}
		t, err := tenureOf(r)
		if err != nil {
			return err
		}
		delete(present, grant{t.Owner, t.Generation})
		if q.wants(t) && !yield(t) {
			return errStopped
		}
	}
	var left []*Tenure
	for _, t := range present {
		left = append(left, t)
	}
	slices.SortFunc(left, func(a, b *Tenure) int { return a.Created.Compare(b.Created) })
	for _, t := range left {
		if !yield(t) {
			return errStopped
		}
	}
	return nil
}

// tenureData is what the record of a tenure has as its data, beside the record's own fields: Created is when it began,
// and Expires when the record is to be deleted.
type tenureData struct {
	Owner      string     `json:"owner"`
	Generation int64      `json:"generation"`
	To         time.Time  `json:"to"`
	Leased     *time.Time `json:"leased,omitempty"` // until when, at last
	Scope      string     `json:"scope,omitempty"`
	Child      string     `json:"child,omitempty"`
}

func (t *Tenure) record(key store.Key, kept time.Duration) (store.Record, error) {
	data := tenureData{Owner: t.Owner, Generation: t.Generation, To: t.To, Scope: t.Scope, Child: t.Child}
	if !t.Expires.IsZero() {
		data.Leased = &t.Expires
	}
	text, err := json.Marshal(data)
	return store.Record{
		Key: key, State: string(t.End), Prefixes: t.Prefixes, Labels: t.Labels, Created: t.Created, Expires: t.To.Add(kept),
		Data: text,
	}, err
}

func tenureOf(r store.Record) (*Tenure, error) {
	var data tenureData
	if err := json.Unmarshal(r.Data, &data); err != nil {
		return nil, fmt.Errorf("%w: the record %v: %w", ErrCorrupt, r.Key, err)
	}
	t := &Tenure{To: data.To.UTC(), End: End(r.State)}
	t.Allocation = Allocation{
		Owner: data.Owner, Prefixes: r.Prefixes, Generation: data.Generation, Created: r.Created, Scope: data.Scope,
		Labels: r.Labels, Child: data.Child,
	}
	if data.Leased != nil {
		t.Expires = data.Leased.UTC()
	}
	return t, nil
}

// endsTenure returns the tenure that a write ends, nil if none.
func (w *write) endsTenure(now time.Time) *Tenure {
	if !w.old.live() {
		return nil
	}
	goesOn := w.op != store.Delete && w.holding.live() && w.holding.Owner == w.old.Owner &&
		w.holding.Generation == w.old.Generation
	if goesOn {
		return nil
	}
	t := &Tenure{Allocation: w.old.Allocation, To: now, End: Released}
	if w.old.Expired(now) {
		t.To, t.End = w.old.Expires, Lapsed
	}
	if t.To.Before(t.Created) { // the clock was set back
		t.To = t.Created
	}
	return t
}

// past returns the writes of the history that belong to those of a draft: the tenures that end, and what is forgotten.
func (s *stored) past(a *attempt, d *draft) ([]store.Write, error) {
	kept := d.state().rules.History
	if kept == 0 {
		return nil, nil
	}
	var writes []store.Write
	for i := range d.writes {
		t := d.writes[i].endsTenure(a.now)
		if t == nil {
			continue
		}
		if d.declines(t) {
			t.End = Declined
		}
		name := fmt.Sprintf("%s.%s.%d", t.To.Format("2006-01-02T15:04:05.000000Z"),
			strconv.FormatInt(s.head.Revision, 36), len(writes))
		r, err := t.record(s.key(store.KindHistory, name), kept)
		if err != nil {
			return nil, err
		}
		writes = append(writes, store.Write{Op: store.Put, Record: r})
	}
	if len(writes) == 0 {
		return nil, nil
	}
	due, err := s.due(a.ctx, a.now, 2*len(writes), kept)
	return append(writes, due...), err
}

// declines reports whether the owner declines what it has held.
func (d *draft) declines(t *Tenure) bool {
	return slices.ContainsFunc(d.writes, func(w write) bool {
		return w.op != store.Delete && w.holding.Declined && w.holding.Owner == t.Owner && w.old == nil
	})
}

// due returns writes that delete records of the history whose time is over, at most so many.
func (s *stored) due(
	ctx context.Context, now time.Time, most int, kept time.Duration,
) (writes []store.Write, err error) {
	if s.forgotten.After(now) {
		return nil, nil
	}
	s.forgotten = now.Add(kept)
	for r, err := range s.store.ByExpiry(ctx, store.KindHistory, s.name) {
		if err != nil {
			return nil, err
		}
		if r.Expires.After(now) {
			s.forgotten = r.Expires
			break
		}
		if len(writes) == most {
			break
		}
		writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}})
	}
	if len(writes) > 0 { // which may not be committed, and there may be more
		s.forgotten = time.Time{}
	}
	return writes, nil
}
