package poolfake

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Fake is a store in memory whose clock, room and faults a test decides.
//
// The zero Fake is not usable; see [New]. A Fake must not be copied. All methods may be called by any number of
// goroutines at once. It needs no clean-up.
type Fake struct {
	memory   *store.Memory
	injector faults.Injector

	mu      sync.Mutex
	now     time.Time
	choose  func(faults.Call) faults.Fault
	next    bool  // choose is for the next call to begin
	only    *call // which has begun
	refuses func(pool string, claim pool.Claim) bool
	refused chan struct{} // closed when refuses changes

	asking sync.Mutex // held while refuses is called
}

// New returns a fake with an empty store, whose clock stands at that time.
func New(now time.Time) *Fake {
	f := &Fake{memory: store.NewMemory(), now: now, refused: make(chan struct{})}
	f.injector.Choose = f.decide
	return f
}

// Store returns a handle on the store of the fake, with the faults that [Fake.Inject] asks for. Each call returns
// another handle, as each process has one; all have the same pools. Calls over several pools need pools of one handle.
// A test may close a handle.
func (f *Fake) Store() store.Store { return f.injector.Wrap(f.memory.Open()) }

// Options returns options for handles of pools: with the clock of the fake, an observer that [Fake.Refuse] and
// [Fake.InjectNext] need, and so few attempts and so short a back-off that [Busy] costs a test next to no time. To have
// an observer of its own too, a test combines both with [pool.Observers]. The options belong to the caller.
func (f *Fake) Options() *pool.Options {
	return &pool.Options{Clock: f.Now, Observer: observer{fake: f}, Attempts: 64, Backoff: time.Microsecond}
}

// Now returns the time of the fake.
func (f *Fake) Now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// Advance moves the clock by d, and wakes what waits for a lease or a cooldown to end. A negative d sets the clock
// back, which frees nothing early and takes nothing away.
//
// To wake them, it commits every pool as it is. So the next commit of each handle meets a conflict, as it does if
// another process has renewed a lease, and [pool.Pool.Watch] yields a change in which nothing became free or taken.
// Cost: O(pools).
func (f *Fake) Advance(d time.Duration) {
	f.mu.Lock()
	f.now = f.now.Add(d)
	f.mu.Unlock()
	ctx := context.Background()
	for head, err := range f.memory.List(ctx, store.KindPool, "") {
		for err == nil { // until no other commit comes between
			if _, err = f.memory.Commit(ctx, store.Change{Head: head}); !errors.Is(err, store.ErrConflict) {
				break
			}
			head, err = f.memory.Get(ctx, head.Key)
		}
	}
}
