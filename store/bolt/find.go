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
	err := s.view(ctx, func(tx *bbolt.Tx) error {
		p := newPages(s.file.handle, tx)
		prefixes, err := p.bucket(tx, bucketPrefixes)
		if err != nil {
			return err
		}
		name, ok, err := longest(prefixes.cursor(), pool, addr.WithZone(""))
		switch {
		case err != nil:
			return err
		case !ok:
			return fmt.Errorf("%w: no allocation of pool %q contains %v", store.ErrNotFound, pool, addr)
		}
		key.Name = name
		records, err := p.bucket(tx, bucketRecords)
		if err != nil {
			return err
		}
		value, err := records.get(encodeKey(key))
		switch {
		case err != nil:
			return err
		case value == nil:
			return fmt.Errorf("%w: the index has %v at record %v, which does not exist", ErrCorrupt, addr, key)
		}
		record, err = decodeRecord(key, value)
		return err
	})
	return record, err
}

// longest returns the name of an allocation of pool that has the longest prefix which contains addr. The index has
// long prefixes before short ones, so it goes from one length that occurs to the next.
func longest(cursor *cursor, pool string, addr netip.Addr) (name string, ok bool, err error) {
	if !addr.IsValid() || addr.Is4In6() {
		return "", false, nil
	}
	family := indexFamily(pool, addr)
	key, _, err := cursor.seek(family)
	for err == nil && bytes.HasPrefix(key, family) && len(key) > len(family) {
		bits := indexBits - int(key[len(family)])
		p, err := addr.Prefix(bits)
		if err != nil {
			return "", false, fmt.Errorf("%w: the index by prefix has %d bits for %v", ErrCorrupt, bits, addr)
		}
		want := indexPrefix(pool, p)
		if key, _, err = cursor.seek(want); err != nil {
			return "", false, err
		}
		if bytes.HasPrefix(key, want) {
			return string(key[len(want):]), true, nil
		}
		next := append(bytes.Clone(family), want[len(family)]+1)
		if key, _, err = cursor.seek(next); err != nil {
			return "", false, err
		}
	}
	return "", false, err
}

// indexBits is what the index subtracts prefix lengths from.
const indexBits = 128

// indexHeader is how many bytes of a key of the index are between the pool's name and the address.
const indexHeader = 3

// indexFamily returns what the index keys of the pool's prefixes of addr's family begin with.
func indexFamily(pool string, addr netip.Addr) []byte { return appendFamily(nil, pool, addr) }

func appendFamily(b []byte, pool string, addr netip.Addr) []byte {
	family := byte('6')
	if addr.Is4() {
		family = '4'
	}
	return append(append(b, pool...), 0, family)
}

// indexPrefix returns what the index keys of all records of pool with prefix p begin with.
func indexPrefix(pool string, p netip.Prefix) []byte { return encodeIndex(store.Key{Pool: pool}, p) }

// encodeIndex returns the index key for prefix p of the record under key.
func encodeIndex(key store.Key, p netip.Prefix) []byte {
	text := make([]byte, 0, len(key.Pool)+indexHeader+p.Addr().BitLen()/8+len(key.Name))
	text = append(appendFamily(text, key.Pool, p.Addr()), byte(indexBits-p.Bits()))
	text, _ = p.Addr().AppendBinary(text)
	return append(text, key.Name...)
}
