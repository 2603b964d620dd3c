package pool

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// ledger says which records of its history a pool may have: those of the numbers from First up to Next. It is in the
// head, so each commit knows what it adds to, and what it forgets. The zero ledger is that of a head in whose time
// nothing was recorded yet.
type ledger struct {
	First int64 `json:"first"`
	Next  int64 `json:"next"`
	// Oldest is when the tenure of the first record ended; zero if that is not known.
	Oldest time.Time `json:"oldest,omitzero"`
}

// size is how many records there are at most.
func (l *ledger) size() int64 { return l.Next - l.First }

// The labels by which the records of a history are found, beside those of the claims.
const (
	labelOurs = "ipalloc."
	// labelAll is one that all of them have.
	labelAll = labelOurs + "history"
	// labelOwner has the owner.
	labelOwner = labelOurs + "owner"
	// labelIn begins that of each prefix in which addresses were held; indexedPrefixes says which. By itself, it is that
	// of records with more than that.
	labelIn = labelOurs + "in."
	// labelClaims begins those that would look like one of the above otherwise.
	labelClaims = labelOurs + "label."
)

const (
	// indexedBits is of what the lengths in bits are multiples by which addresses are found.
	indexedBits = 8
	// maxIndexedPrefixes is by how many prefixes a record of the history is found at most.
	maxIndexedPrefixes = 32
)

// pastLabel is the name that a label of a claim has in the history.
func pastLabel(name string) string {
	if strings.HasPrefix(name, labelOurs) {
		return labelClaims + name
	}
	return name
}

// indexedPrefixes are those by which a tenure is found: each of its prefixes, cut to a multiple of indexedBits. It
// returns nil if there are more than maxIndexedPrefixes.
func (t *Tenure) indexedPrefixes() map[netip.Prefix]bool {
	found := map[netip.Prefix]bool{}
	for _, p := range t.allPrefixes() {
		found[netip.PrefixFrom(p.Addr(), p.Bits()/indexedBits*indexedBits).Masked()] = true
		if len(found) > maxIndexedPrefixes {
			return nil
		}
	}
	return found
}

// pastLabels are the labels of a tenure's record.
func (t *Tenure) pastLabels() map[string]string {
	labels := map[string]string{labelAll: "", labelOwner: t.Owner}
	for name, value := range t.Labels {
		labels[pastLabel(name)] = value
	}
	prefixes := t.indexedPrefixes()
	for p := range prefixes {
		labels[labelIn+p.String()] = ""
	}
	if prefixes == nil {
		labels[labelIn] = ""
	}
	return labels
}

// tenureData is what the record of a tenure has as its data, beside the record's own fields: Created is when it began,
// and the state says how it ended. The owner is among the labels.
type tenureData struct {
	To         string     `json:"to"` // as toLayout has it
	Generation int64      `json:"generation"`
	Leased     *time.Time `json:"leased,omitempty"` // until when, at last
	Beside     int        `json:"beside,omitempty"` // how many of the prefixes were Beside, the last ones
	Scope      string     `json:"scope,omitempty"`
	Share      string     `json:"share,omitempty"`
	Child      string     `json:"child,omitempty"`
	Reserved   bool       `json:"reserved,omitempty"`
}

// toLayout has as many characters for each time, so that the order of the texts is that of the times.
const toLayout = "2006-01-02T15:04:05.000000Z"

func (t *Tenure) record(key store.Key) (store.Record, error) {
	data := tenureData{
		To: t.To.UTC().Format(toLayout), Generation: t.Generation, Scope: t.Scope, Share: t.Share, Child: t.Child,
		Reserved: t.Reserved, Beside: len(t.Beside),
	}
	if !t.Expires.IsZero() {
		data.Leased = &t.Expires
	}
	text, err := json.Marshal(data)
	return store.Record{
		Key: key, State: string(t.End), Prefixes: t.allPrefixes(), Labels: t.pastLabels(), Created: t.Created, Data: text,
	}, err
}

func tenureOf(r store.Record) (*Tenure, error) {
	var data tenureData
	err := json.Unmarshal(r.Data, &data)
	t := &Tenure{End: End(r.State)}
	if err == nil {
		t.To, err = time.Parse(toLayout, data.To)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the record %v: %w", ErrCorrupt, r.Key, err)
	}
	t.Allocation = Allocation{
		Owner: r.Labels[labelOwner], Generation: data.Generation, Created: r.Created,
		Scope: data.Scope, Share: data.Share, Child: data.Child, Reserved: data.Reserved,
	}
	if t.Prefixes, t.Beside, err = besideIn(r.Key, r.Prefixes, data.Beside); err != nil {
		return nil, err
	}
	if data.Leased != nil {
		t.Expires = data.Leased.UTC()
	}
	for name, value := range r.Labels {
		own, escaped := strings.CutPrefix(name, labelClaims)
		if !escaped && strings.HasPrefix(name, labelOurs) {
			continue
		}
		if t.Labels == nil {
			t.Labels = map[string]string{}
		}
		t.Labels[own] = value
	}
	return t, nil
}

// endsTenure returns the tenure that a write ends, nil if none. That of a share ends none: each of its owners has a
// record, and so a tenure, of its own.
func (w *write) endsTenure(now time.Time) *Tenure {
	goesOn := w.op != store.Delete && w.old.goesOnAs(w.holding)
	if !w.old.live() || goesOn && w.old.was == nil {
		return nil
	}
	t := w.old.tenure()
	t.To, t.End = now.UTC().Truncate(time.Microsecond), Released
	switch {
	case w.old.Expired(now):
		t.To, t.End = w.old.Expires, Lapsed
	case goesOn:
		t.To, t.End = w.holding.since, Renumbered
	}
	if t.To.Before(t.Created) { // the clock was set back
		t.To = t.Created
	}
	return t
}

// tenure is the one that goes on by what the record of h says.
func (h *holding) tenure() *Tenure {
	if h.was != nil {
		h = h.was
	}
	t := &Tenure{Allocation: h.Allocation}
	t.Created = h.began()
	return t
}

// ended are the tenures that the writes of a draft end.
func (d *draft) ended(now time.Time) (all []*Tenure) {
	for i := range d.writes {
		if t := d.writes[i].endsTenure(now); t != nil {
			if d.declines(t) {
				t.End = Declined
			}
			all = append(all, t)
		}
	}
	return all
}

// declines reports whether the owner declines what it has held.
func (d *draft) declines(t *Tenure) bool {
	return slices.ContainsFunc(d.writes, func(w write) bool {
		return w.op != store.Delete && w.holding.Declined && w.holding.Owner == t.Owner && (w.old == nil || w.holding.Kept)
	})
}

// past returns the ledger of the pool after a draft, and the writes of the history that belong to those of the draft:
// they record the tenures that end, and forget what is past its time.
func (s *stored) past(a *attempt, d *draft) (ledger, []store.Write, error) {
	var l ledger
	if s.known != nil {
		l = s.known.past
	}
	if d.state() == nil || d.state().rules.History == 0 {
		return l, nil, nil
	}
	ended := d.ended(a.now)
	if len(ended) == 0 {
		return l, nil, nil
	}
	var err error
	if l.Next == 0 {
		if l, err = s.takeStock(a.ctx); err != nil {
			return l, nil, err
		}
	}
	writes, err := s.forgetPast(a, &l, &d.state().rules.Spec, len(ended))
	if err != nil {
		return l, nil, err
	}
	for _, t := range ended {
		r, err := t.record(s.tenureKey(l.Next))
		if err != nil {
			return l, nil, err
		}
		if l.First == l.Next {
			l.Oldest = t.To
		}
		l.Next++
		writes = append(writes, store.Write{Op: store.Create, Record: r})
	}
	return l, writes, nil
}

// takesHistory implements [home].
func (s *stored) takesHistory(spec Spec) error {
	limit := store.Limit(s.store, store.KindHistory)
	if spec.History == 0 || limit == 0 || spec.HistoryMost > 0 && spec.HistoryMost <= limit {
		return nil
	}
	return invalid("the history has a bound of %d tenures, 0 for none, and the store takes at most %d; want 1 to %d",
		spec.HistoryMost, limit, limit)
}

// isPast reports whether the record is one of a history.
func isPast(r store.Record) bool { return r.Kind == store.KindHistory }

// tenureKey is the key of the record of a tenure. The order of the names is that of the numbers.
func (s *stored) tenureKey(number int64) store.Key {
	return s.key(store.KindHistory, fmt.Sprintf("%016d", number))
}

// takeStock looks which records there are of earlier pools of that name.
func (s *stored) takeStock(ctx context.Context) (ledger, error) {
	l := ledger{First: 1, Next: 1}
	for key, err := range s.keys(ctx, store.KindHistory) {
		if err != nil {
			return l, err
		}
		n, err := strconv.ParseInt(key.Name, 10, 64)
		if err != nil || n < 1 {
			continue // nobody has written that
		}
		if l.size() == 0 {
			l.First = n
		}
		l.First, l.Next = min(l.First, n), max(l.Next, n+1)
	}
	return l, nil
}

// forgetPast returns the writes that delete the first records of the history, as far as their time is over, or so many
// that are added are too many with them: at most two for each that is added.
func (s *stored) forgetPast(a *attempt, l *ledger, spec *Spec, added int) (writes []store.Write, err error) {
	isDue := func(ended time.Time) bool { return !ended.Add(spec.History).After(a.now) }
	most, over := 2*added, int64(0)
	if spec.HistoryMost > 0 {
		over = l.size() + int64(added-spec.HistoryMost)
	}
	if l.size() == 0 || over <= 0 && !isDue(l.Oldest) {
		return nil, nil
	}
	var keys []store.Key
	for n := l.First; n < l.Next && len(keys) <= most; n++ {
		keys = append(keys, s.tenureKey(n))
	}
	records, err := store.GetAll(a.ctx, s.store, keys...)
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		l.Oldest = endOf(r)
		if int64(len(writes)) >= over && !isDue(l.Oldest) || len(writes) == most {
			return writes, nil
		}
		l.First++
		writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}})
	}
	l.Oldest = time.Time{}
	return writes, nil
}

// endOf is when the tenure of a record ended; when it began if that cannot be read, and zero for one that is not there.
func endOf(r store.Record) time.Time {
	if t, err := tenureOf(r); err == nil {
		return t.To
	}
	return r.Created
}
