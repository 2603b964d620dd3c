package bolt

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
)

// Find implements [store.Store]. Cost: two look-ups for each prefix length that the pool's allocations have.
func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	key := store.Key{Kind: store.KindAllocation, Pool: pool}
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	var record store.Record
	err := s.view(ctx, func(tx *bbolt.Tx) (err error) {
		name, ok := longest(tx.Bucket([]byte(bucketPrefixes)).Cursor(), pool, addr.WithZone(""))
		if !ok {
			return fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
		}
		key.Name = name
		value := tx.Bucket([]byte(bucketRecords)).Get(encodeKey(key))
		if value == nil {
			return fmt.Errorf("%w: the index has %v at record %v, which does not exist", ErrCorrupt, addr, key)
		}
		record, err = decodeRecord(key, value)
		return err
	})
	return record, err
}

// longest returns the name of an allocation of pool that has the longest prefix which contains addr. The index has
// long prefixes before short ones, so it goes from one length that occurs to the next.
func longest(cursor *bbolt.Cursor, pool string, addr netip.Addr) (name string, ok bool) {
	if !addr.IsValid() || addr.Is4In6() {
		return "", false
	}
	family := indexFamily(pool, addr)
	key, _ := cursor.Seek(family)
	for bytes.HasPrefix(key, family) && len(key) > len(family) {
		p, err := addr.Prefix(indexBits - int(key[len(family)]))
		if err != nil {
			return "", false
		}
		want := indexPrefix(pool, p)
		if key, _ = cursor.Seek(want); bytes.HasPrefix(key, want) {
			return string(key[len(want):]), true
		}
		next := append(bytes.Clone(family), want[len(family)]+1)
		key, _ = cursor.Seek(next)
	}
	return "", false
}

// indexBits is what the index subtracts prefix lengths from.
const indexBits = 128

// indexFamily returns what the index keys of the pool's prefixes of addr's family begin with.
func indexFamily(pool string, addr netip.Addr) []byte {
	family := byte('6')
	if addr.Is4() {
		family = '4'
	}
	return append([]byte(pool), 0, family)
}

// indexPrefix returns what the index keys of all records of pool with prefix p begin with.
func indexPrefix(pool string, p netip.Prefix) []byte {
	key := append(indexFamily(pool, p.Addr()), byte(indexBits-p.Bits()))
	return append(key, p.Addr().AsSlice()...)
}

// encodeIndex returns the index key for prefix p of the record under key.
func encodeIndex(key store.Key, p netip.Prefix) []byte {
	return append(indexPrefix(key.Pool, p), key.Name...)
}
