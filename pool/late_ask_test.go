package pool_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// cutOff is a handle on a store which nothing that it sends reaches as long as it is away. What it asks others for
// arrives later.
type cutOff struct {
	*store.Memory
	away bool
	ask  []byte
}

func (s *cutOff) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if !s.away {
		return s.Memory.Join(ctx, key, ask)
	}
	if s.ask == nil {
		s.ask = ask
	}
	return nil, fmt.Errorf("%w: the ask takes long", store.ErrUnknown)
}

func (s *cutOff) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	if s.away {
		store.EndTurns(changes)
		return nil, errors.New("no connection")
	}
	return s.Memory.Commit(ctx, changes...)
}

// What a handle has asked others for may arrive when its caller is gone. Then it does not undo what was answered since
// on the strength of a grant or a fence.
func TestLateAsks(t *testing.T) {
	releases := func(c *waiters, p *pool.Pool) error {
		_, err := p.Release(c.Context(), pool.Held{Owner: "a"})
		return err
	}
	claims := func(c *waiters, p *pool.Pool) error {
		_, err := p.Allocate(c.Context(), pool.Claim{Owner: "a"})
		return err
	}
	fences := func(c *waiters, p *pool.Pool) error {
		_, err := p.Allocate(c.Context(), pool.Claim{Owner: "a", Fenced: true})
		return err
	}
	leases := func(c *waiters, p *pool.Pool) error {
		_, err := p.Allocate(c.Context(), pool.Claim{Owner: "a", TTL: time.Hour})
		return err
	}
	type calls []func(*waiters, *pool.Pool) error
	for _, each := range []struct {
		what   string
		before calls // through a handle that nothing happens to
		late   func(*waiters, *pool.Pool) error
		then   calls // through that handle
		again  calls // through the one whose ask is late
		holds  bool  // what the owner does when the ask has arrived
	}{
		{what: "a release, and nothing since", before: calls{claims}, late: releases},
		{what: "a claim, and nothing since", late: claims, holds: true},
		{what: "a release before a claim", before: calls{claims}, late: releases, then: calls{claims}},
		{what: "a release before a fenced claim", before: calls{claims}, late: releases, then: calls{fences}, holds: true},
		{
			what: "a release before another one and a grant", before: calls{claims}, late: releases,
			then: calls{releases, claims}, holds: true,
		},
		{
			what: "a release, and its handle claims again", before: calls{claims}, late: releases, again: calls{claims},
			holds: true,
		},
		{what: "a claim, and its handle claims and releases", late: claims, again: calls{claims, releases}},
		{what: "a claim before another one and a release", late: claims, then: calls{claims, releases}, holds: true},
		{
			what: "a claim before another one, a fenced one and a release", late: claims,
			then: calls{claims, fences, releases},
		},
		{
			what: "a release before a lease is made to last", before: calls{leases}, late: releases, then: calls{claims},
			holds: true,
		},
		{what: "a claim, and its handle finds nothing to release", late: claims, again: calls{
			func(c *waiters, p *pool.Pool) error {
				_, err := p.Release(c.Context(), pool.Held{Owner: "a"})
				require.ErrorIs(c, err, pool.ErrNotFound)
				return nil
			},
		}},
	} {
		t.Run(each.what, func(t *testing.T) {
			inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
				other := c.handle()
				for _, call := range each.before {
					require.NoError(c, call(c, other))
				}
				s := &cutOff{Memory: c.memory.Open()}
				p := c.handleOn(s)
				s.away = true
				require.ErrorIs(c, each.late(c, p), store.ErrUnknown)
				require.NotNil(c, s.ask)
				s.away = false
				for _, call := range each.then {
					require.NoError(c, call(c, other))
				}
				for _, call := range each.again {
					require.NoError(c, call(c, p))
				}
				c.arrives(s.ask)
				_, err := other.Get(c.Context(), pool.Held{Owner: "a"})
				if each.holds {
					require.NoError(c, err)
				} else {
					require.ErrorIs(c, err, pool.ErrNotFound)
				}
			})
		})
	}
}

// A fenced claim over several pools keeps what was sent before out of all of them.
func TestLateAskInAnotherPool(t *testing.T) {
	inLine(t, specOf("10.0.0.0/31"), func(c *waiters) {
		full := c.handle()
		allocate(c, full, pool.Claim{Owner: "x"})
		allocate(c, full, pool.Claim{Owner: "y"})
		room, err := pool.Create(c.Context(), c.memory, "room", specOf("10.0.1.0/24"), &c.options)
		require.NoError(c, err)
		s := &cutOff{Memory: c.memory.Open()}
		p := c.handleOn(s)
		s.away = true
		_, err = p.Allocate(c.Context(), pool.Claim{Owner: "a"})
		require.ErrorIs(c, err, store.ErrUnknown)
		other, err := pool.Open(c.Context(), c.memory, "blue", &c.options)
		require.NoError(c, err)
		granted, err := other.All(c.Context(), pool.Allocate(pool.Claim{Owner: "a", Fenced: true}).In(other, room))
		require.NoError(c, err)
		require.Equal(c, "room", granted[0].Pool.Name())
		release(c, full, "x")
		release(c, full, "y")
		c.arrives(s.ask)
		_, err = other.Get(c.Context(), pool.Held{Owner: "a"})
		require.ErrorIs(c, err, pool.ErrNotFound)
	})
}

// Extend makes a fence too, also of what the pool was granted before.
func TestFencedExtend(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		s := &counting{Memory: c.memory.Open(), waiters: c}
		parent, err := pool.Open(c.Context(), s, "blue", &c.options)
		require.NoError(c, err)
		child, _, err := pool.Delegate(c.Context(), parent, blockClaim("first"), "child", pool.Spec{}, nil)
		require.NoError(c, err)
		claim := blockClaim("second")
		for _, want := range []int64{1, 0, 1} { // commits
			before := c.commits.Load()
			_, err = child.Extend(c.Context(), claim)
			require.NoError(c, err)
			require.Equal(c, before+want, c.commits.Load())
			claim.Fenced = before+want == before
		}
	})
}

func blockClaim(owner string) pool.Claim {
	return pool.Claim{Owner: owner, Requests: []pool.Request{{Bits: 30}}}
}

// listening is a handle on a store that notes what is asked through it.
type listening struct {
	*store.Memory
	asks []string
}

func (s *listening) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	s.asks = append(s.asks, string(ask))
	return s.Memory.Join(ctx, key, ask)
}

// A call that others have left to its handle gets the next turn of that, and does not wait until others have done what
// came later.
func TestWhatOthersLeaveHasATurn(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		s := &listening{Memory: c.memory.Open()}
		p := c.handleOn(s)
		other := c.handle()
		allocate(c, other, pool.Claim{Owner: "a"})
		allocate(c, other, pool.Claim{Owner: "a", Fenced: true}) // which p does not know
		c.together(c.lead(),
			func() { allocate(c, p, pool.Claim{Owner: "first"}) },
			func() { allocate(c, p, pool.Claim{Owner: "later"}) })
		require.Len(c, s.asks, 2)
		require.Contains(c, s.asks[0], "first")
		require.Empty(c, s.asks[1])
	})
}

// arrives has others do what somebody has asked for who is gone, if they would.
func (c *waiters) arrives(ask []byte) {
	c.together(c.lead(), func() {
		turn, err := c.memory.Join(context.Background(), blueHead, ask)
		require.NoError(c, err)
		turn.End()
	})
}

// A fenced claim that is granted something new makes no fence, which would be in the way of others.
func TestAsksAfterAFencedGrant(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p := c.handle()
		allocate(c, c.handle(), pool.Claim{Owner: "a", Fenced: true})
		before := c.commits.Load()
		c.together(c.lead(), func() { allocate(c, p, pool.Claim{Owner: "b"}) })
		require.Equal(c, before+1, c.commits.Load())
	})
}

// A fence holds up no call: what is asked for by who does not know it yet is done in a turn of its own, and after that
// others do it again.
func TestAsksAfterAFence(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p := c.handle()
		allocate(c, p, pool.Claim{Owner: "a"})
		other := c.handle()
		allocate(c, other, pool.Claim{Owner: "a", Fenced: true})
		for i, want := range []int64{2, 1} { // commits for two calls
			before, owner := c.commits.Load(), fmt.Sprint(i)
			lead := c.handleOn(&counting{Memory: c.memory.Open(), waiters: c, beforeGet: func(key store.Key) error {
				require.NotEqual(c, owner, key.Name, "what is left to others is not looked up")
				return nil
			}})
			c.together(
				func() { allocate(c, lead, pool.Claim{Owner: "lead" + owner}) },
				func() { allocate(c, p, pool.Claim{Owner: owner}) })
			require.Equal(c, before+want, c.commits.Load())
		}
	})
}

// As long as something that a handle has asked for may arrive late, it does all by itself: what others do makes no
// fence.
func TestNothingIsAskedBesideALateAsk(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		s, knows := &cutOff{Memory: c.memory.Open()}, c.handle()
		want := allocate(c, knows, pool.Claim{Owner: "a"})
		p := c.handleOn(s)
		s.away = true
		_, err := p.Release(c.Context(), pool.Held{Owner: "a"})
		require.ErrorIs(c, err, store.ErrUnknown)
		s.away = false
		c.together(
			func() { allocate(c, knows, pool.Claim{Owner: "first"}) },
			func() { require.Equal(c, want, allocate(c, p, pool.Claim{Owner: "a"})) })
		c.arrives(s.ask)
		require.Equal(c, want, allocate(c, c.handle(), pool.Claim{Owner: "a"}))
	})
}

// Who was answered knows what it was given: others release it too.
func TestWhatOthersGrantedOthersRelease(t *testing.T) {
	inLine(t, specOf("10.0.0.0/24"), func(c *waiters) {
		p := c.handle()
		for _, call := range []func(){
			func() { allocate(c, p, pool.Claim{Owner: "a"}) },
			func() { release(c, p, "a") },
		} {
			before := c.commits.Load()
			c.together(c.lead(), call)
			require.Equal(c, before+1, c.commits.Load())
		}
	})
}
