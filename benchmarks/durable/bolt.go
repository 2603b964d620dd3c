package durable

import (
	"context"
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// lockWait is how long a process waits for a file that another one has open.
const lockWait = 5 * time.Minute

func ipallocBolt() Kind {
	k := Kind{Name: "ipalloc on bolt", Note: "one transaction a commit, synced", OneAtATime: true, Prepare: inFolder}
	k.Size = func(_ context.Context, address string) (int64, error) {
		file, err := os.Stat(boltFile(address))
		if err != nil {
			return 0, err
		}
		return file.Size(), nil
	}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		return bolt.Open(ctx, boltFile(address), &bolt.Options{LockWait: lockWait})
	})
}

func boltFile(address string) string { return filepath.Join(address, "ipalloc.db") }

func bareBolt() Kind {
	return Kind{
		Name: "bare bbolt", Module: "go.etcd.io/bbolt", Floor: true, Grows: true, OneAtATime: true,
		Note:    "no allocator: one value of 200 bytes put, or deleted, in one synced transaction",
		Prepare: inFolder, Open: openBareBolt,
	}
}

type bareBoltFile struct {
	db    *bbolt.DB
	first uint32
	calls atomic.Uint32
	swaps int
}

const bareBucket = "records"

func openBareBolt(_ context.Context, address string, prefix netip.Prefix) (Pool, error) {
	db, err := bbolt.Open(filepath.Join(address, "bare.db"), 0o600, &bbolt.Options{Timeout: lockWait})
	if err != nil {
		return nil, err
	}
	first := prefix.Addr().As4()
	b := &bareBoltFile{db: db, first: binary.BigEndian.Uint32(first[:])}
	return b, b.put()
}

// put puts the keys in one transaction.
func (b *bareBoltFile) put(keys ...string) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket, err := tx.CreateBucketIfNotExists([]byte(bareBucket))
		for i := 0; i < len(keys) && err == nil; i++ {
			err = bucket.Put([]byte(keys[i]), make([]byte, 200))
		}
		return err
	})
}

// Allocate returns the number of the call as an address.
func (b *bareBoltFile) Allocate(_ context.Context, owner string) (netip.Addr, error) {
	var addr [4]byte
	binary.BigEndian.PutUint32(addr[:], b.first+b.calls.Add(1))
	return netip.AddrFrom4(addr), b.put(owner)
}

func (b *bareBoltFile) Release(_ context.Context, owner string) error {
	return b.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte(bareBucket)).Delete([]byte(owner)) })
}

func (b *bareBoltFile) Fill(_ context.Context, owners []string) error {
	const atOnce = 250
	for i := 0; i < len(owners); i += atOnce {
		if err := b.put(owners[i:min(i+atOnce, len(owners))]...); err != nil {
			return err
		}
	}
	return nil
}

// Swap implements Swapper.
func (b *bareBoltFile) Swap(context.Context) error {
	return b.db.Update(func(tx *bbolt.Tx) error {
		bucket := tx.Bucket([]byte(bareBucket))
		if b.swaps > 0 && string(bucket.Get([]byte(swapOwner))) != swapValue(b.swaps) {
			return errSwapped
		}
		b.swaps++
		return bucket.Put([]byte(swapOwner), []byte(swapValue(b.swaps)))
	})
}

func (b *bareBoltFile) Close() error { return b.db.Close() }
