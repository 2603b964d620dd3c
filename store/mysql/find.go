package mysql

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
)

// Find implements [store.Store]. Cost: one round trip, and two look-ups in indexes.
func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	if err := (store.Key{Kind: store.KindAllocation, Pool: pool}).Validate(); err != nil {
		return store.Record{}, err
	}
	if err := s.begin(ctx); err != nil {
		return store.Record{}, s.wrap(err)
	}
	none := fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
	if !addr.IsValid() || addr.Is4In6() {
		return store.Record{}, s.wrap(none)
	}
	family, at := 6, hexOf(addr)
	if addr.Is4() {
		family = 4
	}
	all, err := s.query(ctx, s.sql.find, pool, family, at, at)
	switch {
	case err != nil:
		return store.Record{}, s.wrap(fmt.Errorf("find %v in pool %q: %w", addr, pool, err))
	case len(all) == 0:
		return store.Record{}, s.wrap(none)
	}
	return all[0], nil
}
