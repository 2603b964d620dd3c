package store

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
)

// FindByList is [Store.Find] for a driver without an index of prefixes. The argument list is the driver's own
// [Store.List]:
//
//	func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
//		return store.FindByList(ctx, s.List, pool, addr)
//	}
//
// Cost: it lists the pool's allocations, and keeps one of them in memory.
func FindByList(ctx context.Context, list func(context.Context, Kind, string) iter.Seq2[Record, error],
	pool string, addr netip.Addr,
) (Record, error) {
	if err := (Key{Kind: KindAllocation, Pool: pool}).Validate(); err != nil {
		return Record{}, err
	}
	addr = searched(addr)
	best, found := -1, Record{}
	for record, err := range list(ctx, KindAllocation, pool) {
		if err != nil {
			return Record{}, err
		}
		for _, p := range record.Prefixes {
			if p.Contains(addr) && p.Bits() > best {
				best, found = p.Bits(), record
			}
		}
	}
	if best < 0 {
		return Record{}, notInPool(pool, addr)
	}
	return found, nil
}

// searched returns addr as prefixes contain it: without its zone, and the zero Addr, which is in none, for
// one that is 4in6.
func searched(addr netip.Addr) netip.Addr {
	if addr.Is4In6() {
		return netip.Addr{}
	}
	return addr.WithZone("")
}

// notInPool returns the error, which wraps [ErrNotFound], of a search that finds no allocation with addr in
// pool.
func notInPool(pool string, addr netip.Addr) error {
	return fmt.Errorf("%w: no allocation of pool %q contains %v", ErrNotFound, pool, addr)
}
