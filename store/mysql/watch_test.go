package mysql_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
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
	o := tests.NewOutage(t, 4)
	result := make(chan error, 1)
	go func() {
		_, err := o.Through.Watch(t.Context(), o.Head.Key, o.Head.Revision)
		result <- err
	}()
	time.Sleep(20 * time.Millisecond)
	o.Proxy.Refuse()
	o.Proxy.Cut()
	err := <-result
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrClosed)
	o.Proxy.Heal()
	seen := make(chan int64, 1)
	go func() {
		r, err := o.Through.Watch(t.Context(), o.Head.Key, o.Head.Revision)
		if err != nil {
			t.Error(err)
		}
		seen <- r.Revision
	}()
	next, err := storetest.CommitOne(t.Context(), o.Direct, o.Head)
	require.NoError(t, err)
	require.Equal(t, next.Revision, <-seen)
}

func TestWatchHandover(t *testing.T) { tests.WatchHandover(t, 10) }
