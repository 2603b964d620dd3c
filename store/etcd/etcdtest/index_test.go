package etcdtest_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func parsePrefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func head(pool string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindPool, Pool: pool}}
}

func claim(name string, prefixes ...string) store.Record {
	r := store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "a", Name: name}, State: "allocated"}
	for _, p := range prefixes {
		r.Prefixes = append(r.Prefixes, parsePrefix(p))
	}
	return r
}

// lease is a claim of an address and a prefix that expires at a second. Most have labels, of which some are those of
// others.
func lease(name string, second int) store.Record {
	r := claim(name, fmt.Sprintf("10.0.0.%d/32", second), fmt.Sprintf("fd00:0:0:%d::/64", second))
	r.Expires = time.Date(2024, 1, 1, 0, 0, second, 0, time.UTC)
	if second%4 != 0 {
		r.Labels = map[string]string{"node": fmt.Sprint("n", second%3), "k8s.io/pod": fmt.Sprint("a ", second%5)}
	}
	return r
}

func create(r store.Record) store.Write { return store.Write{Op: store.Create, Record: r} }

func put(r store.Record) store.Write { return store.Write{Op: store.Put, Record: r} }

func remove(name string) store.Write { return store.Write{Op: store.Delete, Record: claim(name)} }

// dump returns all keys with a prefix, and their values.
func dump(t testing.TB, s *server, prefix string) map[string]string {
	t.Helper()
	response, err := connect(t, clientConfig(s.addr)).Get(t.Context(), prefix, clientv3.WithPrefix())
	require.NoError(t, err)
	all := make(map[string]string, len(response.Kvs))
	for _, kv := range response.Kvs {
		all[string(kv.Key)] = string(kv.Value)
	}
	return all
}

// requireExactIndexes checks that the indexes under prefix have what the records say, and nothing else.
func requireExactIndexes(t testing.TB, s *server, prefix string) {
	t.Helper()
	want, got, records := map[string]string{}, map[string]string{}, 0
	for key, value := range dump(t, s, prefix) {
		rest, isRecord := strings.CutPrefix(key, prefix+"records/")
		if !isRecord {
			if key != prefix+"revision" && !strings.HasPrefix(key, prefix+"answers/") { // which have leases
				got[key] = value
			}
			continue
		}
		records++
		parts := strings.Split(rest, "/")
		require.Len(t, parts, 3)
		var r struct {
			Prefixes []string
			Labels   map[string]string
			Expires  time.Time
		}
		require.NoError(t, json.Unmarshal([]byte(value), &r))
		for _, p := range r.Prefixes {
			if parts[0] == "allocation" {
				want[prefix+"prefixes/"+parts[1]+"/"+p+"/"+parts[2]] = ""
			}
		}
		for label, value := range r.Labels {
			escape := strings.NewReplacer("/", "%2F", " ", "%20").Replace
			want[prefix+"labels/"+parts[0]+"/"+parts[1]+"/"+escape(label)+"/"+escape(value)+"/"+parts[2]] = ""
		}
		if !r.Expires.IsZero() {
			want[prefix+"expiry/"+parts[0]+"/"+parts[1]+"/"+r.Expires.Format("2006-01-02T15:04:05.000000Z")+"/"+parts[2]] = value
		}
	}
	require.Positive(t, records)
	require.Equal(t, want, got)
}

// TestIndexesUnderRaces has handles, which remember too little and too much, change the same records under heads of
// their own: no head guards these records. The indexes must be exact all the same.
func TestIndexesUnderRaces(t *testing.T) {
	server := startServer(t)
	const writers, commits, names = 6, 60, 5
	var all sync.WaitGroup
	for w := range writers {
		s := openStore(t, server.addr)
		all.Go(func() {
			h, random := head(fmt.Sprint("writer ", w)), rand.New(rand.NewPCG(uint64(w), 1))
			for range commits {
				var writes []store.Write
				for _, i := range random.Perm(names)[:2] {
					if random.IntN(3) == 0 {
						writes = append(writes, remove(fmt.Sprint(i)))
					} else {
						writes = append(writes, put(lease(fmt.Sprint(i), random.IntN(60))))
					}
				}
				next, err := storetest.CommitOne(t.Context(), s, h, writes...)
				if err != nil {
					t.Errorf("commit: %v", err)
					return
				}
				h = next
			}
		})
	}
	all.Wait()
	requireExactIndexes(t, server, "/ipalloc/")
}

// TestManyPrefixes keeps a record that has more prefixes than a transaction has operations.
func TestManyPrefixes(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	ctx := t.Context()
	many := claim("many")
	addr := netip.MustParseAddr("10.0.0.0")
	for range 3000 {
		many.Prefixes = append(many.Prefixes, netip.PrefixFrom(addr, 32))
		addr = addr.Next()
	}
	many.Prefixes = append(many.Prefixes, many.Prefixes[0]) // twice
	h, err := storetest.CommitOne(ctx, s, head("a"), create(many), create(claim("one", "10.0.0.0/8")))
	require.NoError(t, err)
	requireExactIndexes(t, server, "/ipalloc/")
	for _, addr := range []string{"10.0.0.0", "10.0.11.183", "10.0.11.184"} {
		want := "many"
		if addr == "10.0.11.184" {
			want = "one"
		}
		got, err := s.Find(ctx, "a", netip.MustParseAddr(addr))
		require.NoError(t, err)
		require.Equal(t, want, got.Name)
		require.Equal(t, h.Revision, got.Revision)
	}
	_, err = storetest.CommitOne(ctx, openStore(t, server.addr), h, remove("many"))
	require.NoError(t, err)
	requireExactIndexes(t, server, "/ipalloc/")
	require.Len(t, dump(t, server, "/ipalloc/"), 3)
}

// TestKeys shows the layout, with names that need escapes.
func TestKeys(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	r := lease("ns/pod \"7\"\n100% Übung 日本", 5)
	r.Pool = "a/b"
	_, err := storetest.CommitOne(t.Context(), s, head("a/b"), create(r))
	require.NoError(t, err)
	name := "ns%2Fpod%20\"7\"%0A100%25%20Übung%20日本"
	keys := dump(t, server, "/")
	require.ElementsMatch(t, []string{
		"/ipalloc/records/pool/a%2Fb/",
		"/ipalloc/records/allocation/a%2Fb/" + name,
		"/ipalloc/prefixes/a%2Fb/10.0.0.5/32/" + name,
		"/ipalloc/prefixes/a%2Fb/fd00:0:0:5::/64/" + name,
		"/ipalloc/labels/allocation/a%2Fb/node/n2/" + name,
		"/ipalloc/labels/allocation/a%2Fb/k8s.io%2Fpod/a%200/" + name,
		"/ipalloc/expiry/allocation/a%2Fb/2024-01-01T00:00:05.000000Z/" + name,
	}, slices.Collect(maps.Keys(keys)))
	require.JSONEq(t, `{
		"name": "ns/pod \"7\"\n100% Übung 日本", "state": "allocated",
		"prefixes": ["10.0.0.5/32", "fd00:0:0:5::/64"], "labels": {"node": "n2", "k8s.io/pod": "a 0"},
		"expires": "2024-01-01T00:00:05Z"
	}`, keys["/ipalloc/records/allocation/a%2Fb/"+name])
}
