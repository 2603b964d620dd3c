package pooltest

import (
	"context"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Start runs the calling test once more, in a child process with more in its environment, and returns the output of the
// child. By that environment the test knows that it is the child. The child is killed at the end of the test.
func Start(t *testing.T, env ...string) (*exec.Cmd, io.Reader) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	child.Env = append(os.Environ(), env...)
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	return child, output
}

// Work is what the child of a [Killing] does with the store until it is killed: its workers allocate and release, each
// for owners of its own. It takes the results of opening the store, and fails the test if one is an error.
func Work(t *testing.T, s store.Store, err error) {
	t.Helper()
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, Name, nil)
	require.NoError(t, err)
	failed := make(chan error)
	for worker := range workers {
		go func() { failed <- work(t.Context(), p, worker) }()
	}
	require.NoError(t, <-failed)
}

func work(ctx context.Context, p *pool.Pool, worker int) error {
	for {
		c := Claim(worker, rand.IntN(workerOwners))
		var err error
		if rand.IntN(2) == 0 {
			err = Allocate(ctx, p, c)
		} else {
			err = Release(ctx, p, c.Owner)
		}
		if err != nil {
			return err
		}
	}
}

// Killing kills a child during [Work], at random moments. What the child has reported as granted must be held, what it
// has reported as released must be free, and a call that was under way has taken effect whole or not at all.
type Killing struct {
	// Open opens the store, which has no pool yet. It is closed before a child starts.
	Open func(ctx context.Context) (store.Store, error)
	// Child is the environment that makes the test that calls Run the child, which has the same store do [Work].
	Child []string
	// Kill kills what the child needs instead of the child, which must end by that; nil for the child itself.
	Kill func() error
	// Recover is called after each kill, and returns when what the child had sent has no effect any more; nil for at
	// once.
	Recover func() error
	// Rounds is the least number of kills, and Calls of calls that return.
	Rounds, Calls int
	// AnswersAll says that no kill comes between a commit and its answer. If not, some of them must.
	AnswersAll bool
}

// Run kills until there were enough rounds and enough calls, and until some of the calls that were cut off
// had taken effect and some had not.
func (k Killing) Run(t *testing.T) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	m := newModel()
	k.create(t, m)
	const maxRounds = 200
	calls, done, undone := 0, 0, 0
	// A few of the kills come between a commit and its answer; rarely none of the first ones does.
	enough := func() bool { return calls >= k.Calls && (done > 0 || k.AnswersAll) && undone > 0 }
	for round := 0; round < k.Rounds || round < maxRounds && !enough(); round++ {
		calls += k.killAmidWork(t, time.Duration(random.Int64N(int64(200*time.Millisecond))), m)
		if k.Recover != nil {
			require.NoError(t, k.Recover())
		}
		roundDone, roundUndone := k.check(t, m)
		done, undone = done+roundDone, undone+roundUndone
	}
	t.Logf("%d calls returned; of those cut off, %d had taken effect and %d had not", calls, done, undone)
	require.GreaterOrEqual(t, calls, k.Calls)
	if !k.AnswersAll {
		require.Positive(t, done, "no kill came between a commit and its answer")
	}
	require.Positive(t, undone, "no kill came before a commit")
}

// create makes the pool, and what is held all the time.
func (k Killing) create(t *testing.T, m *model) {
	t.Helper()
	s, err := k.Open(t.Context())
	require.NoError(t, err)
	p, err := pool.Create(t.Context(), s, Name, Spec(t), nil)
	require.NoError(t, err)
	var claims []pool.Claim
	for n := range settledOwners {
		c := settledClaim(n)
		m.claims[c.Owner] = c
		claims = append(claims, c)
	}
	for _, a := range AllocateAll(t, p, claims) {
		m.grant(t, a)
	}
	requireSpaceOutsideHead(t, s)
	require.NoError(t, s.Close())
}

// requireSpaceOutsideHead checks that the free space is so fragmented that it needs records of its own, which are then
// part of what a kill may tear.
func requireSpaceOutsideHead(t *testing.T, s store.Store) {
	t.Helper()
	records := 0
	for _, err := range s.List(t.Context(), store.KindSpace, Name) {
		require.NoError(t, err)
		records++
	}
	require.Positive(t, records)
}

// killAmidWork runs a child and kills it so long after the first call has returned. It returns how many calls did.
func (k Killing) killAmidWork(t *testing.T, life time.Duration, m *model) int {
	t.Helper()
	child, output := Start(t, k.Child...)
	kill := k.Kill
	if kill == nil {
		kill = child.Process.Kill
	}
	returned, killed := 0, make(chan error, 1)
	others := ReadEvents(output, func(e Event) {
		m.note(t, e)
		if !e.Returned {
			return
		}
		if returned++; returned == 1 {
			time.AfterFunc(life, func() { killed <- kill() })
		}
	})
	require.Error(t, child.Wait(), "the child ended by itself: %s", others)
	require.Positive(t, returned, "the child failed by itself: %s", others)
	if k.Kill == nil && runtime.GOOS != "windows" { // which does not tell
		require.Equal(t, -1, child.ProcessState.ExitCode(), "the child failed by itself: %s", others)
	}
	require.NoError(t, <-killed)
	return returned
}

// killLookups is how many of those who hold something are looked up by their address after each kill. Where each costs
// a look at all records, to look up all would take most of the test's time.
const killLookups = 100

// check compares all that the pool says with the model. It returns what settle does.
func (k Killing) check(t *testing.T, m *model) (done, undone int) {
	t.Helper()
	s, err := k.Open(t.Context())
	require.NoError(t, err)
	p, err := pool.Open(t.Context(), s, Name, nil)
	require.NoError(t, err)
	found := RequireConsistent(t, p)
	done, undone = m.settle(t, found)
	looked := 0
	for _, a := range m.held { // in a random order
		if looked++; looked > killLookups {
			break
		}
		got, err := p.Get(t.Context(), pool.Held{Addr: a.Prefixes[0].Addr()})
		require.NoError(t, err)
		require.Equal(t, a.Owner, got.Owner)
	}
	require.NoError(t, s.Close())
	return done, undone
}

// Fence changes the head of the pool, for [Killing.Recover]: what a child that was killed had sent may still be on its
// way, and then comes too late.
func Fence(ctx context.Context, open func(context.Context) (store.Store, error)) error {
	s, err := open(ctx)
	if err != nil {
		return err
	}
	defer s.Close()
	p, err := pool.Open(ctx, s, Name, nil)
	if err != nil {
		return err
	}
	if _, err := p.Allocate(ctx, pool.Claim{Owner: "fence"}); err != nil {
		return err
	}
	_, err = p.Release(ctx, pool.Held{Owner: "fence"})
	return err
}
