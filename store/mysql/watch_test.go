package mysql_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestWatchSmallDB waits with one connection, which is free for others meanwhile.
func TestWatchSmallDB(t *testing.T) {
	s := openOn(t, connect(t, sharedServer(t).dsn()), 1, newSchema())
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	for range 3 {
		result := make(chan store.Record)
		for range 5 {
			go func() {
				r, err := s.Watch(t.Context(), h.Key, h.Revision)
				if err != nil {
					t.Error(err)
				}
				result <- r
			}()
		}
		time.Sleep(20 * time.Millisecond)
		next, err := storetest.CommitOne(t.Context(), s, h)
		require.NoError(t, err)
		for range 5 {
			require.Equal(t, next.Revision, (<-result).Revision)
		}
		h = next
	}
}

// TestWatchConnectionLost cuts the connection between two looks, and has nobody answer. The call says so, and the next
// one waits again.
func TestWatchConnectionLost(t *testing.T) {
	o := newOutage(t, 4)
	result := make(chan error, 1)
	go func() {
		_, err := o.through.Watch(t.Context(), o.head.Key, o.head.Revision)
		result <- err
	}()
	time.Sleep(20 * time.Millisecond)
	o.proxy.Refuse()
	o.proxy.Cut()
	err := <-result
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrClosed)
	o.proxy.Heal()
	seen := make(chan int64, 1)
	go func() {
		r, err := o.through.Watch(t.Context(), o.head.Key, o.head.Revision)
		if err != nil {
			t.Error(err)
		}
		seen <- r.Revision
	}()
	next, err := storetest.CommitOne(t.Context(), o.direct, o.head)
	require.NoError(t, err)
	require.Equal(t, next.Revision, <-seen)
}

// TestWatchHandover has one writer and one watcher in turns: each waits for what the other has written, so a wake-up
// that is missed would stop both.
func TestWatchHandover(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	first := open(t, dsn, schema)
	h, err := storetest.CommitOne(t.Context(), first, head("a"))
	require.NoError(t, err)
	const turns = 10
	other := open(t, dsn, schema)
	done := make(chan error, 1)
	play := func(s *mysql.Store, h store.Record, mine bool) error {
		for n := 0; n < turns; mine = !mine {
			var err error
			if mine {
				h.State = fmt.Sprint(n)
				h, err = storetest.CommitOne(ctx, s, h)
				n++
			} else {
				h, err = s.Watch(ctx, h.Key, h.Revision)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	go func() { done <- play(other, h, false) }()
	require.NoError(t, play(first, h, true))
	require.NoError(t, <-done)
}
