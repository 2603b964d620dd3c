package pool_test

import (
	"context"

	"github.com/ipalloc/ipalloc/store"
)

// tooLarge is a store that takes no more than so many writes in one commit.
type tooLarge struct {
	store.Store
	limit   int
	commits int
}

func (s *tooLarge) Commit(ctx context.Context, head store.Record, writes []store.Write) (store.Record, error) {
	if len(writes) > s.limit {
		return store.Record{}, &store.TooLargeError{What: "writes", Size: int64(len(writes)), Limit: int64(s.limit)}
	}
	s.commits++
	return s.Store.Commit(ctx, head, writes)
}
