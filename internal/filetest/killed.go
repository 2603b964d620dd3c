package filetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// The environment variables that make a test binary a child of one of its tests.
const (
	childRole = "IPALLOC_TEST_CHILD"
	childPath = "IPALLOC_TEST_PATH"
)

// Main is what TestMain does: it runs the tests or, in a child, what its role stands for, with the path of the store.
func Main(m *testing.M, roles map[string]func(path string) error) {
	role := os.Getenv(childRole)
	if role == "" {
		os.Exit(m.Run())
	}
	err := fmt.Errorf("unknown role %q", role)
	if do := roles[role]; do != nil {
		err = do(os.Getenv(childPath))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// StartChild starts this binary in a role, and returns it with its output. It is killed at the end of the test.
func StartChild(t *testing.T, role, path string) (*exec.Cmd, *bufio.Reader) {
	t.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childRole+"="+role, childPath+"="+path)
	child.Stderr = os.Stderr
	output, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	t.Cleanup(func() { _ = child.Process.Kill() })
	return child, bufio.NewReader(output)
}

// window is how many claims the crash test keeps: commit n creates claim n and deletes claim n-window.
const window = 20

func crashClaim(n int) store.Record {
	addr := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	return store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprintf("claim-%d", n)},
		Prefixes: []netip.Prefix{netip.PrefixFrom(addr, 32)},
		Data:     json.RawMessage(fmt.Sprint(n)),
	}
}

// crashHead returns the head, and its number.
func crashHead(ctx context.Context, s store.Store) (store.Record, int, error) {
	head, err := s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "a"})
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}, 0, nil
	}
	n := 0
	return head, n, errors.Join(err, json.Unmarshal(head.Data, &n))
}

// CommitForEver is what a child does in [Driver.Killed]: it commits one number after the other, and writes each, with
// its revision, when Commit has returned.
func (d Driver) CommitForEver(path string) error {
	ctx := context.Background()
	s, err := d.Open(ctx, path, false)
	if err != nil {
		return err
	}
	head, n, err := crashHead(ctx, s)
	for err == nil {
		n++
		head.Data = json.RawMessage(fmt.Sprint(n))
		head, err = storetest.CommitOne(ctx, s, head,
			store.Write{Op: store.Create, Record: crashClaim(n)},
			store.Write{Op: store.Delete, Record: crashClaim(n - window)},
		)
		if err == nil {
			fmt.Println(n, head.Revision)
		}
	}
	return err
}

// Killed kills a child that does [Driver.CommitForEver], in the role "commit", at random moments, some while it creates
// the file. Each commit that the child has said to have returned must be there, whole, and nothing by half. After each
// kill, before the file is opened again, it calls after, if that is not nil.
func (d Driver) Killed(t *testing.T, after func(path string)) {
	t.Helper()
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	random := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	path, total := "", 0
	for round := range 24 {
		if round%4 == 0 {
			path = filepath.Join(t.TempDir(), "ipalloc.db")
		}
		child, output := StartChild(t, "commit", path)
		life := time.Duration(random.Int64N(int64(80 * time.Millisecond)))
		time.AfterFunc(life, func() { _ = child.Process.Kill() })
		acknowledged, revision := 0, int64(0)
		for {
			line, err := output.ReadString('\n')
			if err != nil {
				require.ErrorIs(t, err, io.EOF)
				break // what the line has, if anything, was cut off
			}
			_, err = fmt.Sscan(line, &acknowledged, &revision)
			require.NoError(t, err)
			total++
		}
		require.Error(t, child.Wait(), "the child ended by itself")
		if runtime.GOOS != "windows" { // which does not tell
			require.Equal(t, -1, child.ProcessState.ExitCode(), "the child failed by itself")
		}
		if after != nil {
			after(path)
		}
		d.verifyKilled(t, path, acknowledged, revision)
	}
	t.Logf("%d commits before the kills", total)
}

func (d Driver) verifyKilled(t *testing.T, path string, acknowledged int, revision int64) {
	t.Helper()
	ctx := t.Context()
	s, err := d.Open(ctx, path, false)
	require.NoError(t, err)
	defer s.Close()
	head, n, err := crashHead(ctx, s)
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, acknowledged, "an acknowledged commit is lost")
	require.GreaterOrEqual(t, head.Revision, revision, "an acknowledged commit is lost")
	if acknowledged > 0 {
		require.LessOrEqual(t, n, acknowledged+1)
	}
	found := 0
	for r, err := range s.List(ctx, store.KindAllocation, "a") {
		require.NoError(t, err)
		require.NotEmpty(t, r.Prefixes)
		found++
	}
	require.Equal(t, min(n, window), found, "the head has number %d", n)
	for i := max(1, n-window+1); i <= n; i++ {
		want := crashClaim(i)
		got, err := s.Find(ctx, "a", want.Prefixes[0].Addr())
		require.NoError(t, err)
		require.Equal(t, want.Key, got.Key)
		require.JSONEq(t, string(want.Data), string(got.Data))
		require.Equal(t, head.Revision-int64(n-i), got.Revision)
	}
	gone := crashClaim(n - window)
	_, err = s.Find(ctx, "a", gone.Prefixes[0].Addr())
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, s.Close())
	d.RequireSound(t, path)
}
