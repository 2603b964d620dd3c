package kube

import (
	"context"

	"github.com/ipalloc/ipalloc/store"
)

const (
	// maxObject is the largest object in bytes, as it is sent: etcd takes requests of 1.5 MiB as it comes, and there is
	// more in them than the object.
	maxObject = 1536<<10 - 16<<10
	// roomStep is how many objects of a log are settled at once to make room in it.
	roomStep = 512
)

// fit returns an error, before anything is written, if the head has no room for the transaction's entry in its log. If
// only older entries are in the way, it settles these first.
func (t *transaction) fit(ctx context.Context) error {
	if len(t.intents) == 0 {
		return nil
	}
	for i := range t.intents {
		if err := t.fitsAlone(&t.intents[i]); err != nil {
			return err
		}
	}
	own := entry{id: t.id, revision: 1<<62 - 1, objects: t.refs()}
	if t.hasRoll() {
		roll := t.newRoll()
		if size, err := roll.size(); err != nil || size > maxObject {
			return tooLarge("names of what a commit writes in bytes", size, err)
		}
		own.objects = []ref{roll.ref}
	}
	if size, err := t.headSize([]entry{own}); err != nil || size > maxObject {
		return tooLarge("head with the names of what its commit writes in bytes", size, err)
	}
	for {
		size, err := t.headSize(append(t.ledger.rest(t.base.log, nil), own))
		if err != nil || size <= maxObject {
			return err
		}
		if err := t.makeRoom(ctx); err != nil {
			return err
		}
	}
}

func tooLarge(what string, size int, err error) error {
	if err != nil {
		return err
	}
	return &store.TooLargeError{What: what, Size: int64(size), Limit: maxObject}
}

// fitsAlone returns an error if the object of an intent is too large.
func (t *transaction) fitsAlone(in *intent) error {
	size, err := (&object{ref: in.ref, key: in.key, value: in.value}).size()
	if err != nil || size > maxObject {
		return tooLarge("object in bytes", size, err)
	}
	return nil
}

// headSize returns how many bytes the head's object has with a log, as size does.
func (t *transaction) headSize(log []entry) (int, error) {
	return (&object{ref: t.head.ref, key: t.head.key, value: t.head.value, log: log, last: t.id}).size()
}

// size returns how many bytes o has as it is sent, or more than it has where that is far too few for it to matter.
func (o *object) size() (int, error) {
	const most = 8 // bytes that one byte of data takes: \u0000 within text within text
	estimate := 64 << 10
	for _, e := range o.log {
		for _, r := range e.objects {
			estimate += len(r.resource) + len(r.name) + most
		}
	}
	if o.value != nil {
		estimate += most * len(o.value.Data)
	}
	if estimate < maxObject {
		return estimate, nil
	}
	text, err := o.encode("")
	return len(text), err
}

// makeRoom settles the oldest entries of the head's log, and takes them out of it.
func (t *transaction) makeRoom(ctx context.Context) error {
	log, n := t.ledger.rest(t.base.log, nil), 0
	for i := range log {
		if n += len(log[i].objects); n > roomStep {
			log[i].objects = log[i].objects[:len(log[i].objects)-(n-roomStep)]
			log = log[:i+1]
			break
		}
	}
	if err := t.settleDebts(ctx, debtsOf(log), t.options.Parallel, func() bool { return ctx.Err() == nil }); err != nil {
		return err
	}
	next := *t.base
	next.log = t.ledger.rest(t.base.log, nil)
	stored, err := t.api.Update(ctx, &next)
	if err != nil {
		return t.moved(err)
	}
	t.cache.put(stored)
	t.base = stored
	return nil
}
