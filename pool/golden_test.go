package pool_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

var update = flag.Bool("update", false, "write the golden files of the present format")

// goldenFormat is the present format. With a new one, the files of the older ones stay, and are read as before.
const goldenFormat = 1

// goldenFile is the path of what format has stored, or exported.
func goldenFile(what string, format int) string {
	return filepath.Join("testdata", fmt.Sprintf("%s-%d.json", what, format))
}

// goldenRecord is a record in a golden file.
type goldenRecord struct {
	Kind     store.Kind        `json:"kind"`
	Pool     string            `json:"pool"`
	Name     string            `json:"name,omitempty"`
	Revision int64             `json:"revision"`
	State    string            `json:"state,omitempty"`
	Prefixes []netip.Prefix    `json:"prefixes,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Created  time.Time         `json:"created,omitzero"`
	Expires  time.Time         `json:"expires,omitzero"`
	Data     json.RawMessage   `json:"data,omitempty"`
}

func (g goldenRecord) record() store.Record {
	return store.Record{
		Key: store.Key{Kind: g.Kind, Pool: g.Pool, Name: g.Name}, Revision: g.Revision, State: g.State,
		Prefixes: g.Prefixes, Labels: g.Labels, Created: g.Created, Expires: g.Expires, Data: g.Data,
	}
}

func (g goldenRecord) isHead() bool { return g.Kind == store.KindPool || g.Kind == store.KindNetwork }

// goldenRecords are all records of a store, in the order of their keys.
func goldenRecords(t testing.TB, s store.Store) []goldenRecord {
	t.Helper()
	var all []goldenRecord
	for key, r := range allRecords(t, s) {
		all = append(all, goldenRecord{
			key.Kind, key.Pool, key.Name, r.Revision, r.State, r.Prefixes, r.Labels, r.Created, r.Expires, r.Data,
		})
	}
	slices.SortFunc(all, func(a, b goldenRecord) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return all
}

// goldenStore makes a store that has records of all kinds and in all states.
func goldenStore(t testing.TB) *store.Memory {
	t.Helper()
	g := &golden{t: t, memory: store.NewMemory(), clock: newManualClock()}
	g.everySetting()
	g.outOfRange()
	g.pieces()
	g.largeSpec()
	g.children()
	g.create("empty", pool.Spec{Families: []pool.Family{pool.IPv6}})
	g.history()
	g.sharing()
	g.renumbered()
	return g.memory
}

// golden is a store that is being filled.
type golden struct {
	t      testing.TB
	memory *store.Memory
	clock  *manualClock
}

func (g *golden) options() *pool.Options {
	return &pool.Options{Clock: g.clock.Now, Random: func() uint64 { return 7 }}
}

func (g *golden) create(name string, spec pool.Spec) *pool.Pool {
	p, err := pool.Create(g.t.Context(), g.memory, name, spec, g.options())
	require.NoError(g.t, err)
	return p
}

// history makes a pool that remembers who held what: with labels, a scope and a lease, in two families.
func (g *golden) history() {
	t := g.t
	spec := pool.Spec{Ranges: ranges("10.9.0.0/24", "2001:db8:9::/64"), History: time.Hour, HistoryMost: 100}
	p := g.create("remembering", spec)
	c := pool.Claim{
		Owner: "a/b", Policy: pool.RequireDualStack, TTL: time.Hour, Scope: "team-a",
		Labels: map[string]string{"pod": "web-0", "ipalloc.owner": "x"},
	}
	allocate(t, p, c)
	g.clock.Add(1500 * time.Millisecond)
	release(t, p, "a/b")
	allocate(t, p, pool.Claim{Owner: "c"})
	_, err := p.Decline(t.Context(), pool.Held{Owner: "c"}, time.Hour)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "present"})
}

// renumbered makes a pool that was renumbered once, and is being so again: with what was held before that, while it was
// going on, and afterwards.
func (g *golden) renumbered() {
	t := g.t
	p := g.create("renumbered", pool.Spec{Ranges: ranges("10.12.0.0/24", "2001:db8:a::/64"), History: time.Hour})
	allocate(t, p, pool.Claim{Owner: "dual", Policy: pool.RequireDualStack})
	g.clock.Add(time.Second)
	require.NoError(t, p.Renumber(t.Context(), prefix("2001:db8:a::/64"), prefix("2001:db8:b::/64")))
	g.clock.Add(time.Second)
	require.NoError(t, p.FinishRenumber(t.Context()))
	g.clock.Add(time.Second)
	require.NoError(t, p.Renumber(t.Context(), prefix("10.12.0.0/24"), prefix("10.13.0.0/24")))
	allocate(t, p, pool.Claim{Owner: "meanwhile"})
}

// sharing makes a pool in which three owners share a pair of addresses, of whom one has left again.
func (g *golden) sharing() {
	t := g.t
	p := g.create("shared", pool.Spec{Ranges: ranges("10.10.0.0/24", "2001:db8:10::/64"), History: time.Hour})
	c := pool.Claim{Policy: pool.RequireDualStack, Scope: "shop", Share: "web, \"ü\""}
	for _, owner := range []string{"shop/http", "shop/https", "shop/dns"} {
		c.Owner, c.Labels = owner, map[string]string{"service": owner}
		allocate(t, p, c)
		c.TTL += time.Hour
	}
	g.clock.Add(time.Second)
	release(t, p, "shop/https")
}

// everySetting makes a pool that has each setting of a spec, in a network with external ranges, in which each kind of
// allocation is held, cools down or is declined.
func (g *golden) everySetting() {
	t := g.t
	external := ranges("10.0.0.240-10.0.0.254", "2001:db8::ff")
	require.NoError(t, pool.SetExternal(t.Context(), g.memory, "lan", external, false, g.options()))
	spec := fullSpec()
	spec.Network = "lan"
	spec.IPv4 = pool.FamilySpec{MinBits: 26, MaxBits: 32, AllocateReserved: true}
	p := g.create("all", spec)
	holdSomeOfAll(t, &trial{Pool: p, clock: g.clock})
	team := func(c pool.Claim) pool.Claim { c.Scope = "team-a"; return c }
	allocate(t, p, team(pool.Claim{Owner: "<static> \"é\"", Requests: []pool.Request{{Band: "static"}}}))
	allocate(t, p, team(lease("renewed", time.Hour)))
	g.clock.Add(1500 * time.Millisecond)
	_, err := p.Renew(t.Context(), pool.Held{Owner: "renewed"}, 2*time.Hour)
	require.NoError(t, err)
	allocate(t, p, team(claim("declined", "10.0.0.110", "2001:db8::110")))
	_, err = p.Decline(t.Context(), pool.Held{Owner: "declined"}, time.Hour)
	require.NoError(t, err)
	g.clock.Add(time.Second)
	alive := []string{"leased", "renewed", "prefix", "released", "<static> \"é\""} // dual is missing
	reconcile(t, p, live(alive...), &pool.ReconcileOptions{Grace: time.Hour})
	allocate(t, p, team(claim("gone", "10.0.0.111")))
	release(t, p, "gone")
	reserve(t, p, team(claim("kept", "10.0.0.112")))
	reserve(t, p, team(claim("held and reserved", "10.0.0.113")))
	allocate(t, p, team(lease("held and reserved", time.Hour)))
	reserve(t, p, team(claim("reserved and declined", "10.0.0.114")))
	allocate(t, p, team(lease("reserved and declined", time.Hour)))
	_, err = p.Decline(t.Context(), pool.Held{Owner: "reserved and declined"}, time.Hour)
	require.NoError(t, err)
}

// outOfRange makes a pool that holds what it would not hand out any more: addresses, and a whole family.
func (g *golden) outOfRange() {
	t, spec := g.t, specOf("10.1.0.0/24", "2001:db8:1::/64")
	spec.Network, spec.Strategy = "lan", pool.RandomFree
	p := g.create("drained", spec)
	allocate(t, p, claim("outside", "10.1.0.200"))
	allocate(t, p, claim("other family", "2001:db8:1::1"))
	spec.Ranges = ranges("10.1.0.0/25")
	require.NoError(t, p.Drain(t.Context(), spec))
	allocate(t, p, claim("inside", "10.1.0.7"))
}

// pieces makes a pool whose free space stands in records of its own, with changes in the head.
func (g *golden) pieces() {
	t := g.t
	p := g.create("fragmented", specOf("10.2.0.0/16"))
	c := pool.Claim{Owner: "many"}
	for a, i := addr("10.2.0.1"), 0; i < 500; i++ {
		c.Requests = append(c.Requests, pool.ExactAddr(a))
		for range 3 + i*i%120 {
			a = a.Next()
		}
	}
	allocate(t, p, c)
	for i := range 3 {
		allocate(t, p, pool.Claim{Owner: fmt.Sprint("later ", i)})
	}
	release(t, p, "later 1")
}

// largeSpec makes a pool whose rules stand in a record of their own.
func (g *golden) largeSpec() {
	spec := everyAddress()
	for i := range 256 {
		spec.Ranges = append(spec.Ranges, ranges(fmt.Sprintf("10.3.%d.16-10.3.%[1]d.99", i))...)
	}
	p := g.create("large", spec)
	allocate(g.t, p, pool.Claim{Owner: "a"})
}

// children makes a pool from which others are delegated.
func (g *golden) children() {
	t := g.t
	parent := g.create("parent", specOf("10.4.0.0/16"))
	child, _, err := pool.Delegate(t.Context(), parent, ofBits("node-1", 24), "child", everyAddress(), g.options())
	require.NoError(t, err)
	_, err = child.Extend(t.Context(), ofBits("node-1 more", 26))
	require.NoError(t, err)
	allocate(t, child, pool.Claim{Owner: "pod"})
	b, err := pool.OpenBlocks(t.Context(), parent, "node-2", ofBits("", 26), everyAddress(), g.options())
	require.NoError(t, err)
	allocateIn(t, b, "pod")
}

// load makes a store that has the records, each at its revision.
func load(t testing.TB, records []goldenRecord) *store.Memory {
	t.Helper()
	heads, others := map[string]store.Record{}, map[int64]map[string][]store.Write{}
	key := func(r goldenRecord) string {
		if r.Kind == store.KindNetwork {
			return "network " + r.Pool
		}
		return "pool " + r.Pool
	}
	var latest string
	for _, r := range records {
		if !r.isHead() {
			continue
		}
		heads[key(r)] = r.record()
		if latest == "" || r.Revision > heads[latest].Revision {
			latest = key(r)
		}
	}
	for _, r := range records {
		if others[r.Revision] == nil {
			others[r.Revision] = map[string][]store.Write{}
		}
		writes := others[r.Revision][key(r)]
		if !r.isHead() {
			writes = append(writes, store.Write{Op: store.Put, Record: r.record()})
		}
		others[r.Revision][key(r)] = writes
	}
	// A head is written with the first record of its pool, and again with each later one.
	s, now := store.NewMemory(), map[string]int64{}
	for revision := int64(1); revision <= heads[latest].Revision; revision++ {
		pools := others[revision]
		if pools == nil {
			pools = map[string][]store.Write{latest: nil}
		}
		var changes []store.Change
		names := slices.Sorted(maps.Keys(pools))
		for _, name := range names {
			head := heads[name]
			head.Revision = now[name]
			changes = append(changes, store.Change{Head: head, Writes: pools[name]})
		}
		_, err := s.Commit(t.Context(), changes...)
		require.NoError(t, err)
		for _, name := range names {
			now[name] = revision
		}
	}
	require.Equal(t, records, goldenRecords(t, s), "as it was")
	return s
}

// readGolden reads a golden file. With -update it is written before, if it is of the present format.
func readGolden(t *testing.T, what string, format int, present any, into any) {
	t.Helper()
	path := goldenFile(what, format)
	if *update && format == goldenFormat {
		text, err := json.MarshalIndent(present, "", " ")
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, append(text, '\n'), 0o600))
	}
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, into))
}

// goldenExports are the exports of all pools in a store. Parents come before their children.
func goldenExports(t testing.TB, s store.Store) []json.RawMessage {
	t.Helper()
	var exports []json.RawMessage
	for _, children := range []bool{false, true} {
		for _, p := range allPools(t, s) {
			if (snapshot(t, p).Parent != "") == children {
				exports = append(exports, json.RawMessage(export(t, p)))
			}
		}
	}
	return exports
}

// allPools opens the pools of a store, in the order of their names.
func allPools(t testing.TB, s store.Store) []*pool.Pool {
	t.Helper()
	byName := map[string]*pool.Pool{}
	for info, err := range pool.List(t.Context(), s) {
		require.NoError(t, err)
		byName[info.Name], err = pool.Open(t.Context(), s, info.Name, &pool.Options{Clock: newManualClock().Now})
		require.NoError(t, err)
	}
	var pools []*pool.Pool
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		pools = append(pools, byName[name])
	}
	return pools
}

// If this fails, what is stored or exported has changed. Raise the version of the format, as docs/formats.md says, and
// write new files with -update. Before the first release it is enough to write them.
func TestTheFormatIsAsItWas(t *testing.T) {
	s := goldenStore(t)
	var records []goldenRecord
	readGolden(t, "stored", goldenFormat, goldenRecords(t, s), &records)
	require.Equal(t, compacted(t, records), compacted(t, goldenRecords(t, s)))
	var exports []json.RawMessage
	readGolden(t, "exports", goldenFormat, goldenExports(t, s), &exports)
	require.Equal(t, compacted(t, exports), compacted(t, goldenExports(t, s)))

	kinds, states := map[store.Kind]bool{}, map[string]bool{}
	for _, r := range records {
		kinds[r.Kind], states[string(r.Kind)+" "+r.State] = true, true
	}
	require.Len(t, kinds, 6, "of all kinds")
	require.ElementsMatch(t, []string{
		"pool active", "network active", "allocation allocated", "allocation cooling", "allocation reserved",
		"allocation declined", "allocation shared", "cooling cooling", "cooling declined",
		"space free space", "space rules", "history released", "history declined", "history renumbered",
	}, slices.Collect(maps.Keys(states)), "in all states")
	text := string(compacted(t, records))
	for _, member := range []string{
		"cursor", "left", "expiring", "aside", "delegated", "withheld", "parent", "grants", "changes", "outOfRange", "rules",
		"owner", "generation", "scope", "labels", "child", "missing", "held", "external", "history", "leased",
		"share", "shares", "sharers", "prefixes", "renumbering", "beside", "since",
	} {
		require.Contains(t, text, `"`+member+`":`)
	}
}

func compacted(t *testing.T, v any) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetIndent("", "") // RawMessage is compacted
	require.NoError(t, encoder.Encode(v))
	return b.Bytes()
}

// What each format has stored is read, verifies clean, and is used.
func TestStoresOfEveryFormat(t *testing.T) {
	for format := 1; format <= goldenFormat; format++ {
		var records []goldenRecord
		readGolden(t, "stored", format, goldenRecords(t, goldenStore(t)), &records)
		s := load(t, records)
		var exports []json.RawMessage
		readGolden(t, "exports", format, goldenExports(t, s), &exports)
		pools := allPools(t, s)
		require.Len(t, exports, len(pools))
		for _, p := range pools {
			requireOK(t, p)
		}
		for i, text := range goldenExports(t, s) {
			require.Equal(t, snapshotOf(t, string(exports[i])), snapshotOf(t, string(text)))
		}
		for _, p := range pools {
			useAll(t, p)
		}
		for _, p := range allPools(t, s) {
			requireOK(t, p)
		}
		require.NoError(t, pool.SetExternal(t.Context(), s, "lan", nil, false, nil))
	}
}

// useAll allocates, and releases all that is held, unless a pool is delegated from it.
func useAll(t *testing.T, p *pool.Pool) {
	t.Helper()
	s := snapshot(t, p)
	fresh := pool.Claim{Owner: "fresh", Scope: s.Spec.Scope}
	if len(s.Spec.Ranges) > 0 {
		allocate(t, p, fresh)
		require.Equal(t, allocate(t, p, fresh).Prefixes, release(t, p, "fresh").Prefixes)
	}
	for _, a := range s.Allocations {
		again, err := p.Get(t.Context(), pool.Held{Owner: a.Owner, Generation: a.Generation})
		require.NoError(t, err)
		require.Equal(t, a, again)
		if a.Child == "" {
			release(t, p, a.Owner)
		}
	}
	requireOK(t, p)
}

// What each format has exported is imported, and is then the same.
func TestExportsOfEveryFormat(t *testing.T) {
	for format := 1; format <= goldenFormat; format++ {
		var exports []json.RawMessage
		readGolden(t, "exports", format, goldenExports(t, goldenStore(t)), &exports)
		s := store.NewMemory()
		external := ranges("10.0.0.240-10.0.0.254", "2001:db8::ff")
		require.NoError(t, pool.SetExternal(t.Context(), s, "lan", external, false, nil))
		for _, text := range exports {
			want := snapshotOf(t, string(text))
			p, err := pool.Import(t.Context(), s, want.Name, want, nil)
			require.NoError(t, err, want.Name)
			requireOK(t, p)
			require.Equal(t, withoutRevisions(want), withoutRevisions(snapshotOf(t, export(t, p))))
		}
	}
}
