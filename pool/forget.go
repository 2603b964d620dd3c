package pool

import (
	"context"
	"errors"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// maxForgotten is how many records ForgetHistory deletes in one commit at most.
const maxForgotten = 64

// ForgetHistory deletes from the history of the pool of that name what had ended at a time or before it, whether or not
// its retention is over, and returns how many tenures that were. The pool need not exist any more: [Delete] leaves its
// history. What goes on, and what ends later, stays. After an error some may be deleted, which count.
//
// Errors: [ErrInvalid] if the name breaks a rule; [ErrBusy], [ErrNewerFormat]; those of the store. Cost: that of
// reading the whole history, and one commit for each 64 tenures that it deletes, or for fewer if the store takes no
// such commit.
func ForgetHistory(
	ctx context.Context, s store.Store, name string, until time.Time, options *Options,
) (forgotten int, err error) {
	p, err := newHandle(s, name, options)
	if err == nil {
		forgotten, err = p.forgetHistory(ctx, until)
	}
	return forgotten, wrapped(err, Error{Op: "forget the history", Pool: name})
}

func (p *Pool) forgetHistory(ctx context.Context, until time.Time) (forgotten int, err error) {
	var due []store.Write
	most := maxForgotten
	flush := func() error {
		for len(due) > 0 {
			n := min(most, len(due))
			err := p.forget(ctx, due[:n])
			switch {
			case errors.Is(err, store.ErrTooLarge) && n > 1:
				most = n / 2
				continue
			case err != nil:
				return err
			}
			forgotten, due = forgotten+n, due[n:]
		}
		return nil
	}
	for r, err := range p.home.(*stored).pastFor(ctx, &HistoryQuery{}) {
		if err != nil {
			return forgotten, err
		}
		t, err := tenureOf(r)
		if err != nil {
			return forgotten, err
		}
		if t.To.After(until) {
			continue
		}
		due = append(due, store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}})
		if len(due) >= most {
			if err := flush(); err != nil {
				return forgotten, err
			}
		}
	}
	return forgotten, flush()
}

// forget deletes records beside the head of the pool, or those that a pool has left.
func (p *Pool) forget(ctx context.Context, deletes []store.Write) error {
	return exclusively(ctx, func(a *attempt) error {
		err := p.home.refresh(a.ctx)
		if err != nil && !errors.Is(err, ErrNoPool) {
			return err
		}
		d := a.draft(p)
		d.others, d.touch, d.gone = deletes, true, err != nil
		return nil
	}, p)
}
