package pool_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Each of these is one interleaving of two processes, or one fault, that went wrong once.

func TestOwnerAsksAgainFromAnotherHandleOfAFullPool(t *testing.T) {
	s := store.NewMemory()
	first := create(t, s, specOf("10.0.0.0/31"))
	second := open(t, s.Open())
	want := allocate(t, first, pool.Claim{Owner: "a"})
	exact := allocate(t, first, claim("b", "10.0.0.1"))
	require.Equal(t, want, allocate(t, second, pool.Claim{Owner: "a"}))
	require.Equal(t, exact, allocate(t, second, claim("b", "10.0.0.1")))
	_, err := second.Allocate(t.Context(), claim("b", "10.0.0.0"))
	require.ErrorIs(t, err, pool.ErrHeld)
	_, err = second.Allocate(t.Context(), pool.Claim{Owner: "c"})
	require.ErrorIs(t, err, pool.ErrExhausted)
}

func TestOwnerGetsTheLastAddressDespiteALostReply(t *testing.T) {
	injector := &faults.Injector{}
	p := create(t, injector.Wrap(store.NewMemory()), specOf("10.0.0.7/32"))
	for _, c := range []pool.Claim{{Owner: "a"}, claim("a", "10.0.0.7")} {
		injector.ResetCounts()
		injector.Choose = faults.Script(faults.Fault{Effect: faults.LoseReply})
		a := allocate(t, p, c)
		require.Equal(t, "10.0.0.7", texts(a))
		release(t, p, "a")
	}
}

func TestReleaseOfWhatWasGrantedMeanwhile(t *testing.T) {
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	p := create(t, hooks, specOf("10.0.0.0/24"))
	other := open(t, memory.Open())
	hooks.beforeGet = func(key store.Key) {
		// The handle has just read the head, or trusts the one that it has.
		if key.Kind == store.KindAllocation {
			allocate(t, other, pool.Claim{Owner: key.Name})
			hooks.beforeGet = nil
		}
	}
	require.Equal(t, "10.0.0.0", texts(release(t, p, "a")))

	// And after it has read the head again, because the record did not fit to the head.
	grants := 0
	hooks.beforeGet = func(key store.Key) {
		if key.Kind == store.KindAllocation && grants < 5 {
			if grants > 0 {
				release(t, other, key.Name)
			}
			grants++
			allocate(t, other, claim(key.Name, fmt.Sprintf("10.0.0.%d", grants)))
		}
	}
	require.Equal(t, "10.0.0.5", texts(release(t, p, "b")))
	requireOK(t, p)
}

// A claim is not told that the pool is exhausted because of a grant that then fails.
func TestRefusalCountsOnlyWhatIsCommitted(t *testing.T) {
	for name, failure := range map[string]error{
		"refused": errors.New("disk full"), "conflict": nil, "too large": &store.TooLargeError{What: "writes"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				memory := store.NewMemory()
				hooks := &hooked{Store: memory}
				p := create(t, hooks, specOf("10.0.0.0/31"))
				other := open(t, memory.Open())
				entered, proceed := make(chan struct{}), make(chan struct{})
				commits := 0
				hooks.beforeCommit = func(_ store.Record, writes []store.Write) error {
					commits++
					switch commits {
					case 1: // of the blocker; the others queue up meanwhile
						close(entered)
						<-proceed
					case 2:
						require.Len(t, writes, 1, "one of two is granted the last address")
						if failure == nil {
							release(t, other, "blocker")
						}
						return failure
					}
					return nil
				}
				go func() { _, _ = p.Allocate(t.Context(), pool.Claim{Owner: "blocker"}) }()
				<-entered
				results := make(chan error, 2)
				for _, owner := range []string{"a", "b"} {
					go func() {
						_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
						results <- err
					}()
					synctest.Wait()
				}
				close(proceed)
				first, second := <-results, <-results
				switch name {
				case "refused", "too large": // one claim alone cannot be made smaller
					if first == nil {
						first, second = second, first
					}
					require.ErrorIs(t, first, failure)
					require.NoError(t, second)
				case "conflict":
					require.NoError(t, errors.Join(first, second))
				}
				requireOK(t, p)
			})
		})
	}
}

func TestDeleteGivesUpWhenOthersAreAlwaysFirst(t *testing.T) {
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	create(t, memory, specOf("10.0.0.0/24"))
	other := open(t, overtakes{memory.Open()})
	hooks.beforeCommit = func(store.Record, []store.Write) error {
		allocate(t, other, pool.Claim{Owner: "a"})
		release(t, other, "a")
		return nil
	}
	err := pool.Delete(t.Context(), hooks, "blue", nil)
	require.ErrorIs(t, err, pool.ErrBusy)
	_, err = other.Info(t.Context())
	require.NoError(t, err, "the pool is still there")
}

func TestReleaseIsNotSaidToBeUndoneWhenThePoolGoes(t *testing.T) {
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	p := create(t, hooks, specOf("10.0.0.0/24"))
	allocate(t, p, pool.Claim{Owner: "a"})
	hooks.afterCommit = func(store.Record, []store.Write, error) error {
		require.NoError(t, pool.Delete(t.Context(), memory, "blue", nil))
		return store.ErrUnknown
	}
	_, err := p.Release(t.Context(), pool.Held{Owner: "a"})
	require.ErrorIs(t, err, store.ErrUnknown)
}

func TestVerifyDoesNotTakeAFaultForDamage(t *testing.T) {
	memory := store.NewMemory()
	failure := errors.New("connection reset")
	hooks := &hooked{Store: memory}
	p := create(t, hooks, specOf("10.0.0.0/24"))
	hooks.afterGet = func(store.Key) error { hooks.afterGet = nil; return failure }
	_, err := p.Verify(t.Context())
	require.ErrorIs(t, err, failure)
}

// A handle that missed the release of one grant and the next grant loses the reply to its own release, a conflict.
func TestReleaseOfAStaleGrantWithALostReply(t *testing.T) {
	memory := store.NewMemory()
	injector := &faults.Injector{}
	p := create(t, injector.Wrap(memory), specOf("10.0.0.0/24"))
	first := allocate(t, p, pool.Claim{Owner: "a"})
	other := open(t, memory.Open())
	release(t, other, "a")
	second := allocate(t, other, claim("a", "10.0.0.9"))

	injector.ResetCounts()
	injector.Choose = faults.Script(faults.Fault{Effect: faults.LoseReply})
	_, err := p.Release(t.Context(), pool.Held{Owner: "a", Generation: first.Generation})
	if err != nil {
		require.ErrorIs(t, err, pool.ErrGeneration)
	}
	got, err := other.Get(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, second, got, "the successor is left alone")

	p = open(t, injector.Wrap(memory))
	release(t, p, "a")
	first = allocate(t, p, pool.Claim{Owner: "a"})
	release(t, other, "a")
	second = allocate(t, other, claim("a", "10.0.0.9"))
	injector.ResetCounts()
	require.Equal(t, second, release(t, p, "a"))
	_, err = other.Get(t.Context(), pool.Held{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNotFound, "what is said to be released is")
}

// What had an unknown outcome may take effect late: not after the same handle has answered the owner again.
func TestNothingTakesEffectAfterTheNextAnswer(t *testing.T) {
	memory := store.NewMemory()
	injector := &faults.Injector{}
	p := create(t, injector.Wrap(memory), specOf("10.0.0.0/24"))
	allocate(t, p, pool.Claim{Owner: "held"})
	lateOnce := func(call faults.Call) faults.Fault {
		switch {
		case call.Method == faults.Commit && call.N == 1:
			return faults.Fault{Effect: faults.LandLate, Late: 5}
		case call.Method == faults.Get && call.N == 1:
			return faults.Fault{Effect: faults.Refuse}
		}
		return faults.Fault{}
	}
	injector.Choose = lateOnce
	injector.ResetCounts()
	_, err := p.Release(t.Context(), pool.Held{Owner: "held"})
	require.ErrorIs(t, err, store.ErrUnknown)
	want := allocate(t, p, pool.Claim{Owner: "held"})
	for range 10 {
		got, err := p.Get(t.Context(), pool.Held{Owner: "held"})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}

	injector.ResetCounts()
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.ErrorIs(t, err, store.ErrUnknown)
	_, err = p.Release(t.Context(), pool.Held{Owner: "a"})
	require.ErrorIs(t, err, pool.ErrNotFound)
	for range 10 {
		requireHoldsNothing(t, p, "a")
	}
	requireOK(t, p)
}
