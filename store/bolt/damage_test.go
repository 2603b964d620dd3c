package bolt_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// What one use of a damaged file may cost: of a sound one it is under 1 MB and three commits.
const mostBytes, mostCommits = 4 << 20, 6

// TestFlippedBits flips single bits of a file with a pool, half of them in the headers of pages and elements, and uses
// the pool. Whatever comes of it, it takes little memory and few commits.
func TestFlippedBits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, _, p := openPool(t, path)
	for i := range 60 {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: pooltest.Owner(i)})
		require.NoError(t, err)
	}
	for i := range 10 {
		_, err := p.Release(t.Context(), pool.Held{Owner: pooltest.Owner(5 * i)})
		require.NoError(t, err)
	}
	require.NoError(t, s.Close())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)

	flips, page, random := 300, os.Getpagesize(), rand.New(rand.NewPCG(3, 4))
	if testing.Short() {
		flips = 100
	}
	refused := 0
	for i := range flips {
		at := random.IntN(8 * len(whole))
		if i%2 == 0 { // the header of a page, and the first elements
			at = random.IntN(len(whole)/page)*8*page + random.IntN(8*5*16)
		}
		damaged := bytes.Clone(whole)
		damaged[at/8] ^= 1 << (at % 8)
		if useFlipped(t, damaged, at) != nil {
			refused++
		}
	}
	t.Logf("%d of %d files were refused", refused, flips)
	require.Greater(t, refused, flips/10)
}

// useFlipped opens and uses a file of which the bit at is flipped, and returns the first error.
func useFlipped(t *testing.T, damaged []byte, at int) error {
	t.Helper()
	path := filepath.Join(t.TempDir(), "damaged.db")
	require.NoError(t, os.WriteFile(path, damaged, 0o600))
	defer os.Remove(path)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	commits, err := int64(0), errors.New("it did not return")
	filetest.Returns(t, "a call", func() { commits, err = usePool(t, path) })
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(mostBytes), "bit %d: %v", at, err)
	require.LessOrEqual(t, commits, int64(mostCommits), "bit %d: %v", at, err)
	return err
}

// usePool opens a file, reads and changes its pool, and closes it. It returns how many commits it took, and the first
// error.
func usePool(t *testing.T, path string) (commits int64, err error) {
	s, err := bolt.Open(t.Context(), path, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	counted := &filetest.Counting{Store: s}
	p, err := pool.Open(t.Context(), counted, pooltest.Name, nil)
	if err != nil {
		return 0, err
	}
	for _, listed := range p.Allocations(t.Context()) {
		err = errors.Join(err, listed)
	}
	_, allocated := p.Allocate(t.Context(), pool.Claim{Owner: "new"})
	_, renewed := p.Allocate(t.Context(), pool.Claim{Owner: pooltest.Owner(12)})
	_, released := p.Release(t.Context(), pool.Held{Owner: pooltest.Owner(33)})
	return counted.Commits.Load(), errors.Join(err, allocated, renewed, released)
}

// TestWrongNumbers changes one number in a page each, to what would make bbolt ask for gigabytes, or recurse without
// end. Open refuses what is wrong in the frame of the file, and reads nothing else. What is wrong with the records is
// refused by the calls that list them or change them all.
func TestWrongNumbers(t *testing.T) {
	_, whole := newFile(t)
	page := os.Getpagesize()
	native := binary.NativeEndian
	meta := whole[16:]
	if second := whole[page+16:]; native.Uint64(second[48:]) > native.Uint64(meta[48:]) {
		meta = second
	}
	root, free := int(native.Uint64(meta[16:]))*page, int(native.Uint64(meta[32:]))*page
	branch, leaf := pageOf(t, whole, 1), pageOf(t, whole, 2)
	change := func(at, size int, to uint64) []byte {
		damaged := bytes.Clone(whole)
		var number [8]byte
		native.PutUint64(number[:], to)
		copy(damaged[at:], number[:size])
		return damaged
	}
	element := func(of, i int) int { return of + 16 + 16*i }
	first := element(root, 0) // a bucket, whose value follows its key
	bucket := first + int(native.Uint32(whole[first+4:])) + int(native.Uint32(whole[first+8:]))
	last := element(leaf, int(native.Uint16(whole[leaf+10:]))-1)
	manyFree := change(free+10, 2, 0xFFFF)
	native.PutUint64(manyFree[free+16:], 1<<37)
	for name, damaged := range map[string][]byte{
		"number of a page":              change(leaf, 8, 77),
		"kind of a page":                change(leaf+8, 2, 4),
		"elements of a leaf":            change(leaf+10, 2, 0xFFF0),
		"elements of a branch":          change(branch+10, 2, 0),
		"pages that follow":             change(leaf+12, 4, 1<<30),
		"page that follows, used":       change(leaf+12, 4, 1),
		"place of a value":              change(element(leaf, 1)+4, 4, 1<<31),
		"size of a key":                 change(element(leaf, 1)+8, 4, 1<<30),
		"no key":                        change(element(leaf, 1)+8, 4, 0),
		"size of a value":               change(element(leaf, 1)+12, 4, 1<<30),
		"size of the value at the end":  change(last+12, 4, 1<<30),
		"flags of an element":           change(element(leaf, 1), 4, 6),
		"a value as a bucket":           change(element(leaf, 1), 4, 1),
		"a branch above itself":         change(element(branch, 1)+8, 8, uint64(branch/page)),
		"a branch above another's page": change(element(branch, 1)+8, 8, native.Uint64(whole[element(branch, 0)+8:])),
		"a page beyond the file":        change(element(branch, 1)+8, 8, 1<<40),
		"size of a key in a branch":     change(element(branch, 1)+4, 4, 1<<30),
		"keys out of order":             change(last+16, 1, 0xFF),
		"root of a bucket":              change(bucket, 8, 1<<50),
		"kind of the free list":         change(free+8, 2, 2),
		"free pages, more than a page":  change(free+10, 2, 0xFFF0),
		"free pages, very many":         manyFree,
		"a free page twice":             change(free+24, 8, native.Uint64(whole[free+16:])),
		"a free page beyond the file":   change(free+16, 8, 1<<37),
		"pages that follow a free list": change(free+12, 4, 1),
	} {
		t.Run(name, func(t *testing.T) {
			changed := 0
			for damaged[changed] == whole[changed] {
				changed++
			}
			at := changed / page * page
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			filetest.Returns(t, "a call", func() { refuseWrong(t, damaged, at == leaf) })
			runtime.ReadMemStats(&after)
			require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(mostBytes))
		})
	}
}

// refuseWrong opens and uses a damaged file. In the records, each call that meets the damage must refuse it.
func refuseWrong(t *testing.T, damaged []byte, inLeaf bool) {
	s := openDamaged(t, damaged)
	require.False(t, inLeaf && s == nil, "Open has read records")
	if s == nil {
		return
	}
	defer s.Close()
	var listed error
	for _, err := range s.List(t.Context(), store.KindAllocation, "") {
		listed = errors.Join(listed, err)
	}
	require.ErrorIs(t, listed, bolt.ErrCorrupt)
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}, Revision: 30}
	var writes []store.Write
	for i := range 30 {
		for j := range 20 {
			writes = append(writes, store.Write{Op: store.Delete, Record: store.Record{
				Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprint(i, "-", j)},
			}})
		}
	}
	_, err := storetest.CommitOne(t.Context(), s, head, writes...)
	require.ErrorIs(t, err, bolt.ErrCorrupt)
}

// TestDamageBesideRecord enlarges the size of a value. A commit that changes another record of its page must not copy
// it, and one that empties the page beside it must not either.
func TestDamageBesideRecord(t *testing.T) {
	_, whole := newFile(t)
	leaf := pageOf(t, whole, 2)
	native := binary.NativeEndian
	native.PutUint32(whole[leaf+16+16+12:], 1<<30)
	first := leaf + 16 + int(native.Uint32(whole[leaf+16+4:]))
	parts := bytes.Split(whole[first:first+int(native.Uint32(whole[leaf+16+8:]))], []byte{0})
	require.Len(t, parts, 3)
	for _, op := range []store.Op{store.Put, store.Delete} {
		s := openDamaged(t, whole)
		require.NotNil(t, s)
		head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}, Revision: 30}
		_, err := storetest.CommitOne(t.Context(), s, head, store.Write{Op: op, Record: store.Record{
			Key: store.Key{Kind: store.Kind(parts[0]), Pool: string(parts[1]), Name: string(parts[2])},
		}})
		require.ErrorIs(t, err, bolt.ErrCorrupt)
		require.NoError(t, s.Close())
	}
}

// pageOf returns where a page of that kind begins, which is in use.
func pageOf(t *testing.T, whole []byte, kind uint16) int {
	t.Helper()
	path := filepath.Join(t.TempDir(), "whole.db")
	require.NoError(t, os.WriteFile(path, whole, 0o600))
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	defer db.Close()
	found, page := 0, os.Getpagesize()
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		for at := 2 * page; at < len(whole); at += page {
			info, err := tx.Page(at / page)
			if err != nil || info == nil {
				return err
			}
			used := info.Type != "free"
			if used && binary.NativeEndian.Uint16(whole[at+8:]) == kind && binary.NativeEndian.Uint16(whole[at+10:]) > 4 {
				found = at
			}
		}
		return nil
	}))
	require.NotZero(t, found)
	return found
}

// TestSoundFiles opens and fills files of other shapes: small pages, nested buckets, values of many pages, and more
// free pages than fit the header of their list. Without a list, bbolt would search the whole file for free pages.
func TestSoundFiles(t *testing.T) {
	for _, options := range []*bbolt.Options{
		{PageSize: 1024, NoSync: true}, {NoSync: true}, {PageSize: 16384, NoSync: true},
		{NoFreelistSync: true, NoSync: true}, {PageSize: 1024, NoFreelistSync: true, NoSync: true},
	} {
		path := filepath.Join(t.TempDir(), "some.db")
		db, err := bbolt.Open(path, 0o600, options)
		require.NoError(t, err)
		require.NoError(t, db.Update(putFormat("ipalloc store", "1", "records", "pieces", "prefixes", "expiry", "labels")))
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucket([]byte("other"))
			if err != nil {
				return err
			}
			if _, err := bucket.CreateBucket([]byte("nested")); err != nil {
				return err
			}
			return bucket.Put([]byte("large"), make([]byte, 80<<20))
		}))
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("other")).Delete([]byte("large")) }))
		random := rand.New(rand.NewPCG(5, 6))
		for range 5 {
			require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return shuffle(tx.Bucket([]byte("other")), random) }))
		}
		require.NoError(t, db.Close())
		s, err := bolt.Open(t.Context(), path, nil)
		if options.NoFreelistSync {
			require.ErrorIs(t, err, bolt.ErrForeign)
			continue
		}
		require.NoError(t, err)
		shuffleRecords(t, s, random)
		require.NoError(t, s.Close())
	}
}

// shuffleRecords commits records of many sizes and deletes most of them, so that pages are split and joined.
func shuffleRecords(t *testing.T, s *bolt.Store, random *rand.Rand) {
	t.Helper()
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}
	stored := map[string]bool{}
	for round := range 40 {
		writes := map[string]store.Write{}
		for range 50 {
			name := fmt.Sprint(random.IntN(400))
			size := random.IntN(300) * random.IntN(10) * random.IntN(2)
			r := store.Record{
				Key:  store.Key{Kind: store.KindAllocation, Pool: "a", Name: name},
				Data: append(bytes.Repeat([]byte("1"), size), '1'),
			}
			op := store.Put
			if random.IntN(40) < round {
				op, r.Data = store.Delete, nil
			}
			writes[name] = store.Write{Op: op, Record: r}
		}
		for name, w := range writes {
			stored[name] = w.Op == store.Put
		}
		var err error
		head, err = storetest.CommitOne(t.Context(), s, head, slices.Collect(maps.Values(writes))...)
		require.NoError(t, err)
		listed, want := 0, 0
		for r, err := range s.List(t.Context(), store.KindAllocation, "a") {
			require.NoError(t, err)
			require.True(t, stored[r.Name])
			listed++
		}
		for _, is := range stored {
			if is {
				want++
			}
		}
		require.Equal(t, want, listed)
	}
}

// shuffle puts and deletes keys at random.
func shuffle(bucket *bbolt.Bucket, random *rand.Rand) error {
	for range 2000 {
		key := binary.BigEndian.AppendUint32(nil, random.Uint32N(3000))
		err := bucket.Put(key, make([]byte, random.IntN(300)*random.IntN(10)))
		if random.IntN(3) == 0 {
			err = bucket.Delete(key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// TestLowSequence sets back the number that the revisions come from: a revision must not be used twice.
func TestLowSequence(t *testing.T) {
	path, _ := newFile(t)
	db, err := bbolt.Open(path, 0o600, nil)
	require.NoError(t, err)
	require.NoError(t, db.Update(func(tx *bbolt.Tx) error { return tx.Bucket([]byte("records")).SetSequence(3) }))
	require.NoError(t, db.Close())
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "a"})
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), s, head)
	require.ErrorIs(t, err, bolt.ErrCorrupt)
}
