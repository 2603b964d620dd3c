package simulation

import (
	"context"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// turns are the processes that wait for each head, in the order in which they came. The first one has the turn.
type turns map[store.Key][]*place

// place is where a process stands in a line.
type place struct {
	process *Process
	call    *Call
	since   int  // the step at which its turn began
	left    bool // the process has gone, but the place is still there
	ask     ask
}

// longTurn is how many steps a turn lasts until others go on.
const longTurn = 400

// stale reports whether nobody needs to wait for the place: its process died, went on, or takes long.
func (p *place) stale() bool {
	w := p.process.World
	return p.left || p.process.ended || p.process.call != p.call || w.Steps-p.since > longTurn
}

// placeOf returns a place for the call that the process makes, with what it asks for. It is in no line yet.
func placeOf(p *Process, wanted []byte) *place {
	return &place{process: p, call: p.call, since: p.World.Steps, ask: ask{data: slices.Clone(wanted)}}
}

// add puts a place at the end of the line at key.
func (b *Backend) add(key store.Key, at *place) {
	if b.turns == nil {
		b.turns = turns{}
	}
	at.since = at.process.World.Steps
	b.turns[key] = append(b.turns[key], at)
}

// enter takes the last place at key, with what it asks for.
func (b *Backend) enter(key store.Key, p *Process, wanted []byte) *place {
	at := placeOf(p, wanted)
	b.add(key, at)
	return at
}

// isFirst reports whether it is the turn of the place, after those that are stale.
func (b *Backend) isFirst(key store.Key, at *place) bool {
	for line := b.turns[key]; len(line) > 0 && line[0] != at && line[0].stale(); line = b.turns[key] {
		b.leave(key, line[0])
	}
	line := b.turns[key]
	return len(line) == 0 || line[0] == at || !slices.Contains(line, at)
}

func (b *Backend) leave(key store.Key, at *place) {
	line := b.turns[key]
	i := slices.Index(line, at)
	if i < 0 {
		return
	}
	if line = slices.Delete(line, i, i+1); len(line) == 0 {
		delete(b.turns, key)
		return
	}
	b.turns[key], line[0].since = line, line[0].process.World.Steps
}

// Turn waits step by step.
func (h *handle) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := store.ValidateTurn(keys...); err != nil {
		return nil, err
	}
	t := &turn{handle: h}
	for _, key := range slices.SortedFunc(slices.Values(keys), store.Key.Compare) {
		if h.process == nil || h.backend.Turnless {
			break
		}
		at := h.backend.enter(key, h.process, nil)
		t.keys, t.places = append(t.keys, key), append(t.places, at)
		for first := false; !first; first = h.backend.isFirst(key, at) {
			if err := h.read(ctx); err != nil {
				t.End()
				return nil, err
			}
		}
	}
	for _, key := range keys {
		r, ok := h.backend.read(h.process, key)
		if !ok {
			r = store.Record{Key: key}
		}
		t.heads = append(t.heads, r.Canonical())
	}
	return t, nil
}

// yield lets those go first that wait for a turn at a head of a commit that has none.
func (h *handle) yield(ctx context.Context, changes []store.Change) error {
	if h.process == nil || h.backend.Overtaking {
		return nil
	}
	for _, c := range changes {
		if c.Turn == nil && len(h.backend.turns[c.Head.Key]) > 0 {
			t, err := h.Turn(ctx, c.Head.Key)
			if err != nil {
				return err
			}
			t.End()
		}
	}
	return nil
}

// turn is that of a process.
type turn struct {
	handle *handle
	keys   []store.Key
	places []*place
	heads  []store.Record
}

func (t *turn) Heads() []store.Record { return t.heads }

// End ends the turn at once, unless its process is dying: then others find out that it has.
func (t *turn) End() {
	if t.handle.process != nil && t.handle.process.dying {
		return
	}
	for i, at := range t.places {
		t.handle.backend.leave(t.keys[i], at)
	}
	t.places = nil
}
