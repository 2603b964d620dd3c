package store_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// plain is a driver whose backend has no index and no notification.
type plain struct{ store.Store }

func (p plain) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiryFromList(ctx, p.List, kind, pool)
}

func (p plain) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	return store.FindByList(ctx, p.List, pool, addr)
}

func (p plain) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	return store.WatchByPolling(ctx, p.Get, key, revision, time.Millisecond)
}

// TestPlainDriverConforms runs the suite over what the functions of this package make of a list and a read.
func TestPlainDriverConforms(t *testing.T) {
	storetest.Run(t, func(testing.TB) storetest.Backend {
		shared := store.NewMemory()
		return storetest.Backend{
			Open: func(context.Context) (store.Store, error) { return plain{shared.Open()}, nil },
		}
	})
}

// TestPollingKeepsToItsInterval counts the reads of a minute, and has an error of a read end it.
func TestPollingKeepsToItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reads, broken := 0, errors.New("broken")
		get := func(_ context.Context, key store.Key) (store.Record, error) {
			if reads++; reads > 61 {
				return store.Record{}, broken
			}
			return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
		}
		begin, key := time.Now(), store.Key{Kind: store.KindPool, Pool: "lab"}
		ctx, cancel := context.WithTimeout(t.Context(), 30500*time.Millisecond)
		defer cancel()
		_, err := store.WatchByPolling(ctx, get, key, 0, time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 31, reads)
		_, err = store.WatchByPolling(t.Context(), get, key, 0, time.Second)
		require.ErrorIs(t, err, broken)
		require.Equal(t, 60500*time.Millisecond, time.Since(begin))
		_, err = store.WatchByPolling(t.Context(), store.NewMemory().Get, key, 7, time.Second)
		require.ErrorIs(t, err, store.ErrNotFound)
	})
}
