package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// pollsInPatience is how often whoever waits for another's commit looks again, if the store does not watch.
const pollsInPatience = 100

// resolve makes sure that r, a head that was read as prepared, is so no longer, by whoever's doing. See several_commit.go.
func (c *coordinator) resolve(ctx context.Context, r Record) error {
	p := preparedIn(&r)
	if p == nil {
		return nil
	}
	mark, waited, err := c.decide(ctx, p)
	if err == nil && mark != nil && !waited { // its coordinator is about to roll it forward, and wants to know the revision
		err = c.await(ctx, r)
	}
	switch {
	case err != nil:
	case mark == nil:
		err = c.rollBack(ctx, r, p)
	default:
		_, err = c.carryOut(ctx, r, p, *mark)
	}
	if err != nil && !errors.Is(err, ErrConflict) {
		return fmt.Errorf("resolve the commit %s of head %v: %w", p.Transaction, r.Key, err)
	}
	return nil // a conflict says that somebody else was faster
}

// decide returns the mark of a transaction, or nil when it has none and will never have one. It lets the transaction go on for a while, says whether
// it did, and then makes it fail.
func (c *coordinator) decide(ctx context.Context, p *prepared) (mark *Record, waited bool, err error) {
	var failed error
	for range attempts {
		primary, err := c.inner.Get(ctx, p.Primary)
		if err != nil && !errors.Is(err, ErrNotFound) {
			return nil, waited, err
		}
		if err != nil || !preparedBy(&primary, p.Transaction) {
			mark, err = c.mark(ctx, p)
			return mark, waited, err
		}
		if !waited {
			waited = true
			if err := c.await(ctx, primary); err != nil {
				return nil, waited, err
			}
			continue
		}
		failed = c.rollBack(ctx, primary, preparedIn(&primary))
		switch {
		case failed == nil:
			return nil, waited, nil
		case !errors.Is(failed, ErrConflict) && !errors.Is(failed, ErrUnknown):
			return nil, waited, failed
		}
	}
	return nil, waited, failed
}

// mark returns the transaction's mark, nil if there is none.
func (c *coordinator) mark(ctx context.Context, p *prepared) (*Record, error) {
	mark, err := c.inner.Get(ctx, p.mark())
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &mark, nil
}

// await waits until the record has changed, as long as the coordinator's patience lasts.
func (c *coordinator) await(ctx context.Context, r Record) error {
	waiting, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	_, err := Watch(waiting, c.inner, r.Key, r.Revision, max(c.patience/pollsInPatience, time.Millisecond))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case waiting.Err() != nil, errors.Is(err, ErrNotFound):
		return nil
	}
	return err
}

// rollBack makes r, a prepared head, what it was.
func (c *coordinator) rollBack(ctx context.Context, r Record, p *prepared) error {
	head, writes := p.back(r.Key, r.Revision)
	_, err := c.inner.Commit(ctx, head, writes)
	return err
}

// carryOut rolls r forward, a prepared head of a transaction that has its mark. The last of the transaction's heads goes last, and takes the mark
// with it.
func (c *coordinator) carryOut(ctx context.Context, r Record, p *prepared, mark Record) (Record, error) {
	var data markData
	if err := json.Unmarshal(mark.Data, &data); err != nil {
		return Record{}, fmt.Errorf("the mark %v: %w", mark.Key, err)
	}
	if len(data.Heads) == 0 || r.Key != data.Heads[len(data.Heads)-1] {
		return c.rollForward(ctx, r, p)
	}
	for _, key := range data.Heads[:len(data.Heads)-1] {
		if err := c.rollForwardKey(ctx, key, p.Transaction); err != nil {
			return Record{}, err
		}
	}
	return c.rollForward(ctx, r, p, Write{Op: Delete, Record: Record{Key: mark.Key}})
}

// rollForwardKey rolls the head under key forward, unless it is not prepared by the transaction any more.
func (c *coordinator) rollForwardKey(ctx context.Context, key Key, transaction string) error {
	var failed error
	for range attempts {
		r, err := c.inner.Get(ctx, key)
		switch {
		case errors.Is(err, ErrNotFound):
			return nil
		case err != nil:
			return err
		case !preparedBy(&r, transaction):
			return nil
		}
		_, err = c.rollForward(ctx, r, preparedIn(&r))
		if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrUnknown) {
			return err
		}
		failed = err
	}
	return failed
}

// rollForward makes r, a prepared head, what it is to be, with the last writes in the same commit. If that is too large for one commit, it does some
// of the writes before, with the rest still prepared: a prepare has told that the bytes fit, but not that the number of writes does.
func (c *coordinator) rollForward(ctx context.Context, r Record, p *prepared, last ...Write) (Record, error) {
	for {
		head, writes := p.forward(r.Key, r.Revision)
		done, err := c.inner.Commit(ctx, head, append(writes, last...))
		if !errors.Is(err, ErrTooLarge) || len(p.Writes) < 2 {
			return done, err
		}
		part, rest := *p, *p
		half := len(p.Writes) / 2
		for {
			rest.Writes = p.Writes[half:]
			part.Writes = p.Writes[:half]
			next, nextErr := c.rollForwardPart(ctx, r, &part, &rest)
			if nextErr == nil {
				r, p = next, &rest
				break
			}
			if half /= 2; !errors.Is(nextErr, ErrTooLarge) || half == 0 {
				return Record{}, nextErr
			}
		}
	}
}

// rollForwardPart does the writes of part, and leaves the head prepared with those of rest.
func (c *coordinator) rollForwardPart(ctx context.Context, r Record, part, rest *prepared) (Record, error) {
	head, err := rest.record(r.Key, r.Revision)
	if err != nil {
		return Record{}, err
	}
	var writes []Write
	for _, w := range part.Writes {
		writes = append(writes, w.write())
	}
	return c.inner.Commit(ctx, head, writes)
}
