package kube

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. The callers of one process have their turns in the order of their calls, through
// whichever handles on a namespace; processes have theirs in the order of their tickets. See docs/kubernetes.md. Cost:
// no request if another caller of this process passes on its turn; otherwise three, one more if there is an earlier
// ticket, and a read of each head.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateTurn(keys...); err != nil {
		return nil, err
	}
	waiting, t, cancel := s.enter(ctx, keys...)
	defer cancel()
	err := t.wait(waiting, keys)
	s.held.Store(t, true)
	if err = s.unlessClosed(err); err != nil {
		t.End()
		return nil, err
	}
	return t, nil
}

// enter notes that a caller waits for its turn. The context that it returns also ends with Close.
func (s *Store) enter(ctx context.Context, keys ...store.Key) (context.Context, *turn, context.CancelFunc) {
	waiting, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(s.closing, func() { cancel(store.ErrClosed) })
	t := &turn{store: s, keys: slices.SortedFunc(slices.Values(keys), store.Key.Compare), leave: func() {}}
	s.lobby.enter(t.keys)
	for _, key := range t.keys {
		s.tails.begin(waiting, refOf(key))
	}
	return waiting, t, func() {
		stop()
		cancel(nil)
	}
}

// unlessClosed returns err, or that the handle is closed.
func (s *Store) unlessClosed(err error) error {
	if s.closing.Err() != nil {
		return store.ErrClosed
	}
	return err
}

// turn implements [store.Turn].
type turn struct {
	store  *Store
	keys   []store.Key // sorted
	heads  []store.Record
	leave  func() // the line of this process
	sent   int    // for how many of the keys, the first ones, the caller has gone on to the server
	placed int    // and for how many of these it has its turn there
	over   sync.Once
}

// wait waits for the turn, first in this process, then at the server, and reads the heads.
func (t *turn) wait(ctx context.Context, keys []store.Key) (err error) {
	if t.leave, err = t.store.lobby.turns.Wait(ctx, keys...); err != nil {
		t.leave = func() {}
		return err
	}
	for _, key := range t.keys {
		if err := t.queueUp(ctx, key); err != nil {
			return err
		}
	}
	t.heads = make([]store.Record, len(keys))
	for i, key := range keys {
		if t.heads[i], err = t.head(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// head returns the head at the beginning of a turn.
func (t *turn) head(ctx context.Context, key store.Key) (store.Record, error) {
	o, err := t.store.turnHead(ctx, key)
	if err != nil || o == nil || o.current() == nil {
		return store.Record{Key: key}, err
	}
	return o.current().Canonical(), nil
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// End implements [store.Turn]. It waits for no request.
func (t *turn) End() {
	t.over.Do(func() {
		s := t.store
		s.held.Delete(t)
		for _, ticket := range s.lobby.exit(t, s.now()) {
			s.discard(ticket)
		}
		t.leave()
		for _, key := range t.keys {
			s.end(refOf(key), nil)
		}
	})
}

// turnHead returns the object of a head at the beginning of a turn, nil if there is none. If the handle's process has
// lost the head in its turn, to somebody who commits without one, it also makes what that is about to commit
// impossible: who loses waits for a turn.
func (s *Store) turnHead(ctx context.Context, key store.Key) (*object, error) {
	o, lost := s.lobby.handOver(key)
	for range maxFences {
		var err error
		if o == nil {
			if o, err = s.read(ctx, refOf(key), key); err != nil {
				return nil, unlessMoved(err)
			}
		}
		if o.pending != nil {
			return o, nil
		}
		if lost {
			next := *o
			next.aborts++
			o, err = s.api.Update(ctx, &next)
			if errors.Is(err, errMoved) || errors.Is(err, errAbsent) {
				o = nil
				continue
			}
			if err != nil {
				return nil, err
			}
		}
		s.cache.put(o)
		return o, nil
	}
	return nil, errAgain
}

// maxFences is how often a turn tries to keep others from a head, each time against one who was faster.
const maxFences = 16

// lobby is where the callers of this process wait who are one user of one namespace of one API server.
type lobby struct {
	turns store.Turns // their order

	mu    sync.Mutex
	lines map[store.Key]*line
	lost  map[store.Key]bool // heads that somebody without a turn took in a turn of this process
}

// line is that at one head. The process may have several places in the line at the server, each with a ticket: one for
// each caller that has gone on because the one before it waited there for long. The first of them is the process's; the
// others still wait.
type line struct {
	callers int       // that wait for their turn or have it
	waiting int       // those of them that have not gone on to the server
	queued  int       // those of them that wait there
	ticket  *object   // with which the process stands in the line at the server; nil if it does not, or waits there
	holder  *turn     // which has its turn with that; nil if it is kept for the next one
	left    int       // for how many more turns it has that place
	until   time.Time // and no longer than that
	head    *object   // as the turn before has left it; nil if that is not known
}

// lobbies are those of this process, by host, namespace and user.
var lobbies sync.Map

// lobbyOf returns the lobby for a namespace of an API server. Each user has one, because callers there commit for one
// another.
func lobbyOf(config *rest.Config, namespace string) *lobby {
	user := fmt.Sprint(config.Username, config.BearerToken, config.BearerTokenFile, config.CertFile, config.Impersonate)
	client := sha256.Sum256(slices.Concat([]byte(user), config.CertData))
	found, _ := lobbies.LoadOrStore(fmt.Sprintf("%s %s %x", config.Host, namespace, client), newLobby())
	return found.(*lobby)
}

func newLobby() *lobby {
	return &lobby{lines: make(map[store.Key]*line), lost: make(map[store.Key]bool)}
}

// enter notes that a caller waits for its turn.
func (l *lobby) enter(keys []store.Key) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, key := range keys {
		if l.lines[key] == nil {
			l.lines[key] = &line{}
		}
		l.lines[key].callers++
		l.lines[key].waiting++
	}
}

// exit notes that a caller's turn is over, and returns the tickets that the process does not need any more.
func (l *lobby) exit(t *turn, now time.Time) (tickets []*object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, key := range t.keys {
		at := l.lines[key]
		at.callers--
		switch {
		case i >= t.sent:
			at.waiting--
		case i >= t.placed:
			at.queued--
		}
		if at.holder == t {
			at.holder = nil
		}
		if at.ticket != nil && at.holder == nil && !at.isKept(now) {
			tickets = append(tickets, at.ticket)
			at.ticket = nil
		}
		if at.callers == 0 {
			delete(l.lines, key)
		}
	}
	return tickets
}

// isKept reports whether the process may use its place for one more turn. It may not if another caller of the process
// stands behind that place in line at the server, and waits for it to go.
func (at *line) isKept(now time.Time) bool {
	return at.queued == 0 && at.waiting > 0 && at.left > 0 && now.Before(at.until)
}

// pass reports whether the caller, which goes on to the server, may take over the place that the process has there. If
// it may not, it gets in line there. It returns a ticket that nobody of the process has any more, or nil.
func (l *lobby) pass(t *turn, key store.Key, now time.Time) (kept bool, old *object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.lines[key]
	kept = at.ticket != nil && at.holder == nil && at.isKept(now)
	at.waiting--
	t.sent++
	if kept {
		at.left--
		at.holder = t
		t.placed++
		return true, nil
	}
	at.head = nil
	at.queued++
	if at.holder == nil {
		old, at.ticket = at.ticket, nil
	}
	return false, old
}

// place notes the ticket with which the caller has its turn at the server, for it and as many as wait behind it. It
// returns one that is not needed any more, or nil.
func (l *lobby) place(t *turn, key store.Key, ticket *object, until time.Time) (old *object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.lines[key]
	t.placed++
	at.queued--
	old = at.ticket
	at.ticket, at.holder, at.left, at.until, at.head = ticket, t, at.waiting, until, nil
	return old
}

// handOver returns the head as the turn before has left it, nil if that is not known, and whether that turn lost it.
func (l *lobby) handOver(key store.Key) (head *object, lost bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.lines[key]
	head, lost = at.head, l.lost[key]
	at.head = nil
	delete(l.lost, key)
	return head, lost
}

// committed notes what a commit in a turn has made of its first head; nil if it lost it.
func (l *lobby) committed(key store.Key, head *object) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.lines[key]; at != nil {
		at.head = head
	}
	if head == nil {
		dropOne(l.lost, maxCached)
		l.lost[key] = true
	}
}
