package kube

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// How commits adapt to time. A commit of many records that cannot be done before its context ends would write records
// for nothing, again and again. So it is refused as too large: before it writes anything, if this handle has lately
// written at a rate that does not do; otherwise as soon as it turns out.

const (
	enoughRecords = 64               // of which a rate is known
	paceTime      = time.Second      // of writing, before anybody judges by it
	paceValid     = 10 * time.Second // that a rate is trusted
	paceShare     = 2                // a commit may write for one in so many parts of the time that it has
)

// pace is how many records a handle writes in a second, as it was last measured.
type pace struct {
	mu   sync.Mutex
	rate float64
	at   time.Time
}

func (p *pace) note(rate float64, at time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate, p.at = rate, at
}

// lately returns the rate if it was measured a short time ago, else 0.
func (p *pace) lately(now time.Time) float64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now.Sub(p.at) > paceValid {
		return 0
	}
	return p.rate
}

// stretch is the time in which one commit writes its records.
type stretch struct {
	pace   *pace
	now    func() time.Time
	n      int
	begin  time.Time
	budget time.Duration // 0 for any

	mu   sync.Mutex
	done int
	err  error
}

// measure begins a stretch of n records. It fails with a [store.TooLargeError] if these will take too long.
func (s *Store) measure(ctx context.Context, n int) (*stretch, error) {
	m := &stretch{pace: s.pace, now: s.now, n: n, begin: s.now()}
	if deadline, ok := ctx.Deadline(); ok {
		m.budget = max(deadline.Sub(m.begin)/paceShare, 1)
	}
	return m, m.fits(s.pace.lately(m.begin))
}

// fits returns an error if the records take too long at a rate; 0 is not known.
func (m *stretch) fits(rate float64) error {
	if m.n < 2 || m.budget == 0 || rate == 0 {
		return nil
	}
	if most := rate * m.budget.Seconds(); float64(m.n) > most {
		return &store.TooLargeError{
			What: "records in a commit that is to be done in its time", Size: int64(m.n), Limit: max(int64(most), 1),
		}
	}
	return nil
}

// check returns an error once it is clear that the records take too long.
func (m *stretch) check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	elapsed := m.now().Sub(m.begin)
	if m.err == nil && elapsed > paceTime && (m.done >= enoughRecords || m.done > 0 && elapsed > m.budget/4) {
		m.err = m.fits(float64(m.done) / elapsed.Seconds())
	}
	return m.err
}

// did notes that one record has been written, or what came of it, and returns that: a failure that comes late is one of
// time.
func (m *stretch) did(err error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		m.done++
		return nil
	}
	elapsed := m.now().Sub(m.begin)
	if m.budget == 0 || elapsed <= m.budget || rank(err) < rankOther {
		return err
	}
	if late := m.fits(float64(m.done+1) / (2 * elapsed.Seconds())); late != nil {
		return fmt.Errorf("%w: %w", late, err)
	}
	return err
}

// wrote returns how long the records have taken so far.
func (m *stretch) wrote() time.Duration { return m.now().Sub(m.begin) }

// end keeps the rate for later commits.
func (m *stretch) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	if elapsed := now.Sub(m.begin); m.done >= enoughRecords && elapsed > 0 {
		m.pace.note(float64(m.done)/elapsed.Seconds(), now)
	}
}
