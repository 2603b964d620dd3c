package store

import (
	"context"
	"fmt"
	"net/netip"
)

// Finder is implemented by a [Store] that keeps an index of [Record.Prefixes]. Use it through [Find].
type Finder interface {
	// Find returns the record of [KindAllocation] in pool with the longest prefix that contains addr (of
	// several with that prefix, any), or an error that wraps [ErrNotFound]. It is as fresh as [Store.Get],
	// and returns the same errors.
	//
	// The zero Addr and 4in6 addresses are in no prefix; addr has no zone.
	Find(ctx context.Context, pool string, addr netip.Addr) (Record, error)
}

// Find returns the record of [KindAllocation] in pool with the longest prefix that contains addr (of several
// with that prefix, any), or an error that wraps [ErrNotFound]. A store that implements [Finder] answers
// from its index; of any other, Find lists the pool's allocations, which costs O(allocations).
//
// The zero Addr and 4in6 addresses are in no prefix; a zone is ignored.
func Find(ctx context.Context, s Store, pool string, addr netip.Addr) (Record, error) {
	if err := (Key{Kind: KindAllocation, Pool: pool}).Validate(); err != nil {
		return Record{}, err
	}
	addr = addr.WithZone("")
	if finder, ok := s.(Finder); ok {
		return finder.Find(ctx, pool, addr)
	}
	if addr.Is4In6() {
		addr = netip.Addr{}
	}
	best, found := -1, Record{}
	for record, err := range s.List(ctx, KindAllocation, pool) {
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

// NotInPool returns the error, which wraps [ErrNotFound], of a [Finder] that finds no allocation with addr in
// pool.
func notInPool(pool string, addr netip.Addr) error {
	return fmt.Errorf("%w: no allocation of pool %q contains %v", ErrNotFound, pool, addr)
}
