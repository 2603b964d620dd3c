package simulation

import (
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// promises are what owners were told by the answers to their calls, by pool and owner. What they are told must stay
// true.
type promises struct {
	world *World
	acked map[string]pool.Allocation // what an owner was told that it holds of a pool
	// absent are those who were told that they hold nothing, and have not asked since.
	absent map[string]bool
	trying map[string]int // how many calls of an owner are under way
	// doubt are those a call of whom has not said what came of it, so that it may yet take effect: as a commit until
	// there is another one, and as an ask until there is a fence.
	doubt map[string]bool
	// asked is through which handle that was, if its process lives: it sees to it that nothing does after its next
	// answer.
	asked map[string]*pool.Pool
	// leaving are those whose last release did not say what came of it, as when its process died: it may yet take effect
	// on what they held then, so that what they are told that they hold is not certain until a release has come to its
	// end, or a fenced claim.
	leaving map[string]bool
	// leaver is through which handle that was, if its process lives and no other release is in doubt: nothing does after
	// its next answer.
	leaver map[string]*pool.Pool
	// gone are those of whom a reconciliation was told that they are no more, since they last got an answer. It may
	// yet release what they hold, also if their own release fails.
	gone map[string]bool
}

func newPromises(w *World) *promises {
	return &promises{
		world: w, acked: map[string]pool.Allocation{}, absent: map[string]bool{}, trying: map[string]int{},
		doubt: map[string]bool{}, asked: map[string]*pool.Pool{}, leaving: map[string]bool{}, gone: map[string]bool{},
		leaver: map[string]*pool.Pool{},
	}
}

// observe looks at a record that was before and is now.
func (m *promises) observe(before, now store.Record, latest time.Time) {
	if now.Kind != store.KindAllocation {
		return
	}
	key := now.Pool + "/" + now.Name
	same := now.Revision > 0 && now.State == "allocated" && fmt.Sprint(now.Prefixes) == fmt.Sprint(before.Prefixes) &&
		entryOf(now).prefixes == entryOf(before).prefixes
	if m.absent[key] && now.Revision > 0 && now.State == "allocated" && !(same && before.State == now.State) {
		m.world.Fail("%s was told that it holds nothing, and then was given %v", key, now.Prefixes)
	}
	acked, known := m.acked[key]
	if !known || before.State != "allocated" {
		return
	}
	ended := !before.Expires.IsZero() && !before.Expires.After(latest)
	if !same && !ended {
		m.world.Fail("%s was told that it holds %v, and it was taken away: %s %v at %d %s became %s %v at %d %s", key, acked,
			before.State, before.Prefixes, before.Revision, before.Data, now.State, now.Prefixes, now.Revision, now.Data)
	}
}

// try notes that a call of an owner to allocate is under way, until the function that it returns is called.
func (m *promises) try(key string) (done func()) {
	m.trying[key]++
	m.doubt[key] = true
	delete(m.absent, key)
	delete(m.asked, key)
	return func() { m.trying[key]-- }
}

// ack notes what an owner was told through p that it holds. A fenced answer is certain whatever was under way before,
// and if it is about what the owner held before, nothing else can come about later either.
func (m *promises) ack(key string, p *pool.Pool, a pool.Allocation, fenced bool) {
	if before, known := m.acked[key]; fenced && known && before.Generation == a.Generation {
		m.doubt[key] = false
	}
	if fenced || m.leaver[key] == p {
		m.leaving[key] = false
	}
	delete(m.gone, key)
	if !m.leaving[key] {
		m.acked[key] = a
	}
}

// leave notes that a release of an owner through p is under way, until the function that it returns is called with its
// outcome, and with whether nothing is known of the owner after that but that it has what it had.
func (m *promises) leave(key string, p *pool.Pool) (done func(err error, unchanged bool)) {
	before, known := m.acked[key]
	leaving := m.leaving[key]
	delete(m.acked, key)
	delete(m.leaver, key)
	m.leaving[key] = true
	return func(err error, unchanged bool) {
		if !leaving {
			m.leaver[key] = p
		}
		if m.leaving[key] = errors.Is(err, store.ErrUnknown) || leaving && unchanged; known && unchanged && !m.gone[key] {
			m.acked[key] = before
		}
	}
}

// isLive tells a reconciliation whether an owner may hold something: it was told so, or it is asking.
func (m *promises) isLive(key string) bool {
	_, known := m.acked[key]
	live := known || m.trying[key] > 0
	if !live {
		m.gone[key] = true
	}
	return live
}
