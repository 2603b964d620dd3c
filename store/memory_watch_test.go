package store_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestMemoryWatch looks at each moment at which calls wait, which a test within a bubble can see.
func TestMemoryWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, s := t.Context(), store.NewMemory()
		other := s.Open()
		key := store.Key{Kind: store.KindPool, Pool: "a"}
		aside := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "b"}}
		var results sync.Map
		watch := func(name string, ctx context.Context, s *store.Memory, revision int64) {
			go func() {
				r, err := s.Watch(ctx, key, revision)
				if err == nil {
					err = errors.New("changed")
				}
				results.Store(name, [2]any{r.Revision, err.Error()})
			}()
			synctest.Wait()
		}
		ended := func(name string) any {
			synctest.Wait()
			result, _ := results.Load(name)
			return result
		}
		leaving, leave := context.WithCancel(ctx)
		watch("one", ctx, s, 0)
		watch("two", ctx, other, 0)
		watch("left", leaving, s, 0)
		leave()
		require.Equal(t, [2]any{int64(0), "in-memory store: watch pool/a: context canceled"}, ended("left"))
		_, err := storetest.CommitOne(ctx, s, aside, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
		require.NoError(t, err)
		require.Nil(t, ended("one"), "nothing has changed")

		head, err := storetest.CommitOne(ctx, s, store.Record{Key: key})
		require.NoError(t, err)
		require.Equal(t, [2]any{head.Revision, "changed"}, ended("one"))
		require.Equal(t, [2]any{head.Revision, "changed"}, ended("two"))
		watch("late", ctx, s, 0)
		require.Equal(t, [2]any{head.Revision, "changed"}, ended("late"))

		watch("delete", ctx, s, head.Revision)
		watch("closed", ctx, other, head.Revision)
		require.NoError(t, other.Close())
		require.Equal(t, [2]any{int64(0), store.ErrClosed.Error()}, ended("closed"))
		require.Nil(t, ended("delete"), "another handle was closed")
		_, err = storetest.CommitOne(ctx, s, head, store.Write{Op: store.Delete, Record: store.Record{Key: key}})
		require.NoError(t, err)
		require.Equal(t, [2]any{int64(0), "not found: pool/a"}, ended("delete"))
	})
}
