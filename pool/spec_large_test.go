package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// rulesRecords lists the records of a pool that have its rules.
func rulesRecords(t *testing.T, s store.Store) (names []string) {
	for r, err := range s.List(t.Context(), store.KindSpace, "blue") {
		require.NoError(t, err)
		if r.State == "rules" {
			names = append(names, r.Name)
		}
	}
	return names
}

func headSize(t *testing.T, s store.Store) int {
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	return len(head.Data)
}

// A large spec has a record of its own, which is written only when it changes, and goes with the pool.
func TestLargeSpecStandsBesideTheHead(t *testing.T) {
	s := store.NewMemory()
	spec := pool.Spec{Ranges: halves(2000)}
	p := create(t, s, spec)
	first := rulesRecords(t, s)
	require.Len(t, first, 1)
	require.Less(t, headSize(t, s), 5000)
	allocate(t, p, pool.Claim{Owner: "a"})
	other := open(t, s)
	require.Equal(t, "10.0.0.2", texts(allocate(t, other, pool.Claim{Owner: "b"})))
	require.Equal(t, first, rulesRecords(t, s))
	require.True(t, must(p.Info(t.Context())).Spec.Equal(spec))
	for info, err := range pool.List(t.Context(), s) {
		require.NoError(t, err)
		require.True(t, info.Spec.Equal(spec))
	}

	spec.Ranges = halves(2001)
	require.NoError(t, other.Update(t.Context(), spec))
	second := rulesRecords(t, s)
	require.Len(t, second, 1)
	require.NotEqual(t, first, second)
	require.Equal(t, "10.0.0.9", texts(allocate(t, p, pool.Claim{Owner: "c"})), "with the new spec")
	require.True(t, must(p.Info(t.Context())).Spec.Equal(spec))
	requireOK(t, p)

	require.NoError(t, other.Update(t.Context(), pool.Spec{Ranges: halves(3)}))
	require.Empty(t, rulesRecords(t, s))
	require.NoError(t, p.Update(t.Context(), spec))
	for _, owner := range []string{"a", "b", "c"} {
		release(t, p, owner)
	}
	require.NoError(t, pool.Delete(t.Context(), s, "blue", nil))
	require.Empty(t, rulesRecords(t, s))
}

// A record of rules that is gone, or is none, is said to be corrupt; Repair and Recover keep or make what they need.
func TestDamagedRecordOfRules(t *testing.T) {
	s := store.NewMemory()
	spec := pool.Spec{Ranges: halves(2000)}
	p := create(t, s, spec)
	a := allocate(t, p, pool.Claim{Owner: "a"})
	key := store.Key{Kind: store.KindSpace, Pool: "blue", Name: rulesRecords(t, s)[0]}
	rules, err := s.Get(t.Context(), key)
	require.NoError(t, err)
	headKey := store.Key{Kind: store.KindPool, Pool: "blue"}
	write := func(op store.Op, data json.RawMessage) {
		head, err := s.Get(t.Context(), headKey)
		require.NoError(t, err)
		w := store.Write{Op: op, Record: store.Record{Key: key, State: "rules", Data: data}}
		_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: []store.Write{w}})
		require.NoError(t, err)
	}
	for _, broken := range []func(){
		func() { write(store.Delete, nil) }, func() { write(store.Put, json.RawMessage(`{"spec":7}`)) },
		func() { write(store.Put, json.RawMessage(`7`)) },
	} {
		broken()
		_, err := pool.Open(t.Context(), s, "blue", nil)
		require.ErrorIs(t, err, pool.ErrCorrupt)
		_, err = p.Info(t.Context())
		require.ErrorIs(t, err, pool.ErrCorrupt)
		_, err = open2(t, s).Verify(t.Context())
		require.ErrorIs(t, err, pool.ErrCorrupt)
	}
	write(store.Put, rules.Data)
	requireOK(t, open(t, s))

	head, err := s.Get(t.Context(), headKey)
	require.NoError(t, err)
	var data map[string]any
	require.NoError(t, json.Unmarshal(head.Data, &data))
	data["expiring"] = 7
	head.Data = must(json.Marshal(data))
	_, err = s.Commit(t.Context(), store.Change{Head: head})
	require.NoError(t, err)
	report, err := p.Repair(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, report.Miscounted)
	require.Len(t, rulesRecords(t, s), 1)
	requireOK(t, open(t, s))

	head, err = s.Get(t.Context(), headKey)
	require.NoError(t, err)
	remove := store.Write{Op: store.Delete, Record: store.Record{Key: headKey}}
	_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: []store.Write{remove}})
	require.NoError(t, err)
	for range 2 {
		p, err = pool.Recover(t.Context(), s, "blue", spec, nil)
		require.NoError(t, err)
		require.Equal(t, a.Prefixes, must(open(t, s).Get(t.Context(), pool.Held{Owner: "a"})).Prefixes)
		require.Len(t, rulesRecords(t, s), 1)
		requireOK(t, p)
		head, err = s.Get(t.Context(), headKey)
		require.NoError(t, err)
		_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: []store.Write{remove}})
		require.NoError(t, err)
	}
}

// open2 returns a handle of a pool of which nothing is known yet.
func open2(t *testing.T, s store.Store) *pool.Pool {
	other := &hooked{Store: s}
	p, err := pool.Open(t.Context(), other, "blue", nil)
	if err == nil {
		return p
	}
	memory := store.NewMemory()
	create(t, memory, specOf("10.0.0.0/30"))
	other.Store = memory
	p = open(t, other)
	other.Store = s
	return p
}

// A large pool is imported in several commits, over what an import that was cut off has left.
func TestLargeSpecIsImportedInSeveralCommits(t *testing.T) {
	from := create(t, store.NewMemory(), pool.Spec{Ranges: halves(2000)})
	for i := range 300 {
		allocate(t, from, pool.Claim{Owner: fmt.Sprint(i)})
	}
	snapshot := must(from.Snapshot(t.Context()))
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	commits, failAt := 0, 3
	hooks.beforeCommit = func(_ store.Record, writes []store.Write) error {
		if len(writes) > 100 {
			return &store.TooLargeError{What: "writes", Size: int64(len(writes)), Limit: 100}
		}
		if commits++; commits == failAt {
			return context.DeadlineExceeded
		}
		return nil
	}
	_, err := pool.Import(t.Context(), hooks, "blue", snapshot, nil)
	require.Error(t, err)
	_, err = pool.Open(t.Context(), memory, "blue", nil)
	require.ErrorIs(t, err, pool.ErrUnfinished)
	commits, failAt = 0, 2
	require.Error(t, pool.Delete(t.Context(), hooks, "blue", nil), "which deletes the records, but not the head")
	require.NoError(t, pool.Delete(t.Context(), hooks, "blue", nil))
	for r, err := range memory.List(t.Context(), store.KindSpace, "blue") {
		t.Fatal(r.Key, err, "is left")
	}

	commits, failAt = 0, 3
	_, err = pool.Import(t.Context(), hooks, "blue", snapshot, nil)
	require.Error(t, err)
	failAt = 0
	p, err := pool.Import(t.Context(), hooks, "blue", snapshot, nil)
	require.NoError(t, err)
	requireOK(t, p)
	require.Len(t, rulesRecords(t, memory), 1)
	require.Equal(t, "300", must(p.Info(t.Context())).StatsOf(pool.IPv4).Used.String())
}

// Specs that are replaced while others read them, and commits that are lost or late, leave a pool that can be read.
func TestLargeSpecsDespiteFaults(t *testing.T) {
	memory := store.NewMemory()
	create(t, memory, pool.Spec{Ranges: halves(1000)})
	injector := &faults.Injector{}
	faulty := injector.Wrap(memory)
	some := rates
	some.MaxDelay = 0
	injector.Choose = faults.Random(1, some)
	handles := []*pool.Pool{openFaulty(t, faulty), openFaulty(t, faulty)}
	for i := range 200 {
		p := handles[i%2]
		if i%3 == 0 {
			requireExpected(t, p.Update(t.Context(), pool.Spec{Ranges: halves(1000 + i)}))
			continue
		}
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)})
		requireExpected(t, err)
	}
	settleFaults(t, injector, faulty)
	require.LessOrEqual(t, len(rulesRecords(t, memory)), 1)
	requireOK(t, open(t, memory))
}

func openFaulty(t *testing.T, s store.Store) *pool.Pool {
	for {
		p, err := pool.Open(t.Context(), s, "blue", nil)
		if err == nil {
			return p
		}
	}
}

// bytesOf returns how many bytes f allocates on the heap.
func bytesOf(f func()) float64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.TotalAlloc - before.TotalAlloc)
}

// What a spec or a claim of many ranges costs rises with their number, not with its square: ten times as many take
// about ten times as many bytes. What a claim costs in a pool of many ranges does not rise.
func TestManyRangesCostTheirNumber(t *testing.T) {
	costs := func(spec pool.Spec) map[string]float64 {
		s := store.NewMemory()
		var p *pool.Pool
		costs := map[string]float64{
			"validate": bytesOf(func() { require.NoError(t, spec.Validate()) }),
			"new":      bytesOf(func() { must(pool.New(spec, nil)) }),
			"create":   bytesOf(func() { p = create(t, s, spec) }),
			"open":     bytesOf(func() { open(t, s) }),
			"update":   bytesOf(func() { require.NoError(t, p.Update(t.Context(), spec)) }),
		}
		allocate(t, p, pool.Claim{Owner: "first"})
		costs["allocate"] = bytesOf(func() { allocate(t, p, pool.Claim{Owner: "second"}) })
		return costs
	}
	for _, c := range manySpecs {
		few, many := costs(c.spec(1000)), costs(c.spec(10_000))
		for what, cost := range few {
			most := 20 * cost
			if what == "allocate" {
				most = 3*cost + 16<<10
			}
			require.Less(t, many[what], most, "%s of %s", what, c.name)
		}
	}
}

// The same for claims within a set. A set is read once, for all requests that share it and for later claims.
func TestManyRangesOfASetCostTheirNumber(t *testing.T) {
	spec := specOf("10.0.0.0/8")
	spec.Bands = []pool.Band{{Name: "band", Ranges: ranges("10.0.0.0/12")}}
	for _, p := range []*pool.Pool{must(pool.New(specOf("10.0.0.0/8"), nil)), must(pool.New(spec, nil))} {
		set := cidr.SetOf(halves(10_000)...)
		requests := make([]pool.Request, pool.MaxRequests)
		for i := range requests {
			requests[i].Within = set
		}
		first := bytesOf(func() { allocate(t, p, pool.Claim{Owner: "many", Requests: requests}) })
		require.Less(t, first, float64(8<<20))
		again := bytesOf(func() { allocate(t, p, pool.Claim{Owner: "many", Requests: requests}) })
		require.Less(t, again, float64(4<<20))
		one := pool.Claim{Owner: "one", Requests: requests[:1]}
		allocate(t, p, one)
		require.Less(t, bytesOf(func() { allocate(t, p, one) }), float64(16<<10))
	}
}
