package bolt_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// TestFullDisk fills a disk with allocations. The first that finds no room fails at once and says so, nothing is lost,
// and the store goes on when there is room.
func TestFullDisk(t *testing.T) { driver.FullDisk(t, "200k") }

// TestCreateOnFullDisk leaves nothing behind.
func TestCreateOnFullDisk(t *testing.T) { driver.CreateOnFullDisk(t, "4k") }

// TestFileSizeLimit has a child that may not let a file grow. The system refuses when bbolt makes its file larger, and
// bbolt passes on the text of that error alone.
func TestFileSizeLimit(t *testing.T) {
	runChild(t, "limited", filepath.Join(t.TempDir(), "ipalloc.db"))
}

// runChild runs a child of that name to its end, which must be a success.
func runChild(t *testing.T, name, path string) {
	t.Helper()
	child, output := filetest.StartChild(t, name, path)
	said, err := io.ReadAll(output)
	require.NoError(t, err)
	require.NoError(t, child.Wait(), "%s", said)
}

// createIn makes a pool in a child.
func createIn(ctx context.Context, s store.Store, ranges string) (*pool.Pool, error) {
	spec, err := pool.ParseSpec(ranges)
	if err != nil {
		return nil, err
	}
	return pool.Create(ctx, s, pooltest.Name, spec, nil)
}

// limited is that child.
func limited(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	counted := &filetest.Counting{Store: s}
	p, err := createIn(ctx, counted, "10.0.0.0/16")
	if err != nil {
		return err
	}
	var steps []pool.Step
	for i := range 200 {
		steps = append(steps, pool.Allocate(pool.Claim{Owner: fmt.Sprint(i)}))
	}
	err = withoutGrowth(path, func() error {
		_, err := p.All(ctx, steps...)
		return err
	})
	if !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("a commit for which there is no room returned the error %w", err)
	}
	if n := counted.Commits.Load(); n != 2 {
		return fmt.Errorf("%d commits were tried, with that which made the pool, want 2", n)
	}
	_, err = p.All(ctx, steps...)
	return errors.Join(err, s.Close())
}

// withoutGrowth calls do while no file of this process may become larger than that at path.
func withoutGrowth(path string, do func() error) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	return withoutWrites(info.Size(), do)
}

// withoutWrites calls do while this process may write nothing to a file from an offset on.
func withoutWrites(from int64, do func() error) error {
	signal.Ignore(syscall.SIGXFSZ)
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	limit := before
	limit.Cur = uint64(from)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	result := do()
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &before); err != nil {
		return err
	}
	return result
}

// TestFailedCommitOfSparePages has a child whose commit fails after it has taken spare pages back, since the file may
// not grow.
func TestFailedCommitOfSparePages(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	runChild(t, "limited spare", path)
	require.Positive(t, sparePages(t, path))
}

// limitedSpare is that child.
func limitedSpare(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	commit := func(op store.Op, n, size int) error {
		var writes []store.Write
		for i := range n {
			key := store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprintf("%05d", i)}
			data := json.RawMessage(fmt.Sprintf("%q", strings.Repeat("x", size)))
			writes = append(writes, store.Write{Op: op, Record: store.Record{Key: key, Data: data}})
		}
		heads, err := s.Commit(ctx, store.Change{Head: head, Writes: writes})
		if err == nil {
			head = heads[0]
		}
		return err
	}
	for _, err := range []error{commit(store.Put, 3_000, 3_000), commit(store.Delete, 3_000, 0), commit(store.Put, 1, 1),
		commit(store.Put, 1, 1)} {
		if err != nil {
			return err
		}
	}
	listed := bolt.ListedPages(s)
	for range 3 {
		err = withoutGrowth(path, func() error { return commit(store.Put, 9_000, 3_000) })
		if !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("a commit for which there is no room returned the error %w", err)
		}
	}
	if now := bolt.ListedPages(s); now != listed {
		return fmt.Errorf("%d free pages are listed after the failed commits, want %d", now, listed)
	}
	return errors.Join(commit(store.Put, 500, 3_000), s.Close())
}

// TestShrinkingFails has a child that may not write to some of the file while the file shrinks.
func TestShrinkingFails(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	runChild(t, "limited shrink", path)
	contents(t, path)
	require.LessOrEqual(t, fileSize(t, path), freshSize(t, path)*3/2+int64(bolt.Slack)*int64(os.Getpagesize()))
}

// limitedShrink is that child.
func limitedShrink(path string) error {
	ctx := context.Background()
	s, err := bolt.Open(ctx, path, nil)
	if err != nil {
		return err
	}
	p, err := createIn(ctx, s, "10.0.0.0/8")
	if err != nil {
		return err
	}
	const many = 10_000
	for _, each := range []iter.Seq[pool.Step]{steps(0, many, 1, claim), steps(0, many, 2, release)} {
		for r, err := range p.Each(ctx, each) {
			if err := errors.Join(err, r.Err); err != nil {
				return err
			}
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	page := int64(os.Getpagesize())
	for _, from := range []int64{0, page, 2 * page, 10 * page, info.Size() / 8, info.Size() / 4, info.Size() / 2} {
		err := withoutWrites(from, func() error { return bolt.Shrink(s, nil) })
		if err != nil && !errors.Is(err, syscall.EFBIG) {
			return fmt.Errorf("shrinking without writes from byte %d: %w", from, err)
		}
		if from == 0 && err == nil {
			return errors.New("nothing was written")
		}
		if _, err := p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint(from)}); err != nil {
			return fmt.Errorf("after shrinking without writes from byte %d: %w", from, err)
		}
		report, err := p.Verify(ctx)
		if err != nil || !report.OK() {
			return fmt.Errorf("after shrinking without writes from byte %d: %v %w", from, report, err)
		}
	}
	return errors.Join(bolt.Shrink(s, nil), s.Close())
}
