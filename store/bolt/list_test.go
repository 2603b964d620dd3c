package bolt_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// A list copies the records of a page at once, so a record takes its name, its prefixes and little more.
func TestHeapAllocationsOfAList(t *testing.T) {
	const n = 4_000
	p, s, _ := newPool(t)
	doEach(t, p, steps(0, n, 1, claim))
	each := testing.AllocsPerRun(3, func() {
		listed := 0
		for _, err := range s.List(t.Context(), store.KindAllocation, "pods") {
			require.NoError(t, err)
			listed++
		}
		require.Equal(t, n, listed)
	}) / n
	t.Log(each, "heap allocations a record")
	require.LessOrEqual(t, each, 6.0)
}

// What was read stays as it was when the memory of its pages serves other transactions.
func TestRecordsOutliveTheirPages(t *testing.T) {
	s, err := bolt.Open(t.Context(), filepath.Join(t.TempDir(), "ipalloc.db"), nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "p"}}
	commit := func(fill string) (keys []store.Key) {
		var writes []store.Write
		for i := range 200 {
			key := store.Key{Kind: store.KindAllocation, Pool: "p", Name: owner(i)}
			keys = append(keys, key)
			record := store.Record{
				Key: key, State: "state-" + fill, Data: []byte(`"` + fill + `"`),
				Prefixes: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 32)},
			}
			if i%2 == 0 { // which are read in another way
				record.Labels = map[string]string{fill: fill}
			}
			writes = append(writes, store.Write{Op: store.Put, Record: record})
		}
		heads, err := s.Commit(t.Context(), store.Change{Head: head, Writes: writes})
		require.NoError(t, err)
		head = heads[0]
		return keys
	}
	keys := commit("aaaa")
	read, err := s.GetAll(t.Context(), keys...)
	require.NoError(t, err)
	var listed []store.Record
	for r, err := range s.List(t.Context(), store.KindAllocation, "p") {
		require.NoError(t, err)
		listed = append(listed, r)
	}
	require.Equal(t, read, listed)
	before := fmt.Sprint(read, listed)
	for range 3 {
		commit("bbbb")
		_, err = s.GetAll(t.Context(), keys...)
		require.NoError(t, err)
	}
	require.Equal(t, before, fmt.Sprint(read, listed))
}
