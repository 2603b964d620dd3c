package kube

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

// fate is what has become of a commit.
type fate int

const (
	fateOpen      fate = iota // it may yet come about
	fateCommitted             // it has come about
	fateDead                  // it never will
)

// fate returns what has become of the commit of p, and its revision if that is committed.
//
// A fate of dead must be founded on an object that was read after this call: a commit that came about leaves the log of
// its head as soon as its objects are settled.
func (s *Store) fate(ctx context.Context, p *pending) (fate, int64, error) {
	if revision, ok := s.ledger.find(p.id); ok {
		return fateCommitted, revision, nil
	}
	head, err := s.api.Get(ctx, p.head)
	if errors.Is(err, errAbsent) {
		return fateDead, 0, nil
	}
	if err != nil {
		return 0, 0, err
	}
	f, revision := p.fateIn(head)
	return f, revision, nil
}

// fateIn is fate by the head as it was read.
func (p *pending) fateIn(head *object) (fate, int64) {
	if revision, ok := head.finds(p.id); ok {
		return fateCommitted, revision
	}
	if head.uid != p.uid || head.version != p.fence {
		return fateDead, 0
	}
	return fateOpen, 0
}

// read returns an object as it is now, with its pending commit decided: if pending is still set, that commit is open.
// It fails with errAbsent if there is no object.
func (s *Store) read(ctx context.Context, r ref, key store.Key) (*object, error) {
	o, err := s.api.Get(ctx, r)
	if err != nil {
		return nil, err
	}
	if o.key != key {
		return nil, fmt.Errorf("%w: %v holds %v, not %v", ErrCollision, r, o.key, key)
	}
	return s.resolve(ctx, o)
}

// resolve is read for an object that was just read.
func (s *Store) resolve(ctx context.Context, o *object) (*object, error) {
	for o.pending != nil {
		f, revision, err := s.fate(ctx, o.pending)
		switch {
		case err != nil:
			return nil, err
		case f == fateCommitted:
			return o.committed(revision), nil
		case f == fateOpen:
			return o, nil
		}
		again, err := s.api.Get(ctx, o.ref)
		if err != nil {
			return nil, err
		}
		if again.uid == o.uid && again.version == o.version {
			return o.rolledBack(), nil
		}
		o = again
	}
	return o, nil
}
