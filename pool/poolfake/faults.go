package poolfake

import (
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Inject decides what happens to the calls of the stores that [Fake.Store] returned, from now on: choose is called for
// one of them at a time, and must not use the stores. nil lets all of them through, as at first. What a call of the
// store waits for already goes on.
func (f *Fake) Inject(choose func(faults.Call) faults.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.choose, f.next, f.only = choose, false, nil
}

// InjectNext is [Fake.Inject] until the next call of a pool with [Fake.Options] has ended. The calls are those of which
// a [pool.Observer] is told: those that allocate, release or renew, Expire and Reconcile. So a program that tries again
// succeeds. Other calls that come before the end of that call meet the faults too.
func (f *Fake) InjectNext(choose func(faults.Call) faults.Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.choose, f.next, f.only = choose, true, nil
}

// decide is the Choose of the injector.
func (f *Fake) decide(call faults.Call) faults.Fault {
	f.mu.Lock()
	choose := f.choose
	f.mu.Unlock()
	if choose == nil {
		return faults.Fault{}
	}
	return choose(call)
}

// Busy makes all commits lose against those of others: calls that change a pool return [pool.ErrBusy], after all of
// their attempts, and change nothing. Calls that only read succeed.
func Busy(call faults.Call) faults.Fault {
	if call.Method != faults.Commit {
		return faults.Fault{}
	}
	return faults.Fault{
		Effect: faults.Refuse, Err: &store.ConflictError{Current: store.Record{Key: call.Key}},
	}
}

// Unreachable makes all calls of the store fail, as if it were down: calls of a pool return an error that wraps
// [faults.ErrInjected], and change nothing. A driver's own error for this is of another type.
func Unreachable(faults.Call) faults.Fault { return faults.Fault{Effect: faults.Refuse} }

// Unknown cuts the connection to the store during the next commit, after which all calls fail as with [Unreachable].
// The call of the pool returns [store.ErrUnknown]; the commit has taken effect if done is true, and has not otherwise.
// The result is for one use.
func Unknown(done bool) func(faults.Call) faults.Fault {
	effect, cut := faults.LoseRequest, false
	if done {
		effect = faults.LoseReply
	}
	return func(call faults.Call) faults.Fault {
		switch {
		case cut:
			return Unreachable(call)
		case call.Method == faults.Commit:
			cut = true
			return faults.Fault{Effect: effect}
		}
		return faults.Fault{}
	}
}

// Slow makes each call of the store take that much longer. A context that ends meanwhile ends the call as it does with
// a real store. A commit that takes longer than [pool.Options.CommitTimeout] fails.
func Slow(delay time.Duration) func(faults.Call) faults.Fault {
	return func(faults.Call) faults.Fault { return faults.Fault{Delay: delay} }
}
