package kube

import (
	"context"
	"errors"
	"sync"
	"time"
)

// What a handle leaves behind a commit is settled by the next one, beside its own step 1. If none comes soon, a
// goroutine that the commit leaves behind settles it, and takes the commits out of the head's log. It ends by itself.

const (
	quietTime     = 50 * time.Millisecond // without a commit of the handle to a head, until what is left there is settled
	busyTime      = 2 * time.Second       // the same if others commit there: to trim the log would be in their way
	tidyParallel  = 4                     // requests at once for that, so that other calls have the rest
	tidyAttempts  = 6                     // until what cannot be settled is left to others
	closeTime     = 5 * time.Second       // that Close waits for it
	tidyPause     = 100 * time.Millisecond
	settleTimeout = 10 * time.Second // of one request that nobody waits for
)

// tails are the heads at which a handle has something to settle, and the goroutines that do so.
type tails struct {
	still bool // nothing is done in the background

	mu      sync.Mutex
	heads   map[ref]*tail
	closed  bool
	running sync.WaitGroup
	closing chan struct{} // closed with closed
}

// tail is what a handle has left at one head.
type tail struct {
	busy    int           // calls at the head that are under way
	begun   int           // calls at the head so far
	running bool          // a goroutine looks after it
	others  bool          // the handle has been in line since that was last quiet
	trim    chan struct{} // closed when the head's log has been trimmed; nil if nobody does that
	dead    []leftover
}

// leftover is an object that a commit which came to nothing may have left pending.
type leftover struct {
	ref
	id string
}

func newTails() *tails { return &tails{heads: make(map[ref]*tail), closing: make(chan struct{})} }

// of returns the tail of a head. Mu is held.
func (l *tails) of(head ref) *tail {
	t := l.heads[head]
	if t == nil {
		t = &tail{}
		l.heads[head] = t
	}
	return t
}

// inLine notes that others commit to the head.
func (l *tails) inLine(head ref) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(head).others = true
}

// spawn runs do in a goroutine for which Close waits. It reports false if the handle is closed.
func (l *tails) spawn(do func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.running.Go(do)
	return true
}

// begin notes that a call at head begins. It waits for a trimming of the head's log, which would be in the call's way.
func (l *tails) begin(ctx context.Context, head ref) {
	l.mu.Lock()
	t := l.of(head)
	t.busy++
	t.begun++
	trim := t.trim
	l.mu.Unlock()
	if trim != nil {
		select {
		case <-trim:
		case <-ctx.Done():
		}
	}
}

// end notes that a call at head has ended, and sees to it that what it left is settled.
func (s *Store) end(head ref, dead []leftover) {
	owes := len(s.ledger.commitsOn(head)) > 0
	l := s.tails
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(head)
	t.busy--
	t.dead = append(t.dead, dead...)
	switch {
	case !owes && len(t.dead) == 0 && t.busy == 0 && !t.running:
		delete(l.heads, head)
	case l.still || l.closed || t.running || !owes && len(t.dead) == 0:
	default:
		t.running = true
		l.running.Go(func() { s.lookAfter(head) })
	}
}

// lookAfter settles what is left at a head as soon as no call there is under way.
func (s *Store) lookAfter(head ref) {
	failures := 0
	for failures < tidyAttempts && s.tails.quiet(head) && s.working.Err() == nil {
		err := s.tidy(s.working, head)
		if err == nil && s.leave(head) {
			return
		}
		if err != nil && !errors.Is(err, errAgain) {
			failures++
			s.tails.rest(tidyPause << failures)
		}
	}
	s.giveUp(head)
}

// quiet waits until no call at the head was under way for a while. It reports false if the handle is closed and some
// call is.
func (l *tails) quiet(head ref) bool {
	for {
		l.mu.Lock()
		t, enough := l.of(head), quietTime
		if t.others {
			enough = jitter(busyTime)
		}
		begun := t.begun
		l.mu.Unlock()
		l.rest(enough)
		l.mu.Lock()
		t, closed := l.of(head), l.closed
		busy := t.busy > 0
		calm := !busy && (t.begun == begun || closed)
		t.others = t.others && !calm
		l.mu.Unlock()
		if calm || closed {
			return !busy
		}
	}
}

// rest waits for d, or until the handle is closed.
func (l *tails) rest(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-l.closing:
	}
}

// leave reports whether nothing is left at the head, and notes that nobody looks after it any more.
func (s *Store) leave(head ref) bool {
	owes := len(s.ledger.commitsOn(head)) > 0
	l := s.tails
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(head)
	if owes || len(t.dead) > 0 || t.busy > 0 {
		return false
	}
	delete(l.heads, head)
	return true
}

// giveUp leaves what is left at the head to others.
func (s *Store) giveUp(head ref) {
	l := s.tails
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.of(head)
	t.running, t.dead = false, nil
	if t.busy == 0 {
		delete(l.heads, head)
	}
}

// idle reports whether no call at the head is under way.
func (l *tails) idle(head ref) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(head).busy == 0
}

// shut begins no goroutine any more, and waits for those that run, for some time.
func (s *Store) shut() {
	l := s.tails
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.closing)
	}
	l.mu.Unlock()
	timer := time.AfterFunc(closeTime, s.stop)
	defer timer.Stop()
	l.running.Wait()
	s.stop()
}
