package kube

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// prepare writes all records of the transaction pending. Beside that it settles some of what the head's log lists, and
// does not wait for that: what is not settled when the records are written stays in the log. It returns what the log
// must still list.
func (t *transaction) prepare(ctx context.Context) ([]entry, error) {
	pace, err := t.measure(ctx, len(t.intents))
	if err != nil {
		return nil, err
	}
	written := t.written()
	own, strange := t.ledger.open(t.base.log, written)
	if err := t.tryRights(ctx, own); err != nil {
		return nil, err
	}
	due := slices.Concat(strange, own[:min(len(own), len(t.intents)+handful)])
	prepared, all := make([]*object, len(t.intents)), len(t.intents)
	if t.hasRoll() {
		all++
	}
	errs := t.beside(all, func(i int) (err error) {
		if i == len(t.intents) {
			return t.writeRoll(ctx)
		}
		if err := pace.check(); err != nil {
			return err
		}
		prepared[i], err = t.prepareOne(ctx, &t.intents[i])
		return pace.did(err)
	}, len(due), func(ctx context.Context, i int) { t.miss(t.settleOnce(hasty(ctx), due[i])) })
	pace.end()
	t.wrote = pace.wrote()
	for i, o := range prepared {
		switch {
		case o != nil:
			t.prepared = append(t.prepared, o)
		case errors.Is(errs[i], errUnsure):
			t.unsure = append(t.unsure, t.intents[i].ref)
		}
	}
	if err = cmp.Or(t.firstOf(errs), t.missing()); err != nil {
		return nil, err
	}
	return t.ledger.rest(t.base.log, written), nil
}

// firstOf returns the error of an attempt: an unsuitable time before a conflict before an existing record, and all of
// these together.
func (t *transaction) firstOf(errs []error) error {
	var exists []store.Record
	var first error
	for _, err := range errs {
		var existing *store.ExistsError
		if errors.As(err, &existing) {
			exists = append(exists, existing.Records...)
		}
		if rank(err) > rank(first) {
			first = err
		}
	}
	if rank(first) == rankExists {
		return &store.ExistsError{Records: exists}
	}
	return first
}

// The ranks of what the records of an attempt come to.
const (
	rankNone = iota
	rankExists
	rankConflict
	rankAgain
	rankTooLarge
	rankOther
)

func rank(err error) int {
	switch {
	case err == nil:
		return rankNone
	case errors.Is(err, store.ErrExists):
		return rankExists
	case errors.Is(err, store.ErrConflict):
		return rankConflict
	case errors.Is(err, errAgain):
		return rankAgain
	case errors.Is(err, store.ErrTooLarge):
		return rankTooLarge
	default:
		return rankOther
	}
}

// propose returns base, or a new object if base is nil, with what in wants of it.
func (t *transaction) propose(base *object, in *intent) *object {
	next := &object{ref: in.ref, key: in.key}
	if base != nil {
		*next = *base
	}
	next.pending = &pending{id: t.id, head: t.head.ref, uid: t.base.uid, fence: t.base.version, before: next.current()}
	next.value = in.value
	return next
}

// prepareOne writes one record pending, and returns the object as it is now.
func (t *transaction) prepareOne(ctx context.Context, in *intent) (*object, error) {
	if o, err := t.prepareBlind(ctx, in); o != nil || err != nil {
		return o, err
	}
	for ctx.Err() == nil {
		o, err := t.prepareRead(ctx, in)
		if errors.Is(err, errMoved) || errors.Is(err, errAbsent) || errors.Is(err, errExists) {
			continue
		}
		return o, err
	}
	return nil, fmt.Errorf("write %v: %w", in.key, ctx.Err())
}

// prepareBlind does without reading first: it creates what is to be created, and updates what this handle knows. It
// returns nil if that did not work.
func (t *transaction) prepareBlind(ctx context.Context, in *intent) (o *object, err error) {
	known, settles := t.known(in)
	fresh := in.op == store.Create || in.expected == 0
	switch {
	case known != nil && (!fresh || known.value == nil):
		o, err = t.api.Update(ctx, t.propose(known, in))
	case fresh:
		o, err = t.api.Create(ctx, t.propose(nil, in))
	default:
		return nil, nil
	}
	if errors.Is(err, errExists) || errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		return nil, nil
	}
	if err == nil && o.uid == settles.uid {
		t.ledger.settled(settles.debt)
	}
	return o, err
}

// replaced is a debt that whoever replaces the object pays.
type replaced struct {
	debt
	uid string // of the object; no object has none
}

// known returns the object as this handle last saw it, with its pending commit decided, or nil if it does not know it
// so far.
func (t *transaction) known(in *intent) (o *object, settles replaced) {
	o = t.cache.get(in.ref)
	switch {
	case o == nil || o.key != in.key || in.expected > 0:
		return nil, replaced{}
	case o.pending == nil:
		return o, replaced{}
	}
	if revision, ok := t.ledger.find(o.pending.id); ok {
		return o.committed(revision), replaced{debt{o.ref, o.pending.id, revision}, o.uid}
	}
	return nil, replaced{}
}

// prepareRead reads the object, checks what in wants to be so, and writes it.
func (t *transaction) prepareRead(ctx context.Context, in *intent) (*object, error) {
	o, err := t.read(ctx, in.ref, in.key)
	switch {
	case errors.Is(err, errAbsent) && in.expected > 0:
		return nil, t.conflict(in, nil)
	case errors.Is(err, errAbsent):
		return t.api.Create(ctx, t.propose(nil, in))
	case err != nil:
		return nil, err
	case o.pending != nil && o.pending.id == t.id:
		o = o.rolledBack() // left over from an earlier attempt
	case o.pending != nil:
		if err := t.block(ctx, o.pending); err != nil {
			return nil, err
		}
		return nil, errMoved
	}
	switch {
	case in.op == store.Create && o.value != nil:
		return nil, &store.ExistsError{Records: []store.Record{o.value.Canonical()}}
	case in.expected != unguarded && o.revision() != in.expected:
		return nil, t.conflict(in, o)
	}
	return t.api.Update(ctx, t.propose(o, in))
}

// block deals with the commit of somebody else that is about to write the same object. Of two commits that are in each
// other's way, one gives up what it has written (and gets errAgain) while the other one waits, so that they do not wait
// for each other. Who has waited long enough stops the other one.
func (t *transaction) block(ctx context.Context, p *pending) error {
	t.mu.Lock()
	wait := min(max(firstPause, t.waited[p.id]), lastPause)
	t.waited[p.id] += wait
	tooLong := t.waited[p.id] > t.options.Patience
	t.mu.Unlock()
	if tooLong {
		return t.abort(ctx, p)
	}
	if p.id < t.id {
		return errAgain
	}
	return t.Store.pause(ctx, jitter(wait))
}

// abort makes the commit of p dead if it is open: it changes its head's object, which it then cannot update any more.
func (s *Store) abort(ctx context.Context, p *pending) error {
	head, err := s.api.Get(ctx, p.head)
	if errors.Is(err, errAbsent) {
		return nil
	}
	if err != nil {
		return err
	}
	if f, _ := p.fateIn(head); f != fateOpen {
		return nil
	}
	next := *head
	next.aborts++
	if _, err = s.api.Update(ctx, &next); errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		return nil
	}
	return err
}
