package pool

import (
	"time"
)

// Observer is told what a handle does, for metrics. It is called by the goroutine of the call, which waits for it, so
// it should be quick. It may be called by any number of goroutines at once, and must not use the pool.
type Observer interface {
	// ObserveCall is told of each call that allocates, releases or renews, when it has ended: once for each owner, and
	// for each pool of a call over several. [Carve] and [Pool.Extend] allocate in the parent, [Pool.Retract] releases
	// there.
	ObserveCall(CallEvent)
	// ObserveCommit is told of each attempt to commit to the store, when it has ended. Pools in memory have none.
	ObserveCommit(CommitEvent)
}

// Call is the kind of a call. The zero Call is [CallAllocate].
type Call uint8

// The calls.
const (
	CallAllocate Call = iota
	CallRelease
	CallRenew
	CallDecline
)

// String returns "allocate", "release", "renew" or "decline".
func (c Call) String() string {
	return [...]string{"allocate", "release", "renew", "decline"}[min(c, CallDecline)]
}

// CallEvent is a call that has ended. It may be copied.
type CallEvent struct {
	Pool  string // empty for a pool in memory
	Call  Call
	Owner string
	// Allocation is what was granted, released or renewed; zero if Err is not nil. It is shared with the caller, and
	// must not be changed.
	Allocation Allocation
	// Err is what the call returned: [ErrExhausted], for example.
	Err error
	// Duration is how long the call took, by the handle's clock; 0 if that was set back meanwhile.
	Duration time.Duration
}

// CommitEvent is an attempt to commit. It may be copied.
type CommitEvent struct {
	Pool string
	// Writes is the number of records beside the head.
	Writes int
	// Err is nil if the commit took effect. It wraps [store.ErrConflict] if another handle was faster, and
	// [store.ErrUnknown] if it is not known whether the commit took effect. The pool goes on from both by itself.
	Err error
	// Duration is how long the store took, by the handle's clock; 0 if that was set back meanwhile.
	Duration time.Duration
}

// begin returns the time if somebody wants to know how long things take.
func (p *Pool) begin() time.Time {
	if p.options.Observer == nil {
		return time.Time{}
	}
	return p.options.Clock()
}

func (p *Pool) observe(begin time.Time, call Call, owner string, a Allocation, err error) {
	if p.options.Observer != nil {
		p.observeIn(p.name, begin, call, owner, a, err)
	}
}

// observeIn tells the observer of a call in the pool of that name.
func (p *Pool) observeIn(pool string, begin time.Time, call Call, owner string, a Allocation, err error) {
	if p.options.Observer == nil {
		return
	}
	p.options.Observer.ObserveCall(CallEvent{
		Pool: pool, Call: call, Owner: owner, Allocation: a, Err: err, Duration: max(0, p.options.Clock().Sub(begin)),
	})
}

func (p *Pool) observeCommit(begin time.Time, writes int, err error) {
	if p.options.Observer == nil {
		return
	}
	p.options.Observer.ObserveCommit(CommitEvent{
		Pool: p.name, Writes: writes, Err: err, Duration: max(0, p.options.Clock().Sub(begin)),
	})
}
