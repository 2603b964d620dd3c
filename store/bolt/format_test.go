package bolt_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// contents returns what the closed file holds, by bucket and key.
func contents(t testing.TB, path string) map[string]map[string]string {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: time.Second})
	require.NoError(t, err)
	defer db.Close()
	all := map[string]map[string]string{}
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		spare := map[string]bool{}
		if b := tx.Bucket([]byte("spare")); b != nil {
			require.NoError(t, b.ForEach(func(_, text []byte) error {
				var entry []uint64
				require.NoError(t, json.Unmarshal(text, &entry))
				for _, page := range entry {
					problem := fmt.Sprintf("page %d: unreachable unfreed", page)
					require.False(t, spare[problem], "%d is spare twice", page)
					spare[problem] = true
				}
				return nil
			}))
		}
		for problem := range tx.Check() {
			require.True(t, spare[problem.Error()], "%v", problem)
			delete(spare, problem.Error())
		}
		require.Empty(t, spare, "pages that are in use or free")
		return tx.ForEach(func(name []byte, b *bbolt.Bucket) error {
			in := map[string]string{}
			all[string(name)] = in
			return b.ForEach(func(key, value []byte) error {
				in[string(key)] = string(value)
				return nil
			})
		})
	}))
	return all
}

// TestFormat fails when files that exist could not be read any more, or would not be readable by people.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	head := store.Record{
		Key: store.Key{Kind: store.KindPool, Pool: "lab"}, Data: json.RawMessage(`{ "ranges": "<10.0.0.0/24>" }`),
	}
	head, err = storetest.CommitOne(t.Context(), s, head)
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Create, Record: store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("2001:db8::/64")},
		Labels:   map[string]string{"node": "n1", "pod": "<a>"},
		Created:  time.Date(2024, 5, 6, 7, 8, 9, 12_345_678, time.UTC),
		Expires:  time.Date(2024, 5, 6, 8, 8, 9, 0, time.UTC),
	}})
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.Equal(t, map[string]map[string]string{
		"ipalloc": {"name": "ipalloc store", "version": "1"},
		"records": {
			"pool\x00lab\x00": `{"revision":2,"data":{"ranges":"<10.0.0.0/24>"}}`,
			"allocation\x00lab\x00vm-1": `{"revision":2,"state":"allocated",` +
				`"prefixes":["10.0.0.5/32","2001:db8::/64"],"labels":{"node":"n1","pod":"<a>"},` +
				`"created":"2024-05-06T07:08:09.012345Z","expires":"2024-05-06T08:08:09Z"}`,
		},
		"pieces": {},
		"prefixes": {
			"lab\x004\x60\x0a\x00\x00\x05vm-1":                                 "10.0.0.5/32",
			"lab\x006\x40\x20\x01\x0d\xb8" + string(make([]byte, 12)) + "vm-1": "2001:db8::/64",
		},
		"labels": {"allocation\x00lab\x00node\x00n1\x00vm-1": "", "allocation\x00lab\x00pod\x00<a>\x00vm-1": ""},
		"expiry": {
			"allocation\x00lab\x00\x00\xe2\xd7\xc3\x91\x10\xcc\x40vm-1": "2024-05-06T08:08:09Z",
		},
	}, contents(t, path))
}

// TestIndexFollowsRecords changes records at random, and compares the index with what the records say.
func TestIndexFollowsRecords(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := bolt.Open(t.Context(), path, nil)
	require.NoError(t, err)
	head, random := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "a"}}, rand.New(rand.NewPCG(3, 3))
	for range 300 {
		r := store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: fmt.Sprint(random.IntN(20))}}
		for range random.IntN(4) {
			bits := 30 + random.IntN(3)
			r.Prefixes = append(r.Prefixes,
				netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(random.IntN(16))}), bits).Masked())
		}
		for _, name := range []string{"node", "pod"}[:random.IntN(3)] {
			r.Labels = map[string]string{name: fmt.Sprint(random.IntN(3))}
		}
		if random.IntN(2) == 0 {
			r.Expires = time.UnixMicro(random.Int64N(50))
		}
		head, err = storetest.CommitOne(t.Context(), s, head,
			store.Write{Op: []store.Op{store.Put, store.Put, store.Delete}[random.IntN(3)], Record: r})
		require.NoError(t, err)
	}
	want, wantExpiry, wantLabels := map[string]bool{}, map[string]bool{}, map[string]string{}
	for r, err := range s.List(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		for _, p := range r.Prefixes {
			want[fmt.Sprint(p, " ", r.Name)] = true
		}
		for name, value := range r.Labels {
			wantLabels["allocation\x00a\x00"+name+"\x00"+value+"\x00"+r.Name] = ""
		}
		if !r.Expires.IsZero() {
			wantExpiry[r.Expires.Format(time.RFC3339Nano)+" "+r.Name] = true
		}
	}
	require.NoError(t, s.Close())
	got := map[string]bool{}
	for key, value := range contents(t, path)["prefixes"] {
		got[value+" "+key[len("a\x004\x60\x0a\x00\x00\x00"):]] = true
	}
	require.NotEmpty(t, want)
	require.Equal(t, want, got)
	gotExpiry := map[string]bool{}
	for key, value := range contents(t, path)["expiry"] {
		gotExpiry[value+" "+key[len("allocation\x00a\x0012345678"):]] = true
	}
	require.NotEmpty(t, wantExpiry)
	require.Equal(t, wantExpiry, gotExpiry)
	require.NotEmpty(t, wantLabels)
	require.Equal(t, wantLabels, contents(t, path)["labels"])
}
