package pool

import (
	"context"
	"errors"
	"iter"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

type severalStore interface {
	store.Store
	store.SeveralCommitter
}

func several(s store.Store) severalStore {
	if native, ok := s.(severalStore); ok {
		return native
	}
	return shim{s}
}

type shim struct{ store.Store }

func (s shim) CommitSeveral(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	var heads []store.Record
	for _, c := range changes {
		head, err := s.Commit(ctx, c.Head, c.Writes)
		if err != nil {
			return nil, errors.Join(err)
		}
		heads = append(heads, head)
	}
	return heads, nil
}

func (s shim) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	return store.Find(ctx, s.Store, pool, addr)
}

func (s shim) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiry(ctx, s.Store, kind, pool)
}
