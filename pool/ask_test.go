package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

var blueHead = store.Key{Kind: store.KindPool, Pool: "blue"}

// waiters is a store with a pool, whose handles wait for their turns.
type waiters struct {
	*testing.T
	memory  *store.Memory
	commits atomic.Int64 // that have succeeded
	leads   int          // how many there were
	options pool.Options // of new handles
}

// counting is a handle on the store of waiters.
type counting struct {
	*store.Memory
	waiters *waiters
	// May be nil.
	beforeCommit func() error
	beforeGet    func(store.Key) error
}

func (s *counting) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if s.beforeGet != nil {
		if err := s.beforeGet(key); err != nil {
			return store.Record{}, err
		}
	}
	return s.Memory.Get(ctx, key)
}

func (s *counting) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if s.beforeGet != nil {
		return nil, errors.ErrUnsupported // each is then read by Get
	}
	return s.Memory.GetAll(ctx, keys...)
}

func (s *counting) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	if s.beforeCommit != nil {
		if err := s.beforeCommit(); err != nil {
			store.EndTurns(changes)
			return nil, err
		}
	}
	heads, err := s.Memory.Commit(ctx, changes...)
	if err == nil {
		s.waiters.commits.Add(1)
	}
	return heads, err
}

// inLine calls f in a bubble, with a pool of the spec.
func inLine(t *testing.T, spec pool.Spec, f func(*waiters)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &waiters{T: t, memory: store.NewMemory()}
		start := time.Now().UTC()
		c.options = pool.Options{Clock: func() time.Time { return start }}
		create(t, c.memory, spec)
		f(c)
		requireOK(t, open(t, c.memory))
	})
}

// handle returns a handle that waits for its turns.
func (c *waiters) handle() *pool.Pool {
	return c.handleOn(&counting{Memory: c.memory.Open(), waiters: c})
}

func (c *waiters) handleOn(s store.Store) *pool.Pool {
	p, err := pool.Open(c.Context(), s, "blue", &c.options)
	require.NoError(c, err)
	p.Contend()
	return p
}

// together holds a turn until all calls wait, in this order, and returns when they have ended.
func (c *waiters) together(calls ...func()) {
	turn, err := c.memory.Turn(c.Context(), blueHead)
	require.NoError(c, err)
	var wait sync.WaitGroup
	for _, call := range calls {
		wait.Go(call)
		synctest.Wait()
	}
	turn.End()
	wait.Wait()
}

// lead is a call of a handle and an owner of its own, which commits for those behind it.
func (c *waiters) lead() func() {
	p, owner := c.handle(), fmt.Sprint("lead", c.leads)
	c.leads++
	return func() {
		_, err := p.Allocate(context.Background(), pool.Claim{Owner: owner})
		require.NoError(c, err)
	}
}

func (c *waiters) revision() int64 {
	head, err := c.memory.Get(c.Context(), blueHead)
	require.NoError(c, err)
	return head.Revision
}

// One commit does what all handles ask for that wait for their turns.
func TestOneCommitForManyHandles(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		const handles = 20
		got := make([]pool.Allocation, handles)
		var calls []func()
		for i := range handles {
			p := c.handle()
			calls = append(calls, func() {
				var err error
				got[i], err = p.Allocate(context.Background(), pool.Claim{Owner: fmt.Sprint(i)})
				require.NoError(c, err)
			})
		}
		before := c.commits.Load()
		c.together(calls...)
		require.Equal(c, before+1, c.commits.Load())
		p := open(c, c.memory)
		for i, a := range got {
			require.Equal(c, fmt.Sprintf("10.0.0.%d", i), texts(a), "in the order of the line")
			require.Equal(c, c.revision(), a.Generation)
			stands, err := p.Get(c.Context(), pool.Held{Owner: a.Owner})
			require.NoError(c, err)
			require.Equal(c, stands, a)
		}
	})
}

// Handles that go on and on commit for one another, with fewer commits than calls.
func TestFewerCommitsThanCalls(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		const handles, calls = 8, 50
		var wait sync.WaitGroup
		for i := range handles {
			slow := &counting{Memory: c.memory.Open(), waiters: c, beforeCommit: func() error {
				time.Sleep(time.Millisecond)
				return nil
			}}
			p := c.handleOn(slow)
			wait.Go(func() {
				for n := range calls {
					owner := fmt.Sprint(i, n)
					allocate(c, p, pool.Claim{Owner: owner})
					if n%2 == 0 {
						release(c, p, owner)
					}
				}
			})
		}
		wait.Wait()
		require.Less(c, c.commits.Load(), int64(handles*calls/2))
	})
}

// aloneSpec is of a pool in which everything can be asked for.
func aloneSpec() pool.Spec {
	spec := specOf("10.0.0.0/28", "fd00::/124")
	spec.Scope = "team"
	spec.Bands = []pool.Band{{Name: "high", Ranges: ranges("10.0.0.8-10.0.0.15")}}
	return spec
}

// aloneHeld is what owners hold before.
func aloneHeld(t testing.TB, p *pool.Pool) {
	for _, owner := range []string{"a", "b", "c"} {
		allocate(t, p, pool.Claim{Owner: owner, Scope: "team", Labels: map[string]string{"of": owner}})
	}
	allocate(t, p, pool.Claim{Owner: "lease", Scope: "team", TTL: time.Minute})
}

type aloneCall func(context.Context, *pool.Pool) (any, error)

// aloneCalls are calls whose results must be the same whoever commits them.
var aloneCalls = map[string]aloneCall{
	"allocate": allocating(pool.Claim{Owner: "new", Scope: "team"}),
	"allocate with labels": allocating(pool.Claim{
		Owner: "ü \"<&>\"", Scope: "team", Labels: map[string]string{"pod": "p\u2028", "": "x"},
	}),
	"shared":              allocating(pool.Claim{Owner: "new", Scope: "team", Share: "w \"<&>\u2028"}),
	"lease":               allocating(pool.Claim{Owner: "new", Scope: "team", TTL: time.Hour + time.Nanosecond}),
	"both families":       allocating(pool.Claim{Owner: "new", Scope: "team", Policy: pool.RequireDualStack}),
	"preferring both":     allocating(pool.Claim{Owner: "new", Scope: "team", Policy: pool.PreferDualStack}),
	"exact":               allocating(inScope(claim("new", "10.0.0.13", "10.0.0.6/31", "fd00::8/125"))),
	"family and length":   allocating(requesting(pool.Request{Family: pool.IPv6, Bits: 126})),
	"band":                allocating(requesting(pool.Request{Band: "high"})),
	"held already":        allocating(pool.Claim{Owner: "a", Scope: "team"}),
	"held, fenced":        allocating(pool.Claim{Owner: "a", Scope: "team", Fenced: true}),
	"lease made for good": allocating(pool.Claim{Owner: "lease", Scope: "team"}),
	"release": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Release(ctx, pool.Held{Owner: "a"})
	},
	"release by generation": func(ctx context.Context, p *pool.Pool) (any, error) {
		a, err := p.Get(ctx, pool.Held{Owner: "b"})
		if err != nil {
			return nil, err
		}
		return p.Release(ctx, pool.Held{Owner: "b", Generation: a.Generation})
	},
	"renewal": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Renew(ctx, pool.Held{Owner: "lease"}, time.Hour)
	},
	"renewal of what never ends": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Renew(ctx, pool.Held{Owner: "a"}, time.Hour)
	},
	"allocate all": func(ctx context.Context, p *pool.Pool) (any, error) {
		return allocateAll(ctx, p, []pool.Claim{{Owner: "x", Scope: "team"}, {Owner: "a", Scope: "team"}})
	},
	"release all": func(ctx context.Context, p *pool.Pool) (any, error) {
		return releaseAll(ctx, p, []string{"b", "a"})
	},
	"allocate together": func(ctx context.Context, p *pool.Pool) (any, error) {
		claim := pool.Claim{Scope: "team"}
		claim.Owner = "x"
		got, err := p.All(ctx, pool.Allocate(claim))
		if err != nil {
			return nil, err
		}
		return got[0].Allocation, samePool(got[0].Pool, p)
	},
	"release together": func(ctx context.Context, p *pool.Pool) (any, error) {
		return releaseTogether(ctx, "a", p)
	},

	// These are refused, all of them or in part.
	"exhausted":     allocating(requesting(pool.Request{Bits: 29})),
	"taken":         allocating(inScope(claim("new", "10.0.0.0"))),
	"not in pool":   allocating(inScope(claim("new", "10.0.1.0"))),
	"held, other":   allocating(inScope(claim("a", "10.0.0.9"))),
	"scope":         allocating(pool.Claim{Owner: "new", Scope: "other"}),
	"no such band":  allocating(requesting(pool.Request{Band: "low"})),
	"wrong length":  allocating(requesting(pool.Request{Bits: 99})),
	"wrong request": allocating(requesting(pool.Request{Exact: prefix("10.0.0.1/24")})),
	"release of nothing": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Release(ctx, pool.Held{Owner: "new"})
	},
	"release of another generation": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Release(ctx, pool.Held{Owner: "a", Generation: 1})
	},
	"renewal of nothing": func(ctx context.Context, p *pool.Pool) (any, error) {
		return p.Renew(ctx, pool.Held{Owner: "new"}, time.Hour)
	},
	"all, one taken": func(ctx context.Context, p *pool.Pool) (any, error) {
		return allocateAll(ctx, p, []pool.Claim{{Owner: "x", Scope: "team"}, inScope(claim("y", "10.0.0.1"))})
	},
	"release all, one of nothing": func(ctx context.Context, p *pool.Pool) (any, error) {
		return releaseAll(ctx, p, []string{"a", "nobody"})
	},
	"many, some refused": func(ctx context.Context, p *pool.Pool) (any, error) {
		results, err := allocateMany(ctx, p, []pool.Claim{
			{Owner: "x", Scope: "team"}, inScope(claim("y", "10.0.0.1")), {Owner: ""}, {Owner: "z", Scope: "team"},
			{Owner: "a", Scope: "other"},
		})

		return outcomes(results), err
	},
	"release many, some of nothing": func(ctx context.Context, p *pool.Pool) (any, error) {
		results, err := releaseMany(ctx, p, []string{"nobody", "a", "noone", "c"})
		return outcomes(results), err
	},
}

// isHeld has the calls with which owners claim who hold something. That the lead does not know, so it tries in vain to
// give them something new.
var isHeld = map[string]bool{"held, fenced": true, "lease made for good": true, "allocate all": true}

func allocating(c pool.Claim) aloneCall {
	return func(ctx context.Context, p *pool.Pool) (any, error) { return p.Allocate(ctx, c) }
}

func inScope(c pool.Claim) pool.Claim {
	c.Scope = "team"
	return c
}

func requesting(r pool.Request) pool.Claim {
	return pool.Claim{Owner: "new", Scope: "team", Requests: []pool.Request{r}}
}

func samePool(got, want *pool.Pool) error {
	if got != want {
		return fmt.Errorf("it is said to be in %v", got)
	}
	return nil
}

// outcomes are results whose errors can be compared.
func outcomes(results []pool.Result) []string {
	var out []string
	for _, r := range results {
		out = append(out, fmt.Sprint(ungenerated(r.Allocation), r.Err))
	}
	return out
}

// ungenerated is what can be compared of a result of a call in two pools.
func ungenerated(result any) any {
	switch r := result.(type) {
	case pool.Allocation:
		r.Generation = 0
		return r
	case []pool.Allocation:
		var all []any
		for _, a := range r {
			all = append(all, ungenerated(a))
		}
		return all
	}
	return result
}

// What a call gives does not depend on who commits it.
func TestServedAsAlone(t *testing.T) {
	for name, call := range aloneCalls {
		t.Run(name, func(t *testing.T) {
			var want, got any
			var failed, refused error
			inLine(t, aloneSpec(), func(c *waiters) {
				aloneHeld(c, c.handle())
				allocate(c, c.handle(), inScope(claim("lead", "10.0.0.4")))
				want, failed = call(c.Context(), c.handle())
			})
			inLine(t, aloneSpec(), func(c *waiters) {
				aloneHeld(c, c.handle())
				p, lead, before := c.handle(), c.handle(), c.commits.Load()
				c.together(
					func() { allocate(c, lead, inScope(claim("lead", "10.0.0.4"))) },
					func() { got, refused = call(context.Background(), p) })
				most := before + 1 // what can be done, the lead does
				if isHeld[name] {
					most++
				}
				require.LessOrEqual(c, c.commits.Load(), most)
				c.requireStanding(got)
			})
			require.Equal(t, ungenerated(want), ungenerated(got))
			require.Equal(t, fmt.Sprint(failed), fmt.Sprint(refused))
		})
	}
}

// requireStanding requires that what was granted is what the owner holds, if it holds anything.
func (c *waiters) requireStanding(got any) {
	a, ok := got.(pool.Allocation)
	if !ok || a.Owner == "" {
		return
	}
	if stands, err := open(c, c.memory).Get(c.Context(), pool.Held{Owner: a.Owner}); err == nil {
		require.Equal(c, stands, a)
	}
}

// Of two handles that ask for one owner at once, both get what one of them was granted.
func TestSameOwnerInTwoHandles(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		var got [3]pool.Allocation
		calls := []func(){c.lead()}
		for i := range got {
			p := c.handle()
			calls = append(calls, func() { got[i] = allocate(c, p, pool.Claim{Owner: "x"}) })
		}
		c.together(calls...)
		require.Equal(c, got[0], got[1])
		require.Equal(c, got[0], got[2])
		require.Equal(c, "10.0.0.1", texts(got[0]))
		p, other := c.handle(), c.handle()
		var errs [2]error
		c.together(c.lead(),
			func() { _, errs[0] = p.Release(context.Background(), pool.Held{Owner: "x"}) },
			func() { _, errs[1] = other.Release(context.Background(), pool.Held{Owner: "x"}) })
		require.NoError(c, errs[0])
		require.ErrorIs(c, errs[1], pool.ErrNotFound)
	})
}

// A caller that leaves gets nothing, also if it leaves when its ask has been taken along. That costs the others
// nothing, even if they try but once.
func TestAskerLeaves(t *testing.T) {
	for _, late := range []bool{false, true} {
		inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
			c.options.Attempts = 1
			ctx, cancel := context.WithCancel(c.Context())
			slow := &counting{Memory: c.memory.Open(), waiters: c}
			lead, leaving, staying := c.handleOn(slow), c.handle(), c.handle()
			once := sync.OnceFunc(func() {
				cancel()
				synctest.Wait()
			})
			slow.beforeCommit = func() error {
				once()
				return nil
			}
			var left error
			c.together(
				func() { allocate(c, lead, pool.Claim{Owner: "lead"}) },
				func() { _, left = leaving.Allocate(ctx, pool.Claim{Owner: "leaves"}) },
				func() { allocate(c, staying, pool.Claim{Owner: "stays"}) },
				func() {
					if !late {
						cancel()
					}
				})
			require.ErrorIs(c, left, context.Canceled)
			require.NotErrorIs(c, left, store.ErrUnknown)
			_, err := open(c, c.memory).Get(c.Context(), pool.Held{Owner: "leaves"})
			require.ErrorIs(c, err, pool.ErrNotFound)
		})
	}
}

// What a handle does for others may fail without failing its own calls.
func TestGuestsAreNoBurden(t *testing.T) {
	for _, refusal := range []error{store.ErrTooLarge, errors.New("not with so many")} {
		inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
			c.options.Attempts = 1
			once := &counting{Memory: c.memory.Open(), waiters: c}
			lead, other := c.handleOn(once), c.handle()
			tried := 0
			once.beforeCommit = func() error {
				if tried++; tried == 1 {
					return refusal
				}
				return nil
			}
			c.together(
				func() { allocate(c, lead, pool.Claim{Owner: "lead"}) },
				func() { allocate(c, other, pool.Claim{Owner: "other"}) })
		})
	}
}

// An ask that cannot be done, or is not known, is left to who has asked.
func TestForeignAsks(t *testing.T) {
	for _, ask := range []string{
		"x", "{}", "null", `{"v":1}`, `{"v":1,"ops":[{}]}`,
		`{"v":2,"ops":[{"steps":[{"kind":0,"owner":"x"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x","nearby":true}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x"}]}]} {}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":""}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":2,"owner":"x"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":3,"owner":"x"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":9,"owner":"x"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x","requests":[{"bits":-1}]}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x","requests":[{"exact":"10.0.0.1/8"}]}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":0,"owner":"x"},{"kind":0,"owner":"x"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"steps":[{"kind":1,"owner":"parent"}]}]}`,
		`{"v":1,"seen":9,"ops":[{"whole":true,"steps":[{"kind":0,"owner":"x"},{"kind":1,"owner":"nobody"}]}]}`,
	} {
		inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
			_, _, err := pool.Delegate(c.Context(), open(c, c.memory),
				pool.Claim{Owner: "parent", Requests: []pool.Request{{Bits: 30}}}, "child", pool.Spec{}, nil)
			require.NoError(c, err)
			var answer []byte
			before := c.commits.Load()
			c.together(c.lead(), func() {
				turn, err := c.memory.Join(context.Background(), blueHead, []byte(ask))
				require.NoError(c, err)
				answer, _, err = turn.Answered()
				require.NoError(c, err)
				turn.End()
			})
			require.NotContains(c, string(answer), "owner", ask)
			require.Equal(c, before+1, c.commits.Load(), ask)
			_, err = open(c, c.memory).Get(c.Context(), pool.Held{Owner: "x"})
			require.ErrorIs(c, err, pool.ErrNotFound, ask)
		})
	}
}

// answering gives an answer by hand to what a call asks for, with a commit that changes nothing.
func (c *waiters) answering(answer string, call func()) {
	c.together(func() {
		turn, err := c.memory.Join(context.Background(), blueHead, nil)
		require.NoError(c, err)
		turn.Answer(0, []byte(answer))
		_, err = c.memory.Commit(context.Background(), store.Change{Head: turn.Heads()[0], Turn: turn})
		require.NoError(c, err)
	}, call)
}

// A call whose answer cannot be read finds out what has been done, or says that it is unknown.
func TestAnswersThatCannotBeRead(t *testing.T) {
	for _, answer := range []string{
		"x", "{}", "null", `{"v":2,"steps":[null]}`, `{"v":1,"steps":[]}`, `{"v":1,"steps":[null,null]}`,
		`{"v":1,"steps":[{}]}`, `{"v":1,"steps":[{"owner":"x"}]}`,
		`{"v":1,"steps":[{"owner":"y","prefixes":["10.0.0.9/32"]}]}`,
	} {
		inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
			p := c.handle()
			c.answering(answer, func() {
				require.Equal(c, "10.0.0.0", texts(allocate(c, p, pool.Claim{Owner: "x"})), answer)
			})
			other := c.handle()
			c.answering(answer, func() {
				_, err := other.Release(context.Background(), pool.Held{Owner: "nobody"})
				require.ErrorIs(c, err, store.ErrUnknown, answer)
				require.ErrorIs(c, err, pool.ErrNotFound, answer)
			})
		})
	}
}

// An answer counts that says that nothing was done, and that says that an owner holds nothing to release.
func TestAnswersThatSayNothing(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p := c.handle()
		c.answering(`{"v":1,"steps":[null]}`, func() {
			require.Equal(c, "10.0.0.0", texts(allocate(c, p, pool.Claim{Owner: "x"})))
		})
		c.answering(`{"v":1,"steps":[{}]}`, func() {
			released, err := releaseTogether(context.Background(), "nobody", p)
			require.NoError(c, err)
			require.Zero(c, released[0])
		})
	})
}

// A commit may be late whose turn others have passed over. Who is answered by it while in a turn of its own, in which
// there is nothing to commit, takes the answer.
func TestAnsweredInOwnTurn(t *testing.T) {
	broken := errors.New("cannot be read")
	for name, test := range map[string]struct {
		read error // what becomes of a read of the call, or of its last one
		last bool
		call func(*pool.Pool) (string, error)
	}{
		"refused": {nil, false, func(p *pool.Pool) (string, error) {
			a, err := p.Allocate(context.Background(), pool.Claim{Owner: "x"})
			return texts(a), err
		}},
		"failed": {broken, false, func(p *pool.Pool) (string, error) {
			a, err := p.Allocate(context.Background(), pool.Claim{Owner: "x"})
			return texts(a), err
		}},
		"all refused": {nil, false, func(p *pool.Pool) (string, error) {
			all, err := allocateAll(context.Background(), p, []pool.Claim{{Owner: "x"}})
			return texts(append(all, pool.Allocation{})[0]), err
		}},
		"many failed at last": {broken, true, func(p *pool.Pool) (string, error) {
			results, err := allocateMany(context.Background(), p, []pool.Claim{{Owner: "x"}})
			return texts(results[0].Allocation), errors.Join(err, results[0].Err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			inLine(t, specOf("10.0.0.0/31"), func(c *waiters) {
				allocate(c, c.handle(), pool.Claim{Owner: "a"})
				allocate(c, c.handle(), pool.Claim{Owner: "b"})
				slow := &counting{Memory: c.memory.Open(), waiters: c}
				p := c.handleOn(slow)
				var late store.GroupTurn
				begun := make(chan struct{})
				slow.beforeGet = func(key store.Key) error {
					if key.Kind != store.KindAllocation {
						return nil
					}
					slow.beforeGet = nil
					<-begun
					_, err := c.memory.Commit(context.Background(), store.Change{Head: late.Heads()[0], Turn: late})
					require.NoError(c, err)
					if !test.last {
						return test.read
					}
					slow.beforeGet = func(store.Key) error { return test.read }
					return nil
				}
				c.together(func() {
					var err error
					late, err = c.memory.Join(context.Background(), blueHead, nil)
					require.NoError(c, err)
					late.Answer(0, []byte(`{"v":1,"steps":[{"owner":"x","prefixes":["10.0.0.9/32"]}]}`))
					close(begun)
				}, func() {
					got, err := test.call(p)
					require.NoError(c, err)
					require.Equal(c, "10.0.0.9", got)
				})
			})
		})
	}
}

// lossy is a store of which one commit has an unknown outcome, for all that it answers.
type lossy struct {
	*store.Memory
	turns         *store.Turns
	lost, applied atomic.Bool
}

func (s *lossy) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	return s.turns.Turn(ctx, s.Get, keys...)
}

func (s *lossy) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	return s.turns.Join(ctx, s.Get, key, ask)
}

func (s *lossy) Commit(ctx context.Context, changes ...store.Change) (heads []store.Record, err error) {
	defer store.EndTurns(changes)
	given, err := s.turns.Answers(ctx, changes)
	if err != nil {
		return nil, err
	}
	bare := make([]store.Change, len(changes))
	for i, change := range changes {
		bare[i] = store.Change{Head: change.Head, Writes: change.Writes}
	}
	lost := s.lost.CompareAndSwap(true, false)
	if !lost || s.applied.Load() {
		heads, err = s.Memory.Commit(ctx, bare...)
	}
	if lost {
		heads, err = nil, fmt.Errorf("%w: the reply was lost", store.ErrUnknown)
	}
	given(heads, err)
	return heads, err
}

// If the outcome of a commit is unknown, all those find out for whom it was made.
func TestUnknownOutcomeForMany(t *testing.T) {
	for _, applied := range []bool{false, true} {
		inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
			turns := &store.Turns{}
			handle := func() (*lossy, *pool.Pool) {
				s := &lossy{Memory: c.memory, turns: turns}
				return s, c.handleOn(s)
			}
			s, lead := handle()
			_, claims := handle()
			_, releases := handle()
			_, renews := handle()
			allocate(c, releases, pool.Claim{Owner: "old"})
			allocate(c, releases, pool.Claim{Owner: "lease", TTL: time.Minute})
			s.lost.Store(true)
			s.applied.Store(applied)
			turn, err := turns.Turn(c.Context(), c.memory.Get, blueHead)
			require.NoError(c, err)
			var wait sync.WaitGroup
			for _, call := range []func(){
				func() { allocate(c, lead, pool.Claim{Owner: "lead"}) },
				func() { allocate(c, claims, pool.Claim{Owner: "new"}) },
				func() {
					_, err := releases.Release(context.Background(), pool.Held{Owner: "old"})
					if applied {
						require.ErrorIs(c, err, store.ErrUnknown)
					} else {
						require.NoError(c, err)
					}
				},
				func() {
					a, err := renews.Renew(context.Background(), pool.Held{Owner: "lease"}, time.Hour)
					require.NoError(c, err)
					require.Equal(c, c.options.Clock().Add(time.Hour), a.Expires)
				},
			} {
				wait.Go(call)
				synctest.Wait()
			}
			turn.End()
			wait.Wait()
		})
	}
}

// A handle that does not know what became of its ask answers nothing without a commit, which a late one could undo.
func TestUnknownAskIsFenced(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p := c.handle()
		allocate(c, p, pool.Claim{Owner: "x"})
		before := c.commits.Load()
		c.answering("garbage", func() { allocate(c, p, pool.Claim{Owner: "x"}) })
		require.Equal(c, before+1, c.commits.Load())
		allocate(c, p, pool.Claim{Owner: "x"})
		require.Equal(c, before+1, c.commits.Load())
	})
}

// Of several calls of a handle, each gets its own answer, also if one of them could not be done by the other handle.
func TestAnswersKeepTheirOrder(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p, slow := c.handle(), &counting{Memory: c.memory.Open(), waiters: c}
		lead := c.handleOn(slow)
		allocate(c, p, pool.Claim{Owner: "a"})
		slow.beforeGet = func(key store.Key) error {
			if key.Name == "a" {
				return errors.New("cannot be read")
			}
			return nil
		}
		allocated := func(owner, want string) func() {
			return func() { require.Equal(c, want, texts(allocate(c, p, pool.Claim{Owner: owner}))) }
		}
		var between store.Turn
		before := c.commits.Load()
		c.together(
			allocated("first", "10.0.0.1"),
			func() {
				var err error
				between, err = c.memory.Turn(context.Background(), blueHead)
				require.NoError(c, err)
				synctest.Wait() // for the rest of p's calls, which are one batch
				between.End()
			},
			func() { allocate(c, lead, within) }, // which cannot ask
			func() { release(c, p, "a") },
			allocated("b", "10.0.0.2"),
			allocated("c", "10.0.0.3"))
		require.Equal(c, before+3, c.commits.Load(), "one for the release, whose record the lead cannot read")
	})
}

// Too many calls to ask for are made in a turn of their own.
func TestLargeAsks(t *testing.T) {
	inLine(t, specOf("10.0.0.0/16"), func(c *waiters) {
		var claims []pool.Claim
		for i := range 1000 {
			claims = append(claims, pool.Claim{
				Owner: fmt.Sprint(i), Labels: map[string]string{"long": strings.Repeat("x", store.MaxAskBytes/1000)},
			})
		}
		p, before := c.handle(), c.commits.Load()
		c.together(c.lead(), func() {
			results, err := allocateMany(context.Background(), p, claims)
			require.NoError(c, err)
			for i, r := range results {
				require.NoError(c, r.Err)
				require.Equal(c, claims[i].Labels, r.Allocation.Labels)
			}
		})
		require.Equal(c, before+2, c.commits.Load())
	})
}

// A lease lasts as long as was asked for by the clock of the handle that grants it, and never gets shorter.
func TestClocksOfHandlesDiffer(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		lead, ahead := c.lead(), c.options.Clock()
		c.options.Clock = func() time.Time { return ahead.Add(-time.Minute) }
		p := c.handle()
		c.together(lead, func() {
			a := allocate(c, p, pool.Claim{Owner: "x", TTL: time.Hour})
			require.Equal(c, ahead, a.Created)
			require.Equal(c, ahead.Add(time.Hour), a.Expires)
		})
		a, err := p.Renew(c.Context(), pool.Held{Owner: "x"}, time.Hour)
		require.NoError(c, err)
		require.Equal(c, ahead.Add(time.Hour), a.Expires)
	})
}

// within is a claim that cannot be asked for.
var within = pool.Claim{Owner: "within", Requests: []pool.Request{{Within: setOf("10.0.0.128/25")}}}

// Calls that cannot ask, and calls that are refused, commit for others too.
func TestThoseWhoCannotAskCommitForOthers(t *testing.T) {
	for name, first := range map[string]func(*waiters, *pool.Pool){
		"within a set": func(c *waiters, p *pool.Pool) { allocate(c, p, within) },
		"refused": func(c *waiters, p *pool.Pool) {
			_, err := p.Release(context.Background(), pool.Held{Owner: "nobody"})
			require.ErrorIs(c, err, pool.ErrNotFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
				p, other, before := c.handle(), c.handle(), c.commits.Load()
				c.together(
					func() { first(c, p) },
					func() { allocate(c, other, pool.Claim{Owner: "other"}) })
				require.Equal(c, before+1, c.commits.Load())
			})
		})
	}
}
