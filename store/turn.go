package store

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// MaxTurn is how long a turn may last. After at most twice that time, the next caller at the same head goes on; see
// [Store.Turn].
const MaxTurn = 250 * time.Millisecond

// Turn is one caller's turn to replace some heads; see [Store.Turn]. The commit that has it in a [Change] ends it, or
// End does; end it soon. It belongs to one goroutine.
type Turn interface {
	// Heads returns the heads as stored when the turn began, in the order of the keys given to Turn. A head that does
	// not exist has revision 0, and only its key is set.
	Heads() []Record

	// End ends the turn. It does nothing if the turn has already ended.
	End()
}

// Turns orders the callers of one process, for drivers whose backend has no order of its own, or should not be asked by
// each goroutine. The turns at a key follow one another in the order of the calls. A turn that lasts longer than
// [MaxTurn] is passed over.
//
// The zero Turns is ready for use. A Turns must not be copied after its first use. All methods may be called by any
// number of goroutines at once. A key at which no call waits takes no memory.
type Turns struct {
	mu    sync.Mutex
	lines map[Key][]*place
}

// place is where a caller stands in a line. The first one of a line has the turn.
type place struct {
	first chan struct{} // closed when the place is the first of its line
	ask   ask           // of [Turns.Join]
}

// Wait waits for the turn at the keys, in whatever order they are given, and returns a function that ends the turn.
// Only the first call of end has an effect. Errors: [ErrInvalid] if there is no key or a key occurs twice; the
// context's. After an error the caller has no turn. Cost: O(keys), without I/O.
func (t *Turns) Wait(ctx context.Context, keys ...Key) (end func(), err error) {
	if err := ValidateTurn(keys...); err != nil {
		return nil, err
	}
	places := make([]*place, 0, len(keys))
	ordered := slices.SortedFunc(slices.Values(keys), Key.Compare)
	end = func() {
		for i, p := range places {
			t.leave(ordered[i], p)
		}
	}
	for _, key := range ordered { // all callers take them in one order, so none waits for another in a circle
		p := t.enter(key, nil)
		places = append(places, p)
		if err := t.await(ctx, key, p); err != nil {
			end()
			return nil, err
		}
	}
	return end, nil
}

// Yield is for a driver's [Store.Commit]. If the changes have no turn, it waits for the turns that were asked for
// earlier at their heads. The commit must call done at its end, because callers that come later wait for it. Errors:
// the context's. Cost: O(changes).
func (t *Turns) Yield(ctx context.Context, changes []Change) (done func(), err error) {
	if !t.asked(changes) {
		return func() {}, nil
	}
	keys := make([]Key, len(changes))
	for i := range changes {
		keys[i] = changes[i].Head.Key
	}
	return t.Wait(ctx, keys...)
}

// asked reports whether there is a turn at a head, and the commit has none.
func (t *Turns) asked(changes []Change) bool {
	if slices.ContainsFunc(changes, func(c Change) bool { return c.Turn != nil }) {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.lines) > 0 && slices.ContainsFunc(changes, func(c Change) bool { return len(t.lines[c.Head.Key]) > 0 })
}

// enter takes the last place of the line at key, with what it asks for.
func (t *Turns) enter(key Key, wanted []byte) *place {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lines == nil {
		t.lines = make(map[Key][]*place)
	}
	p := &place{first: make(chan struct{})}
	p.ask.data, p.ask.told = bytes.Clone(wanted), make(chan struct{})
	t.lines[key] = append(t.lines[key], p)
	if len(t.lines[key]) == 1 {
		close(p.first)
	}
	return p
}

// leave takes the place out of its line, if it is still there.
func (t *Turns) leave(key Key, p *place) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.remove(key, p)
}

// remove is leave under the lock.
func (t *Turns) remove(key Key, p *place) {
	line := t.lines[key]
	i := slices.Index(line, p)
	if i < 0 {
		return
	}
	line = slices.Delete(line, i, i+1)
	if len(line) == 0 {
		delete(t.lines, key)
		return
	}
	t.lines[key] = line
	if i == 0 {
		close(line[0].first)
	}
}

// await returns when the place is the first of its line, its ask has been answered, or the context has ended.
func (t *Turns) await(ctx context.Context, key Key, p *place) error {
	select {
	case <-p.first:
		return ctx.Err()
	default:
	}
	ticker := time.NewTicker(MaxTurn)
	defer ticker.Stop()
	var first *place
	for {
		select {
		case <-p.first:
			return nil
		case <-p.ask.told:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("wait for a turn at %v: %w", key, ctx.Err())
		case <-ticker.C:
			first = t.passOver(key, first)
		}
	}
}

// passOver ends the turn at key if it is that of the place that was the first one a while ago. It returns the first
// place.
func (t *Turns) passOver(key Key, before *place) *place {
	t.mu.Lock()
	line := t.lines[key]
	var first *place
	if len(line) > 0 {
		first = line[0]
	}
	t.mu.Unlock()
	if first != nil && first == before {
		t.leave(key, first)
	}
	return first
}

// Turn is [Store.Turn] for a driver that knows no order but that of this process. The argument get is the driver's own
// [Store.Get].
//
//	func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
//		return s.turns.Turn(ctx, s.Get, keys...)
//	}
//
// Cost: that of Wait, and one Get for each key.
func (t *Turns) Turn(
	ctx context.Context, get func(context.Context, Key) (Record, error), keys ...Key,
) (Turn, error) {
	end, err := t.Wait(ctx, keys...)
	if err != nil {
		return nil, err
	}
	turn := &localTurn{end: end, heads: make([]Record, len(keys))}
	for i, key := range keys {
		if turn.heads[i], err = getOrNone(ctx, get, key); err != nil {
			end()
			return nil, err
		}
	}
	return turn, nil
}

// localTurn is a turn of [Turns].
type localTurn struct {
	heads []Record
	end   func()

	// Of [Turns.Join].
	turns   *Turns
	place   *place
	key     Key
	get     func(context.Context, Key) (Record, error)
	asks    [][]byte
	asking  []*place // whose asks they are
	answers [][]byte // to them; nil for none
	knows   bool     // whether the caller has been told of the answer to its own ask; guarded by the lock of turns
}

func (t *localTurn) Heads() []Record { return t.heads }

func (t *localTurn) End() { t.end() }

// ValidateTurn returns an error that wraps [ErrInvalid] unless there is at least one key, each key is valid, and none
// occurs twice. A driver begins [Store.Turn] with it.
func ValidateTurn(keys ...Key) error {
	if len(keys) == 0 {
		return fmt.Errorf("%w: a turn needs at least one key", ErrInvalid)
	}
	for i, key := range keys {
		if err := key.Validate(); err != nil {
			return err
		}
		if slices.Contains(keys[:i], key) {
			return fmt.Errorf("%w: the key %v occurs twice in a turn", ErrInvalid, key)
		}
	}
	return nil
}
