package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"
)

// The protocol of a commit of several heads over a store that commits one
//
// It is two-phase commit, in which the store holds the state and one of the heads the decision, as in Percolator. The heads are taken in
// the order of their keys; the first is the primary, the others are secondaries. Each commit has an identifier of its own.
//
//  1. Prepare. Each head in turn is replaced, guarded by its revision, with a record that holds what it was, what it is to be, its writes, the
//     identifier and the key of the primary.
//  2. Commit point. The primary is replaced with what it is to be, together with its writes and a new mark, a record that lists the secondaries. It is one
//     commit of the store, so the mark exists if and only if the primary was rolled forward.
//  3. Each secondary in turn is replaced with what it is to be, together with its writes; the last one together with the deletion of the mark.
//
// To abort, the primary is rolled back to what it was, then the secondaries are.
//
// Whoever meets a prepared head reads the primary, and then the mark.
//   - The primary is still prepared by this identifier: undecided. It waits a while, then rolls the primary back. That and the commit point
//     are both guarded by the revision of the prepared primary, so exactly one of them happens.
//   - Otherwise it is decided: if there is a mark, the head is rolled forward, if the coordinator does not do so within a while, else it is rolled back.
//
// Why that is right:
//   - A secondary is prepared only after the primary was. So "not prepared" never means "not yet prepared", unless
//     the primary itself is what was met, and a primary that is met prepared is undecided.
//   - Why a missing mark means rolled back, though marks are deleted: the mark goes in the same commit in which the last secondary is rolled
//     forward, and that one only after all others. If the mark is gone when it is looked for, then the head was rolled
//     forward before that, so that it is not at the revision at which it was met, and rolling it back fails as a conflict. Revisions never repeat, so there
//     is nothing that such a late commit could hit. For the same reason nothing is left over: as long as a mark exists, so does a head that
//     leads whoever meets it to the mark.
//   - A prepare that arrives late, after its coordinator has given up: the coordinator goes on to the commit point only when it knows that all
//     heads are prepared, and it never uses an identifier again. So there is no mark and never will be, and whoever meets the head rolls
//     it back. That includes the primary.
//   - A commit point that arrives late, after somebody has rolled the primary back, meets another revision and fails.
//   - A slow coordinator in phase 3 competes with others who do just the same, each step guarded by the revision of the prepared head.
//
// Only the coordinator rolls the primary forward, and only in the commit point. So the coordinator, not knowing what came of the commit point, finds out by
// the mark; if that is missing, others may have done all the rest already, and the outcome is unknown.

// coordinator is a store that carries out commits of several heads.
type coordinator struct {
	inner    Store
	random   io.Reader
	patience time.Duration
}

// attempts is how often a commit whose outcome is unknown is sent again. It is the same commit, guarded by the same revision, so at most one of
// them takes effect.
const attempts = 4

// part is one of the changes on its way.
type part struct {
	Change
	index    int // among the changes as given
	before   Record
	prepared *prepared
	at       Record // the prepared head as it is stored
}

// CommitSeveral implements [SeveralCommitter].
func (c *coordinator) CommitSeveral(ctx context.Context, changes []Change) ([]Record, error) {
	if err := ValidateSeveral(changes); err != nil {
		return nil, err
	}
	if len(changes) == 1 {
		head, err := c.Commit(ctx, changes[0].Head, changes[0].Writes)
		if err != nil {
			return nil, err
		}
		return []Record{head}, nil
	}
	for {
		heads, retry, err := c.attempt(ctx, changes)
		if !retry {
			return heads, err
		}
	}
}

// attempt tries to commit changes. It says to try again if heads that were in the way went away before anything could be told about them.
func (c *coordinator) attempt(ctx context.Context, changes []Change) (heads []Record, retry bool, err error) {
	parts, err := c.plan(ctx, changes)
	if err != nil {
		return nil, false, err
	}
	for i := range parts {
		if err := c.prepare(ctx, &parts[i]); err != nil {
			c.abort(ctx, parts[:i])
			return c.refused(ctx, changes, parts[i].index, err)
		}
	}
	mark, err := c.commitPoint(ctx, parts)
	if err != nil {
		if !errors.Is(err, ErrUnknown) {
			c.abort(ctx, parts)
		}
		return c.refused(ctx, changes, parts[0].index, err)
	}
	heads, err = c.finish(ctx, parts, mark)
	return heads, false, err
}

// plan reads the heads and what must not exist, and returns the changes in the order of their heads' keys.
func (c *coordinator) plan(ctx context.Context, changes []Change) ([]part, error) {
	parts := make([]part, len(changes))
	for i := range changes {
		before, err := c.expect(ctx, changes[i].Head)
		if err != nil {
			return nil, err
		}
		parts[i] = part{Change: changes[i], index: i, before: before}
	}
	if err := c.expectNone(ctx, changes); err != nil {
		return nil, err
	}
	slices.SortFunc(parts, func(a, b part) int { return compareKeys(a.Head.Key, b.Head.Key) })
	id := make([]byte, 16)
	if _, err := io.ReadFull(c.random, id); err != nil {
		return nil, fmt.Errorf("an identifier for a commit: %w", err)
	}
	for i := range parts {
		parts[i].prepared = newPrepared(hex.EncodeToString(id), parts[0].Head.Key, parts[i].before, parts[i].Change)
	}
	return parts, nil
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Name, b.Name))
}

// expect returns the stored head if it is at head.Revision, else a conflict.
func (c *coordinator) expect(ctx context.Context, head Record) (Record, error) {
	current, err := c.Get(ctx, head.Key)
	if errors.Is(err, ErrNotFound) {
		current, err = Record{Key: head.Key}, nil
	}
	if err == nil && current.Revision != head.Revision {
		err = &ConflictError{Expected: head.Revision, Current: current}
	}
	return current, err
}

// expectNone returns an [ExistsError] about the records that exist of those to be created.
func (c *coordinator) expectNone(ctx context.Context, changes []Change) error {
	var standing []Record
	for _, change := range changes {
		for _, w := range change.Writes {
			if w.Op != Create {
				continue
			}
			r, err := c.Get(ctx, w.Record.Key)
			switch {
			case err == nil:
				standing = append(standing, r)
			case !errors.Is(err, ErrNotFound):
				return err
			}
		}
	}
	if standing != nil {
		return &ExistsError{Records: standing}
	}
	return nil
}

// prepare replaces the head with its prepared form.
func (c *coordinator) prepare(ctx context.Context, p *part) error {
	record, err := p.prepared.record(p.Head.Key, p.Head.Revision)
	if err != nil {
		return err
	}
	for range attempts {
		if p.at, err = c.inner.Commit(ctx, record, nil); err == nil {
			return nil
		}
		var conflict *ConflictError
		if errors.As(err, &conflict) && preparedBy(&conflict.Current, p.prepared.Transaction) { // an earlier attempt
			p.at = conflict.Current
			return nil
		}
		if !errors.Is(err, ErrUnknown) {
			return err
		}
	}
	return err
}

// abort rolls back what is prepared, the primary first. What it cannot roll back, whoever meets it does.
func (c *coordinator) abort(ctx context.Context, parts []part) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.patience)
	defer cancel()
	for i := range parts {
		for range attempts {
			if err := c.rollBack(ctx, parts[i].at, parts[i].prepared); !errors.Is(err, ErrUnknown) {
				break
			}
		}
	}
}

// refused returns what CommitSeveral returns after an abort for err. If that was a conflict, it is about a head as it is now: the one at
// first, or one that the abort gave a new revision. If they are all as they were to be, there is nothing to tell, and the commit may be tried again.
func (c *coordinator) refused(ctx context.Context, changes []Change, first int, err error) ([]Record, bool, error) {
	if !errors.Is(err, ErrConflict) {
		return nil, false, err
	}
	for i := range changes {
		if _, err := c.expect(ctx, changes[(first+i)%len(changes)].Head); err != nil {
			return nil, false, err
		}
	}
	return nil, true, nil
}

// commitPoint rolls the primary forward and creates the mark, which it returns as it is stored.
func (c *coordinator) commitPoint(ctx context.Context, parts []part) (Record, error) {
	primary := &parts[0]
	var data markData
	for _, p := range parts[1:] {
		data.Heads = append(data.Heads, p.Head.Key)
	}
	text, err := json.Marshal(data)
	if err != nil {
		return Record{}, fmt.Errorf("the mark of a commit: %w", err)
	}
	mark := Record{Key: primary.prepared.mark(), State: stateCommitted, Data: text}
	head := primary.Head
	head.Revision = primary.at.Revision
	writes := append(slices.Clip(primary.Writes), Write{Op: Create, Record: mark})
	var unknown error
	for range attempts {
		done, err := c.inner.Commit(ctx, head, writes)
		switch {
		case err == nil:
			mark.Revision = done.Revision
			return mark, nil
		case errors.Is(err, ErrUnknown):
			unknown = err
		case unknown == nil:
			return Record{}, err
		default:
			return c.findOut(ctx, primary, unknown)
		}
	}
	return c.findOut(ctx, primary, unknown)
}

// findOut tells what came of a commit point whose outcome is unknown. If the primary is still prepared, it rolls it back, which is a conflict: the head
// has a new revision.
func (c *coordinator) findOut(ctx context.Context, primary *part, unknown error) (Record, error) {
	if err := c.rollBack(ctx, primary.at, primary.prepared); err == nil {
		return Record{}, &ConflictError{Expected: primary.Head.Revision, Current: Record{Key: primary.Head.Key}}
	}
	mark, err := c.mark(ctx, primary.prepared)
	switch {
	case err != nil:
		return Record{}, fmt.Errorf("%w: %w", unknown, err)
	case mark == nil:
		return Record{}, unknown
	}
	return *mark, nil
}

// errOvertaken says that a head was rolled forward by somebody else, and has changed since.
var errOvertaken = errors.New("others have changed it since")

// finish rolls the secondaries forward, and returns all heads in the order in which they were given.
func (c *coordinator) finish(ctx context.Context, parts []part, mark Record) ([]Record, error) {
	heads := make([]Record, len(parts))
	heads[parts[0].index] = parts[0].done(mark.Revision)
	var failed error
	for i := 1; i < len(parts); i++ {
		var last []Write
		if i == len(parts)-1 {
			last = []Write{{Op: Delete, Record: Record{Key: mark.Key}}}
		}
		revision, err := c.finishPart(ctx, &parts[i], last)
		if err != nil {
			failed = fmt.Errorf("%w: the commit has taken effect, but the revision of head %v cannot be told: %w", ErrUnknown, parts[i].Head.Key, err)
		}
		if err != nil && !errors.Is(err, errOvertaken) {
			return nil, failed // the mark must stay
		}
		heads[parts[i].index] = parts[i].done(revision)
	}
	if failed != nil {
		return nil, failed
	}
	return heads, nil
}

// done returns the part's head as it is stored with the revision.
func (p *part) done(revision int64) Record {
	head := p.Head.Canonical()
	head.Revision = revision
	return head
}

// finishPart rolls a secondary forward, or finds that somebody else has, and returns its revision.
func (c *coordinator) finishPart(ctx context.Context, p *part, last []Write) (revision int64, err error) {
	var done Record
	for range attempts {
		if done, err = c.rollForward(ctx, p.at, p.prepared, last...); !errors.Is(err, ErrUnknown) {
			break
		}
	}
	var conflict *ConflictError
	if !errors.As(err, &conflict) {
		return done.Revision, err
	}
	current := conflict.Current
	if held := preparedIn(&current); held != nil && held.Transaction == p.prepared.Transaction { // a part of its writes was done
		p.at, p.prepared = current, held
		return c.finishPart(ctx, p, last)
	}
	if p.prepared.After == nil || current.Revision == 0 || !sameContent(current, p.Head) {
		return 0, errOvertaken
	}
	return current.Revision, nil
}
