package kube

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. The update of the first head is the commit point. The other heads are written as
// records are, each guarded by its revision. The package comment describes the protocol and its cost; a further head
// costs as much as one more write.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	given, err := s.lobby.turns.Answers(ctx, inProcess(changes))
	if err != nil {
		return nil, err
	}
	return s.commit(ctx, changes, given)
}

// unguarded is the expected revision of a write that may replace any.
const unguarded = -1

// intent is one write of a transaction, apart from that of its head.
type intent struct {
	ref
	key      store.Key
	op       store.Op
	value    *store.Record // nil for a delete
	expected int64         // revision, 0 if nothing may be there, or unguarded
}

// transaction is one commit on its way.
type transaction struct {
	*Store
	id       string
	head     intent
	intents  []intent
	several  bool                     // there are more heads, among the intents
	turn     store.Turn               // in which it is made; may be nil
	waited   map[string]time.Duration // for commits of others, by their identifiers
	base     *object                  // of the head, as the attempt found it
	prepared []*object                // that the attempt has written, pending
	roll     *object                  // that names these; nil if there is none
	unsure   []ref                    // that it may have written
	wrote    time.Duration            // that this took
	dead     []leftover               // that stay of attempts; for later, once it is certain that none comes about

	mu sync.Mutex // of waited
}

// errAgain says that an attempt must be made anew, because what it began with has changed or somebody else was first.
var errAgain = errors.New("the attempt must be made anew")

const (
	maxAttempts = 1000
	firstPause  = 2 * time.Millisecond
	lastPause   = 50 * time.Millisecond
	cleanUpTime = 2 * time.Second // for what is tidied up after the caller's context has ended
)

// commit makes a commit, and calls given with what becomes of it before others have their turns: those who were
// answered are not to get in line for theirs.
func (s *Store) commit(
	ctx context.Context, changes []store.Change, given func([]store.Record, error),
) ([]store.Record, error) {
	t := &transaction{Store: s, id: s.newID(), several: len(changes) > 1, waited: make(map[string]time.Duration)}
	heads := make([]store.Record, len(changes))
	for i, c := range changes {
		heads[i] = c.Head.Canonical()
		if c.Turn != nil {
			t.turn = c.Turn
		}
		head := intent{refOf(c.Head.Key), c.Head.Key, store.Put, &heads[i], c.Head.Revision}
		if c.DeletesHead() {
			head.op, head.value = store.Delete, nil
		}
		if i == 0 {
			t.head = head
		} else {
			t.intents = append(t.intents, head)
		}
		for _, w := range c.Writes {
			if w.Record.Key != c.Head.Key {
				t.intents = append(t.intents, newIntent(w))
			}
		}
	}
	s.tails.begin(ctx, t.head.ref)
	defer func() {
		if t.turn != nil {
			t.turn.End()
		}
		s.end(t.head.ref, t.dead)
	}()
	revision, err := t.run(ctx)
	if err == nil || errors.Is(err, store.ErrUnknown) {
		t.dead = nil // earlier attempts had the same identifier: what they left is of one that came about, or may yet
	}
	if err != nil {
		given(nil, err)
		return nil, err
	}
	for i := range heads {
		heads[i] = heads[i].Canonical()
		heads[i].Revision = revision
	}
	given(heads, nil)
	return heads, nil
}

func newIntent(w store.Write) intent {
	in := intent{refOf(w.Record.Key), w.Record.Key, w.Op, nil, unguarded}
	if w.Op != store.Delete {
		value := w.Record.Canonical()
		in.value = &value
	}
	return in
}

// run attempts the commit until it is decided, and returns its revision.
func (t *transaction) run(ctx context.Context) (int64, error) {
	wait := firstPause
	for range maxAttempts {
		t.queue(ctx)
		revision, err := t.attempt(ctx)
		if err == nil {
			return revision, nil
		}
		t.failed(err)
		again := errors.Is(err, errAgain)
		if !errors.Is(err, store.ErrUnknown) {
			t.rollBack(ctx, !again)
		}
		if !again {
			return 0, err
		}
		t.cache.drop(t.head.ref)
		if err := t.pause(ctx, jitter(wait)); err != nil {
			return 0, fmt.Errorf("commit of head %v: %w", t.head.key, err)
		}
		wait = min(2*wait, lastPause)
	}
	return 0, fmt.Errorf("commit of head %v: gave up after %d attempts, in each of which somebody else was about to "+
		"write the same", t.head.key, maxAttempts)
}

// queue takes a turn if this handle has lost the head lately, and the caller has none. A commit of several heads takes
// none: a turn at the first would keep nobody from the others, and while it waits they change.
func (t *transaction) queue(ctx context.Context) {
	if t.turn == nil && !t.several && t.rivals.of(t.head.ref) > 0 {
		if made, err := t.Turn(ctx, t.head.key); err == nil {
			t.turn = made
		}
	}
}

// failed ends the turn of an attempt that is not made again, before what it has written is taken back.
func (t *transaction) failed(err error) {
	if t.turn == nil || errors.Is(err, errAgain) {
		return
	}
	if errors.Is(err, store.ErrConflict) {
		t.lobby.committed(t.head.key, nil)
	}
	t.turn.End()
}

// jitter returns a time from half of d to d.
func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

// attempt does the three steps of a commit: it finds the head, writes all records pending, and updates the head.
func (t *transaction) attempt(ctx context.Context) (int64, error) {
	t.base, t.prepared, t.roll, t.unsure = nil, nil, nil, nil
	base, err := t.findHead(ctx)
	if err != nil {
		return 0, err
	}
	t.base = base
	if err := t.fit(ctx); err != nil {
		return 0, err
	}
	log, err := t.prepare(ctx)
	if errors.Is(err, store.ErrExists) || errors.Is(err, store.ErrConflict) {
		return 0, t.checked(ctx, err)
	}
	if err != nil {
		return 0, err
	}
	return t.decide(ctx, log)
}

// findHead returns the object of the head, at the revision that is expected; it creates it, without a record, where
// there is none.
func (t *transaction) findHead(ctx context.Context) (*object, error) {
	if known := t.cache.get(t.head.ref); known != nil && known.pending == nil && known.key == t.head.key &&
		t.head.expected > 0 && known.revision() == t.head.expected {
		return known, nil
	}
	if t.head.expected == 0 {
		made, err := t.api.Create(ctx, &object{ref: t.head.ref, key: t.head.key})
		if !errors.Is(err, errExists) {
			return made, err
		}
	}
	o, err := t.read(ctx, t.head.ref, t.head.key)
	switch {
	case errors.Is(err, errAbsent) && t.head.expected == 0:
		return nil, errAgain
	case errors.Is(err, errAbsent):
		return nil, t.conflict(&t.head, nil)
	case err != nil:
		return nil, err
	case o.pending != nil:
		if err := t.block(ctx, o.pending); err != nil {
			return nil, err
		}
		return nil, errAgain
	case o.revision() != t.head.expected:
		return nil, t.conflict(&t.head, o)
	}
	return o, nil
}

// conflict returns the error of a guarded write whose record is stored as found; nil if there is no object.
func (t *transaction) conflict(in *intent, found *object) error {
	current := store.Record{Key: in.key}
	if found != nil && found.current() != nil {
		current = found.current().Canonical()
	}
	return &store.ConflictError{Expected: in.expected, Current: current}
}

// checked returns err, unless the head has changed meanwhile, which comes first.
func (t *transaction) checked(ctx context.Context, err error) error {
	o, headErr := t.read(ctx, t.head.ref, t.head.key)
	switch {
	case errors.Is(headErr, errAbsent) && t.head.expected == 0:
		return err
	case errors.Is(headErr, errAbsent):
		return t.conflict(&t.head, nil)
	case headErr != nil:
		return headErr
	case o.revision() != t.head.expected:
		return t.conflict(&t.head, o)
	}
	return err
}

// decide updates the head: the commit point. Log is what the head still has to list beside this commit.
func (t *transaction) decide(ctx context.Context, log []entry) (int64, error) {
	revision, err := t.revision()
	if err != nil {
		return 0, err
	}
	next := *t.base
	next.value, next.pending, next.last, next.log = nil, nil, t.id, log
	if t.head.value != nil {
		value := *t.head.value
		value.Revision = revision
		next.value = &value
	}
	if len(t.prepared) > 0 {
		next.log = append(next.log, t.entry(revision))
	}
	stored, err := t.api.Update(ctx, &next)
	if err != nil {
		t.cache.drop(t.head.ref)
		return t.undecided(ctx, err)
	}
	t.done(revision, stored)
	return revision, nil
}

// revision returns the revision of the commit: greater than each that one of its keys has had. For those that existed
// until now that is clear; and a revision is never greater than the resourceVersion that the head's object got with it,
// so that what was stored under a key before it was deleted has a smaller revision than the resourceVersion of what was
// written for the key since.
func (t *transaction) revision() (int64, error) {
	highest := max(t.base.revision(), t.base.floor)
	versions := []string{}
	if t.base.value == nil {
		versions = append(versions, t.base.version)
	}
	for _, o := range t.prepared {
		versions = append(versions, o.version)
		highest = max(highest, o.revision())
	}
	for _, version := range versions {
		n, err := versionNumber(version)
		if err != nil {
			return 0, err
		}
		highest = max(highest, n)
	}
	return highest + 1, nil
}

func (t *transaction) entry(revision int64) entry {
	e := entry{id: t.id, revision: revision}
	if t.roll != nil {
		e.objects = []ref{t.roll.ref}
		return e
	}
	for _, o := range t.prepared {
		e.objects = append(e.objects, o.ref)
	}
	return e
}

// undecided returns what to say of a commit whose update of the head failed with err: it may have come about all the
// same.
func (t *transaction) undecided(ctx context.Context, err error) (int64, error) {
	refused := errors.Is(err, errMoved) || errors.Is(err, errAbsent)
	if !refused && !errors.Is(err, errUnsure) {
		return 0, err
	}
	unknown := fmt.Errorf("commit of head %v: %w: %w", t.head.key, store.ErrUnknown, err)
	if ctx.Err() != nil && !refused {
		return 0, unknown
	}
	head, readErr := t.api.Get(ctx, t.head.ref)
	if readErr == nil {
		if revision, ok := t.ours(head); ok {
			t.done(revision, head)
			return revision, nil
		}
	}
	t.rivals.lost(t.head.ref)
	switch {
	case !refused:
		return 0, unknown
	case readErr == nil && head.key == t.head.key && head.pending == nil && head.revision() != t.head.expected:
		return 0, t.conflict(&t.head, head)
	default:
		return 0, errAgain
	}
}

// ours reports whether the commit has come about, and its revision, by the head's object.
func (t *transaction) ours(head *object) (int64, bool) {
	if revision, ok := head.finds(t.id); ok {
		return revision, true
	}
	if head.last == t.id && head.value != nil && head.pending == nil {
		return head.value.Revision, true
	}
	return 0, false
}

// done remembers that the commit has come about.
func (t *transaction) done(revision int64, head *object) {
	t.rivals.won(t.head.ref)
	if head.pending == nil {
		t.cache.put(head)
		if t.turn != nil {
			t.lobby.committed(t.head.key, head)
		}
	}
	for _, o := range t.prepared {
		t.cache.put(o)
	}
	if len(t.prepared) > 0 || head.value == nil {
		t.ledger.add(t.id, head.ref, revision, t.prepared, t.roll)
	}
	t.ledger.forget(t.base.log, head.log)
}

// moved returns errAgain if err says that an object is another one by now, else err.
func (t *transaction) moved(err error) error {
	if errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
		return errAgain
	}
	return err
}

// rollBack removes what the attempt has written, as far as it can in about the time that this took: the rest is of a
// commit that never comes about, and so means nothing. It is removed later. The last attempt also removes an object
// for the head that it made, or found, without anything in it.
func (t *transaction) rollBack(ctx context.Context, last bool) {
	written := t.prepared
	if t.roll != nil {
		written = append(written, t.roll)
	}
	if last && t.base != nil && t.base.empty() {
		written = append(written, t.base)
	}
	for _, r := range t.unsure {
		t.dead = append(t.dead, leftover{r, t.id})
	}
	t.prepared, t.roll, t.base, t.unsure = nil, nil, nil, nil
	if len(written) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime+t.wrote)
	defer cancel()
	errs := inParallel(t.options.Parallel, len(written), func(i int) error {
		t.cache.drop(written[i].ref)
		stored, err := t.store(ctx, written[i].rolledBack())
		if err == nil && stored != nil {
			t.cache.put(stored)
		}
		return err
	})
	for i, err := range errs {
		if err != nil && !errors.Is(err, errMoved) && !errors.Is(err, errAbsent) {
			t.dead = append(t.dead, leftover{written[i].ref, t.id})
		}
	}
}

// store writes an object without a pending commit, or removes it if nothing is in it. It returns nil for an object that
// was removed.
func (s *Store) store(ctx context.Context, o *object) (*object, error) {
	if o.empty() {
		return nil, s.api.Remove(ctx, o)
	}
	return s.api.Update(ctx, o)
}
