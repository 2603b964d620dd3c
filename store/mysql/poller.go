package mysql

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// pollInterval is how often the revisions are asked for at which calls of Watch wait.
const pollInterval = 100 * time.Millisecond

// pollPatience is how long the server may take to answer.
const pollPatience = 30 * time.Second

// poller has a goroutine that asks for revisions as long as someone waits.
type poller struct {
	store *Store

	mu      sync.Mutex
	waiters map[*waiter]struct{}
	end     context.CancelFunc // nil if nobody waits
	running sync.WaitGroup
}

// waiter is one call of Watch.
type waiter struct {
	key      store.Key
	revision int64
	wake     chan error // has one element if the record may have changed, or that cannot be told
}

func newPoller(s *Store) *poller { return &poller{store: s, waiters: make(map[*waiter]struct{})} }

// enter adds a waiter, and begins to poll if there is no other.
func (p *poller) enter(key store.Key, revision int64) (*waiter, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store.isClosed() {
		return nil, store.ErrClosed
	}
	w := &waiter{key, revision, make(chan error, 1)}
	p.waiters[w] = struct{}{}
	if p.end == nil {
		var ctx context.Context
		ctx, p.end = context.WithCancel(context.Background())
		p.running.Go(func() { p.run(ctx) })
	}
	return w, nil
}

// leave removes a waiter. The goroutine ends if it was the last.
func (p *poller) leave(w *waiter) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.waiters, w)
	if len(p.waiters) == 0 {
		p.stop()
	}
}

// stop ends the goroutine. The poller is locked.
func (p *poller) stop() {
	if p.end != nil {
		p.end()
		p.end = nil
	}
}

// close ends all waiting calls. The store is closed already.
func (p *poller) close() {
	p.mu.Lock()
	p.stop()
	for w := range p.waiters {
		w.notify(store.ErrClosed)
	}
	p.mu.Unlock()
	p.running.Wait()
}

// run polls until ctx ends. A request that is under way then is finished, so that its connection can be used again.
func (p *poller) run(ctx context.Context) {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		p.poll()
	}
}

// poll asks once for all, and wakes those whose records have changed.
func (p *poller) poll() {
	p.mu.Lock()
	waiting := make([]*waiter, 0, len(p.waiters))
	keys := make([]store.Key, 0, len(p.waiters))
	for w := range p.waiters {
		waiting, keys = append(waiting, w), append(keys, w.key)
	}
	p.mu.Unlock()
	if len(keys) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), pollPatience)
	defer cancel()
	revisions, err := p.store.revisions(ctx, keys)
	for i, w := range waiting {
		if err != nil {
			w.notify(err)
		} else if revisions[i] != w.revision {
			w.notify(nil)
		}
	}
}

// revisions returns the revisions of the records under the keys, 0 for those that do not exist.
func (s *Store) revisions(ctx context.Context, keys []store.Key) ([]int64, error) {
	text, err := keysText(keys)
	if err != nil {
		return nil, err
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	revisions := make([]int64, len(keys))
	err = call(ctx, conn, s.sql.revisions, []any{text}, func(r *reply) error {
		i, err := r.index(len(keys))
		revision, err2 := r.number(1)
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		revisions[i] = revision
		return nil
	})
	return revisions, err
}

// notify wakes the waiter, if it has not been already.
func (w *waiter) notify(err error) {
	select {
	case w.wake <- err:
	default:
	}
}
