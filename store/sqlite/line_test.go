//go:build linux

package sqlite_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

// newStores opens a new file so many times.
func newStores(t *testing.T, n int) (path string, stores []*sqlite.Store) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "ipalloc.db")
	for range n {
		s, err := sqlite.Open(t.Context(), path, nil)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, s.Close()) })
		stores = append(stores, s)
	}
	return path, stores
}

// holdTurn starts a child that has its turn and does not end it.
func holdTurn(t *testing.T, path string) *os.Process {
	t.Helper()
	child, output := filetest.StartChild(t, "hold", path)
	line, err := output.ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "turn\n", line)
	return child.Process
}

// least returns how long do took, of some times the least: a busy machine may spoil one.
func least(do func() time.Duration) time.Duration {
	took := do()
	for range 4 {
		took = min(took, do())
	}
	return took
}

// TestTurnOfKilledProcess passes the turn of a process that is dead on, long before a turn is over.
func TestTurnOfKilledProcess(t *testing.T) {
	path, stores := newStores(t, 1)
	took := least(func() time.Duration {
		holder := holdTurn(t, path)
		got := make(chan struct{})
		go func() {
			defer close(got)
			turn, err := stores[0].Turn(t.Context(), headA)
			if assert.NoError(t, err) {
				turn.End()
			}
		}()
		begin := time.Now()
		require.NoError(t, holder.Kill())
		<-got
		return time.Since(begin)
	})
	require.Less(t, took, store.MaxTurn/2)
}

// TestTurnOfStoppedProcess passes the turn of a process that is stopped on, once, and not for each who waits.
func TestTurnOfStoppedProcess(t *testing.T) {
	const waiters = 8
	path, stores := newStores(t, waiters)
	took := least(func() time.Duration {
		holder := holdTurn(t, path)
		require.NoError(t, holder.Signal(syscall.SIGSTOP))
		defer func() { require.NoError(t, holder.Kill()) }()
		begin := time.Now()
		var all sync.WaitGroup
		for _, s := range stores {
			all.Go(func() {
				turn, err := s.Turn(t.Context(), headA)
				if assert.NoError(t, err) {
					turn.End()
				}
			})
		}
		all.Wait()
		return time.Since(begin)
	})
	require.GreaterOrEqual(t, took, store.MaxTurn/2, "a turn was passed over at once")
	require.Less(t, took, 2*store.MaxTurn)
}

// TestLineDamaged overwrites, cuts off or removes what orders the callers. They go on, as the order is a courtesy.
func TestLineDamaged(t *testing.T) {
	for name, damage := range map[string]func(line string) error{
		"served more than drawn": func(line string) error { return writeLine(line, 3, 1<<40) },
		"drawn far ahead":        func(line string) error { return writeLine(line, 1<<50, 0) },
		"as far as it goes":      func(line string) error { return writeLine(line, 0xFF, 0xFF) },
		"beyond all offsets":     func(line string) error { return writeLine(line, 1<<63+5, 1<<63+1) },
		"cut off":                func(line string) error { return os.Truncate(line, 0) },
		"removed":                os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			path, stores := newStores(t, 2)
			require.NoError(t, damage(path+"-line"))
			require.NoError(t, commitInTurns(t.Context(), stores[0]))
			third, err := sqlite.Open(t.Context(), path, nil)
			require.NoError(t, err)
			defer third.Close()
			for _, s := range append(stores, third) {
				require.NoError(t, commitInTurns(t.Context(), s))
			}
		})
	}
}

// commitInTurns commits a few times.
func commitInTurns(ctx context.Context, s store.Store) error {
	for range 3 {
		turn, err := s.Turn(ctx, headA)
		if err != nil {
			return err
		}
		if _, err = s.Commit(ctx, store.Change{Head: turn.Heads()[0], Turn: turn}); err != nil {
			return err
		}
	}
	return nil
}

// writeLine writes the numbers of the next ticket and of the one that is served.
func writeLine(path string, next, serving uint64) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	var text [16]byte
	for i := range 8 {
		text[i], text[8+i] = byte(next>>(8*i)), byte(serving>>(8*i))
	}
	_, err = f.WriteAt(text[:], 0)
	return errors.Join(err, f.Close())
}

// TestLeaveLine has those who wait leave at any time, also just when it is their turn. Nobody is held up.
func TestLeaveLine(t *testing.T) {
	_, stores := newStores(t, 4)
	var all sync.WaitGroup
	for i, s := range stores {
		all.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), time.Duration((n*37+i*13)%400)*time.Microsecond)
				turn, err := s.Turn(ctx, headA)
				if err == nil {
					turn.End()
				}
				assert.True(t, err == nil || errors.Is(err, context.DeadlineExceeded), "%v", err)
				cancel()
			}
		})
	}
	filetest.Returns(t, "a call of Turn", all.Wait)
	turn, err := stores[0].Turn(t.Context(), headA)
	require.NoError(t, err)
	turn.End()
}

// TestCloseBesideTurns closes stores while calls wait and turns last.
func TestCloseBesideTurns(t *testing.T) {
	_, stores := newStores(t, 3)
	turn, err := stores[0].Turn(t.Context(), headA)
	require.NoError(t, err)
	ended := make(chan error)
	go func() {
		waiting, err := stores[1].Turn(t.Context(), headA)
		if err == nil {
			waiting.End()
		}
		ended <- err
	}()
	require.NoError(t, stores[0].Close())
	require.NoError(t, stores[1].Close())
	turn.End()
	if err := <-ended; err != nil {
		require.ErrorIs(t, err, store.ErrClosed)
	}
	_, err = stores[0].Turn(t.Context(), headA)
	require.ErrorIs(t, err, store.ErrClosed)
	third, err := stores[2].Turn(t.Context(), headA)
	require.NoError(t, err)
	third.End()
}
