package simulation_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/pool"
)

// contest is a world in which processes do nothing but allocate from one pool and release.
type contest struct {
	world   *simulation.World
	backend *simulation.Backend
	steps   []int // how often each process went on
	calls   []int // how many calls of each have ended
	longest []int // how many commits there were during one of its calls, at most
}

// newContest returns a contest of n processes, each step of which choose decides on.
func newContest(t *testing.T, seed uint64, n int, choose func(*contest) int) *contest {
	t.Helper()
	c := &contest{
		world: simulation.NewWorld(seed, simulation.Rates{}), backend: simulation.NewBackend(),
		steps: make([]int, n), calls: make([]int, n), longest: make([]int, n),
	}
	spec, err := pool.ParseSpec("10.0.0.0/24")
	require.NoError(t, err)
	_, err = pool.Create(t.Context(), c.backend.Handle(nil), "blue", spec, nil)
	require.NoError(t, err)
	c.world.Choose = func(running int) int {
		if c.world.Calm() {
			return c.world.Random.IntN(running)
		}
		i := choose(c)
		c.steps[i]++
		return i
	}
	for i := range n {
		c.world.Go(fmt.Sprint(i), func(p *simulation.Process) { c.body(i, p) })
	}
	return c
}

// body allocates and releases until the end.
func (c *contest) body(i int, p *simulation.Process) {
	ctx := context.Background()
	blue, err := pool.Open(ctx, c.backend.Handle(p), "blue", &pool.Options{
		Clock: c.world.Now, Random: c.world.Random.Uint64, Backoff: time.Nanosecond, CommitTimeout: time.Hour,
	})
	for n := 0; err == nil && !c.world.Calm(); n++ {
		begin := c.backend.Commits
		owner := fmt.Sprintf("%d/%d", i, n/2)
		if n%2 == 0 {
			_, err = blue.Allocate(ctx, pool.Claim{Owner: owner})
		} else {
			_, err = blue.Release(ctx, pool.Held{Owner: owner})
		}
		c.calls[i]++
		c.longest[i] = max(c.longest[i], c.backend.Commits-begin)
	}
	if err != nil {
		c.world.Fail("process %d, after %d calls: %v", i, c.calls[i], err)
	}
}

// The schedulers. Under each, every process goes on again and again.
var schedulers = map[string]func(*contest) int{
	"alike":   func(c *contest) int { return c.world.Random.IntN(len(c.steps)) },
	"in turn": func(c *contest) int { return c.world.Steps % len(c.steps) },
	"one is twenty times as fast": func(c *contest) int {
		return max(0, c.world.Random.IntN(19+len(c.steps))-19)
	},
	"one goes on only when another has committed": func() func(c *contest) int {
		committed, waited := 0, 0
		return func(c *contest) int {
			if waited++; c.backend.Commits > committed || waited > 50 {
				committed, waited = c.backend.Commits, 0
				return 0
			}
			return 1 + c.world.Random.IntN(len(c.steps)-1)
		}
	}(),
}

// mostCommits is how many commits there are at most while a call is under way. A process may be slow to get in line,
// but then each of the others goes first but once.
const mostCommits = 100

// TestNobodyStarves shows that every call ends, under every scheduler that lets each process go on again and again,
// before the others have made more than so many commits.
func TestNobodyStarves(t *testing.T) {
	for name, choose := range schedulers {
		t.Run(name, func(t *testing.T) {
			for range 3 {
				c := newContest(t, rand.Uint64(), 4, choose)
				require.NoError(t, c.world.Run(20_000))
				for i, calls := range c.calls {
					require.Positive(t, calls, "process %d went on %d times, and no call has ended", i, c.steps[i])
					require.LessOrEqual(t, c.longest[i], mostCommits, "process %d", i)
				}
			}
		})
	}
}

// TestStarvingIsFound takes the order away. A call that never ends has no number of commits.
func TestStarvingIsFound(t *testing.T) {
	for name, spoil := range map[string]func(*simulation.Backend){
		"no order":              func(b *simulation.Backend) { b.Turnless = true },
		"commits that overtake": func(b *simulation.Backend) { b.Overtaking = true },
	} {
		t.Run(name, func(t *testing.T) {
			for range 5 {
				for _, choose := range schedulers {
					if starves(t, choose, spoil) {
						return
					}
				}
			}
			t.Fatal("nothing was found")
		})
	}
}

// starves reports whether some call fails, takes too long, or never ends.
func starves(t *testing.T, choose func(*contest) int, spoil func(*simulation.Backend)) bool {
	t.Helper()
	c := newContest(t, rand.Uint64(), 4, choose)
	spoil(c.backend)
	starves := c.world.Run(20_000) != nil
	for i := range c.calls {
		starves = starves || c.longest[i] > mostCommits || c.calls[i] == 0
	}
	return starves
}
