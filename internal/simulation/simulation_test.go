package simulation_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/simulation"
	"github.com/ipalloc/ipalloc/store"
)

var (
	steps = flag.Int("steps", 1_000_000, "how many steps TestPools runs, over all its seeds")
	log   = flag.String("log", "", "the name of a file in which TestPools writes what happens, of the last seed")
)

// world is what a run is on, to be broken on purpose.
type world struct {
	*simulation.Backend
	wrap    func(store.Store, *simulation.Process) store.Store
	rates   simulation.Rates
	crowded bool
}

// run runs so many steps on a backend that prepare has set up, and returns what was found.
func run(seed uint64, steps int, prepare func(*world)) (*simulation.Workload, *simulation.Backend, error) {
	b := simulation.NewBackend()
	with := world{
		Backend: b, wrap: func(s store.Store, _ *simulation.Process) store.Store { return s }, rates: simulation.Some,
	}
	prepare(&with)
	w := simulation.NewWorld(seed, with.rates)
	if *log != "" {
		file, err := os.Create(*log)
		if err != nil {
			return nil, b, err
		}
		defer file.Close()
		w.Trace = func(step int, what string) { fmt.Fprintln(file, step, what) }
	}
	l, err := simulation.NewWorkload(w, func(p *simulation.Process) store.Store {
		return with.wrap(b.Handle(p), p)
	})
	if err != nil {
		return l, b, err
	}
	b.Observe = l.Observe
	audited := 0
	w.AfterStep = func() error {
		if err := b.Check(); err != nil {
			return err
		}
		if b.Commits >= audited+50 {
			audited = b.Commits
			return l.Audit()
		}
		return nil
	}
	processes := 1 + seed%3 // alone, it meets nobody who would make a late commit fail
	if l.Crowded = with.crowded; l.Crowded {
		processes = 5
	}
	for i := range processes {
		w.Go(fmt.Sprint(i), l.Body)
	}
	if err := w.Run(steps); err != nil {
		return l, b, err
	}
	return l, b, l.Audit()
}

// seedOf returns the seed in SIMULATION_SEED, or a fresh one.
func seedOf(t *testing.T) uint64 {
	text := os.Getenv("SIMULATION_SEED")
	if text == "" {
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return seed
}

func TestPools(t *testing.T) {
	seed := seedOf(t)
	t.Logf("to run it again: SIMULATION_SEED=%d", seed)
	total := *steps
	if testing.Short() {
		total /= 20
	}
	const runs = 20
	answers := 0
	for i := range uint64(runs) {
		_, b, err := run(seed+i, total/runs, func(w *world) {
			if w.crowded = i%2 == 1; i%4 == 3 {
				manyLate(w)
			}
		})
		require.NoError(t, err, "SIMULATION_SEED=%d", seed+i)
		answers += b.Answers
	}
	require.Greater(t, answers, total/2_000, "processes have hardly committed for one another")
}

// The same seed gives the same run.
func TestReplay(t *testing.T) {
	var runs [2]string
	for _, crowded := range []bool{false, true} {
		for i := range runs {
			l, b, err := run(7, 20_000, func(w *world) { w.crowded = crowded })
			require.NoError(t, err)
			runs[i] = fmt.Sprint(l.Calls, b.Commits, b.Conflicts, b.Answers, l.World.Steps, l.World.Now())
		}
		require.Equal(t, runs[0], runs[1])
	}
}

// What is broken on purpose is found, and found again with the same seed.
func TestBreaksAreFound(t *testing.T) {
	for name, prepare := range breaks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := uint64(1); ; seed++ {
				_, _, err := run(seed, 20_000, prepare)
				if err == nil {
					require.Less(t, seed, uint64(80), "not found")
					continue
				}
				t.Logf("seed %d: %v", seed, err)
				_, _, again := run(seed, 20_000, prepare)
				require.EqualError(t, again, err.Error())
				return
			}
		})
	}
}
