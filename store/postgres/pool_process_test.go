package postgres_test

import (
	"fmt"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

// poolChildRun is the environment variable that tells a child of TestPoolProcesses its number.
const poolChildRun = "POSTGRES_TEST_POOL_RUN"

// TestPoolProcesses has many processes, and in this one several handles, allocate from one pool at once, and release a part.
func TestPoolProcesses(t *testing.T) {
	const claims = 16
	if at, ok := childPlace(); ok {
		s, err := postgres.Open(t.Context(), at.url, &postgres.Options{Schema: at.schema})
		require.NoError(t, err)
		runClaims(t, s, os.Getenv(poolChildRun), claims)
		require.NoError(t, s.Close())
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	const processes, handles = 12, 4
	at := place{sharedServer(t).url("postgres"), newSchema()}
	_, err := pool.Create(t.Context(), open(t, at.url, at.schema), crashPool, crashSpec(t), nil)
	require.NoError(t, err)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range processes {
		wg.Go(func() {
			child := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
			child.Env = append(os.Environ(), poolChildURL+"="+at.url, poolChildSchema+"="+at.schema, fmt.Sprintf("%s=process-%d", poolChildRun, i))
			output, err := child.CombinedOutput()
			assert.NoError(t, err, "%s", output)
		})
	}
	for i := range handles {
		s := open(t, at.url, at.schema)
		wg.Go(func() { runClaims(t, s, fmt.Sprint("handle-", i), claims) })
	}
	wg.Wait()
	t.Logf("%d writers, each %d claims, took %v", processes+handles, claims, time.Since(begin))
	p, err := pool.Open(t.Context(), open(t, at.url, at.schema), crashPool, nil)
	require.NoError(t, err)
	require.Len(t, requireConsistent(t, p), (processes+handles)*claims*3/4)
}

// runClaims allocates for so many owners of the writer, and releases each fourth.
func runClaims(t *testing.T, s store.Store, writer string, claims int) {
	p, err := pool.Open(t.Context(), s, crashPool, nil)
	if err != nil {
		t.Errorf("open the pool for %s: %v", writer, err)
		return
	}
	for n := range claims {
		owner := fmt.Sprint(writer, "/", n)
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Policy: pool.FamilyPolicy(n % 3)})
		if err == nil && n%4 == 0 {
			_, err = p.Release(t.Context(), owner)
		}
		assert.NoError(t, err, owner)
	}
}
