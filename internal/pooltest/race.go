package pooltest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// raceWriter is the environment variable that tells a child of a [Racing] who it is.
const raceWriter = "POOLTEST_RACE_WRITER"

// raceClaims is how many claims a writer makes, of which it releases each fourth.
const raceClaims = 16

var policies = []pool.FamilyPolicy{pool.SingleStack, pool.PreferDualStack, pool.RequireDualStack}

// Race is what a child of a [Racing] does with the store. It takes the results of opening the store, and
// fails the test if one is an error.
func Race(t *testing.T, s store.Store, err error) {
	t.Helper()
	require.NoError(t, err)
	require.NoError(t, race(t.Context(), s, os.Getenv(raceWriter)))
	require.NoError(t, s.Close())
}

func race(ctx context.Context, s store.Store, writer string) error {
	p, err := pool.Open(ctx, s, Name, nil)
	if err != nil {
		return err
	}
	for n := range raceClaims {
		owner := fmt.Sprint(writer, "/", n)
		_, err := p.Allocate(ctx, pool.Claim{Owner: owner, Policy: policies[n%3]})
		if err == nil && n%4 == 0 {
			_, err = p.Release(ctx, pool.Held{Owner: owner})
		}
		if err != nil {
			return fmt.Errorf("%s: %w", owner, err)
		}
	}
	return nil
}

// Racing has many processes, and in this one several handles, allocate from one pool at once, and release a part.
type Racing struct {
	// Open opens the store, which has no pool yet.
	Open func(ctx context.Context) (store.Store, error)
	// Child is the environment that makes the test that calls Run the child, which has the same store do [Race].
	Child []string
}

// Run returns when all have done, and have what they asked for.
func (r Racing) Run(t *testing.T) {
	t.Helper()
	const processes, handles = 12, 4
	open := func() store.Store {
		s, err := r.Open(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		return s
	}
	first := open()
	_, err := pool.Create(t.Context(), first, Name, Spec(t), nil)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			child.Env = append(append(os.Environ(), r.Child...), fmt.Sprintf("%s=process-%d", raceWriter, i))
			output, err := child.CombinedOutput()
			assert.NoError(t, err, "%s", output)
		})
	}
	for i := range handles {
		s := open()
		wg.Go(func() { assert.NoError(t, race(t.Context(), s, fmt.Sprint("handle-", i))) })
	}
	wg.Wait()
	p, err := pool.Open(t.Context(), first, Name, nil)
	require.NoError(t, err)
	require.Len(t, RequireConsistent(t, p), (processes+handles)*raceClaims*3/4)
}
