package kube_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// noPause is a pause that takes no time.
func noPause(ctx context.Context, _ time.Duration) error {
	runtime.Gosched()
	return ctx.Err()
}

// counterID returns a source of identifiers that rise, or fall, from one call to the next.
func counterID(name string) func() string {
	var mu sync.Mutex
	n := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		n++
		return fmt.Sprintf("%s-%06d", name, n)
	}
}

// simStore returns a handle of a process of its own on server.
func simStore(c *simClient, name string) *kube.Store {
	return kube.NewStore(c, kube.Options{Patience: 20 * time.Millisecond, Parallel: 1}, counterID(name), noPause)
}

func poolKey(name string) store.Key { return store.Key{Kind: store.KindPool, Pool: name} }

func allocKey(name string) store.Key {
	return store.Key{Kind: store.KindAllocation, Pool: "lab", Name: name}
}

func record(key store.Key, state string) store.Record { return store.Record{Key: key, State: state} }

// crashScenario is a commit that crashes at each step, on what before has stored.
type crashScenario struct {
	name   string
	before func(t *testing.T, s *kube.Store) store.Record // returns the head
	writes []store.Write
}

func crashScenarios() []crashScenario {
	none := func(*testing.T, *kube.Store) store.Record { return record(poolKey("lab"), "old") }
	filled := func(t *testing.T, s *kube.Store) store.Record {
		head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "older"),
			store.Write{Op: store.Create, Record: record(allocKey("kept"), "old")},
			store.Write{Op: store.Create, Record: record(allocKey("gone"), "old")},
		)
		require.NoError(t, err)
		head.State = "old"
		head, err = storetest.CommitOne(t.Context(), s, head,
			store.Write{Op: store.Create, Record: record(allocKey("unsettled"), "old")})
		require.NoError(t, err)
		return head
	}
	return []crashScenario{
		{"create head", none, nil},
		{"create head and records", none, []store.Write{
			{Op: store.Create, Record: record(allocKey("new"), "new")}, {Op: store.Put, Record: record(allocKey("put"), "new")},
		}},
		{"all operations", filled, []store.Write{
			{Op: store.Create, Record: record(allocKey("new"), "new")},
			{Op: store.Put, Record: record(allocKey("kept"), "new")},
			{Op: store.Delete, Record: record(allocKey("gone"), "")},
			{Op: store.Put, Record: record(allocKey("unsettled"), "new")},
			{Op: store.Delete, Record: record(allocKey("missing"), "")},
		}},
		{"delete head", filled, []store.Write{
			{Op: store.Delete, Record: record(poolKey("lab"), "")}, {Op: store.Put, Record: record(allocKey("kept"), "new")},
		}},
	}
}

// TestCrashAtEachStep crashes a commit at each of its requests, before and after it takes effect. Whoever comes next
// sees all of the commit or nothing, and can go on; after a sweep no trace is left.
func TestCrashAtEachStep(t *testing.T) {
	for _, scenario := range crashScenarios() {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/after=%v", scenario.name, after), func(t *testing.T) {
				for step := 1; ; step++ {
					if !scenario.crash(t, step, after) {
						require.Greater(t, step, 1)
						return
					}
				}
			})
		}
	}
}

// crash reports whether the commit has as many steps.
func (c crashScenario) crash(t *testing.T, step int, after bool) bool {
	server := newSimServer()
	head := c.before(t, simStore(&simClient{server: server}, "first"))
	dying := &simClient{server: server, crashAt: step, after: after}
	next := head
	next.State = "new"
	_, err := storetest.CommitOne(t.Context(), simStore(dying, "dying"), next, c.writes...)
	if !dying.crashed {
		require.NoError(t, err)
		return false
	}
	heir := simStore(&simClient{server: server}, "heir")
	come := c.requireWhole(t, heir, head)
	if err == nil {
		require.True(t, come, "the commit was acknowledged, step %d", step)
	}
	c.goOn(t, heir, head, come)
	requireSwept(t, server, heir)
	return true
}

// requireWhole checks that all or nothing of the commit is there, and reports which.
func (c crashScenario) requireWhole(t *testing.T, s *kube.Store, head store.Record) (come bool) {
	t.Helper()
	got, err := s.Get(t.Context(), head.Key)
	switch {
	case store.Change{Head: head, Writes: c.writes}.DeletesHead():
		come = errors.Is(err, store.ErrNotFound)
	case err == nil:
		come = got.State == "new"
	}
	for _, w := range c.writes {
		if w.Record.Key == head.Key {
			continue
		}
		r, err := s.Get(t.Context(), w.Record.Key)
		switch {
		case come && w.Op != store.Delete:
			require.NoError(t, err)
			require.Equal(t, "new", r.State)
			if got.Revision != 0 {
				require.Equal(t, got.Revision, r.Revision)
			}
		case come || head.Revision == 0 || w.Op == store.Create || w.Record.Name == "missing":
			require.ErrorIs(t, err, store.ErrNotFound, "%v", w.Record.Key)
		default:
			require.NoError(t, err)
			require.Equal(t, "old", r.State)
		}
	}
	listed := 0
	for r, err := range s.List(t.Context(), store.KindAllocation, "lab") {
		require.NoError(t, err)
		same, err := s.Get(t.Context(), r.Key)
		require.NoError(t, err)
		require.Equal(t, same, r)
		listed++
	}
	_ = listed
	return come
}

// goOn commits the same with the next handle, if it has not come about, and otherwise something else.
func (c crashScenario) goOn(t *testing.T, s *kube.Store, head store.Record, come bool) {
	t.Helper()
	next := head
	next.State = "new"
	writes := c.writes
	if come {
		current, err := s.Get(t.Context(), head.Key)
		if errors.Is(err, store.ErrNotFound) {
			current = record(head.Key, "new")
		}
		next = current
		writes = []store.Write{{Op: store.Put, Record: record(allocKey("another"), "new")}}
		_, err = storetest.CommitOne(t.Context(), s, head)
		require.ErrorIs(t, err, store.ErrConflict)
	}
	got, err := storetest.CommitOne(t.Context(), s, next, writes...)
	require.NoError(t, err)
	require.Greater(t, got.Revision, head.Revision)
	if !come {
		require.True(t, c.requireWhole(t, s, head))
	}
}

// requireSwept sweeps, and checks that nothing is left but objects in their final form, with the same records.
func requireSwept(t *testing.T, server *simServer, s *kube.Store) {
	t.Helper()
	before := allRecords(t, s)
	for range 3 {
		_, err := s.Sweep(t.Context())
		require.NoError(t, err)
	}
	for r, o := range server.objects {
		require.NotContains(t, o.Labels(), kube.Group+"/pending", "%v", r)
	}
	require.Equal(t, before, allRecords(t, s))
	require.Len(t, server.objects, len(before))
}

func allRecords(t *testing.T, s *kube.Store) map[store.Key]store.Record {
	t.Helper()
	all := make(map[store.Key]store.Record)
	for _, kind := range []store.Kind{store.KindPool, store.KindAllocation} {
		for r, err := range s.List(t.Context(), kind, "") {
			require.NoError(t, err)
			require.NotContains(t, all, r.Key)
			all[r.Key] = r
		}
	}
	return all
}

// history is what several processes did to lists that they keep in records.
type history struct {
	mu      sync.Mutex
	come    map[string][]store.Key // by the identifier of the commit, what it appended itself to
	unknown map[string][]store.Key
	failed  map[string]bool
	highest map[store.Key]int64
}

func appended(r store.Record, id string) store.Record {
	var ids []string
	_ = json.Unmarshal(r.Data, &ids)
	r.Data, _ = json.Marshal(append(ids, id))
	return r
}

func readOrNew(ctx context.Context, s *kube.Store, key store.Key) (store.Record, error) {
	r, err := s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{Key: key}, nil
	}
	return r, err
}

// step commits once: it appends an identifier to the lists in some records, each of them a head, creates a record of
// that name, and deletes one of an earlier name.
func (h *history) step(ctx context.Context, s *kube.Store, random *rand.Rand, id, old string) error {
	keys := []store.Key{poolKey("lab"), poolKey("office"), allocKey("x"), allocKey("y")}
	random.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	keys = keys[:1+random.IntN(3)]
	var changes []store.Change
	h.mu.Lock()
	floor := make(map[store.Key]int64)
	for _, key := range keys {
		floor[key] = h.highest[key]
	}
	h.mu.Unlock()
	for _, key := range keys {
		r, err := readOrNew(ctx, s, key)
		if err != nil {
			return nil // of the network
		}
		changes = append(changes, store.Change{Head: appended(r, id)})
	}
	changes[0].Writes = []store.Write{
		{Op: store.Create, Record: record(allocKey(id), id)},
		{Op: store.Put, Record: record(allocKey("last"), id)},
	}
	if old != "" {
		changes[0].Writes = append(changes[0].Writes, store.Write{Op: store.Delete, Record: record(allocKey(old), "")})
	}
	heads, err := s.Commit(ctx, changes...)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case err == nil:
		h.come[id] = keys
		for _, head := range heads {
			if head.Revision <= floor[head.Key] {
				return fmt.Errorf("%v has revision %d after %d", head.Key, head.Revision, floor[head.Key])
			}
			h.highest[head.Key] = max(h.highest[head.Key], head.Revision)
		}
	case errors.Is(err, store.ErrUnknown), errors.Is(err, errCrashed):
		h.unknown[id] = keys
	default:
		h.failed[id] = true
	}
	return nil
}

// TestRandomHistories has several processes, some of which crash, append to lists in shared records over a network that
// loses and delays requests and answers. In the end, each list has each commit that was acknowledged once, and none
// that was refused.
func TestRandomHistories(t *testing.T) {
	seeds := 150
	if testing.Short() {
		seeds = 20
	}
	total := 0
	for seed := range seeds {
		total += runHistory(t, uint64(seed))
	}
	require.Greater(t, total, 10*seeds, "most commits failed")
}

func runHistory(t *testing.T, seed uint64) int {
	server := newSimServer()
	h := &history{
		come: map[string][]store.Key{}, unknown: map[string][]store.Key{}, failed: map[string]bool{},
		highest: map[store.Key]int64{},
	}
	trouble := []float64{0, 0.02, 0.1}[seed%3]
	const processes, steps = 5, 16
	errs := make([]error, processes)
	var all sync.WaitGroup
	for p := range processes {
		all.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(p)))
			client := &simClient{server: server, random: rand.New(rand.NewPCG(seed, uint64(100+p))), trouble: trouble}
			if p == 0 {
				client.crashAt, client.after = 1+random.IntN(60), random.IntN(2) == 0
			}
			s := simStore(client, fmt.Sprint("process-", (p*7+int(seed))%processes))
			old := ""
			for i := range steps {
				id := fmt.Sprintf("p%d-%d", p, i)
				if errs[p] = h.step(t.Context(), s, random, id, old); errs[p] != nil {
					return
				}
				old = ""
				if random.IntN(2) == 0 {
					old = id
				}
				switch random.IntN(8) {
				case 0, 1:
					_, _ = s.Sweep(t.Context())
				case 2, 3, 4:
					_ = kube.Tidy(t.Context(), s)
				}
			}
		})
	}
	all.Wait()
	require.NoError(t, errors.Join(errs...), "seed %d", seed)
	server.land()
	heir := simStore(&simClient{server: server}, "heir")
	h.require(t, heir, seed)
	// No commit is open for ever: the next ones get through, whatever crashed.
	for _, key := range []store.Key{poolKey("lab"), poolKey("office"), allocKey("x"), allocKey("y"), allocKey("last")} {
		r, err := readOrNew(t.Context(), heir, key)
		require.NoError(t, err)
		_, err = storetest.CommitOne(t.Context(), heir, r)
		require.NoError(t, err)
	}
	requireSwept(t, server, heir)
	h.require(t, heir, seed)
	return len(h.come)
}

func (h *history) require(t *testing.T, s *kube.Store, seed uint64) {
	t.Helper()
	seen := map[string]int{}
	for _, key := range []store.Key{poolKey("lab"), poolKey("office"), allocKey("x"), allocKey("y")} {
		r, err := readOrNew(t.Context(), s, key)
		require.NoError(t, err)
		var ids []string
		if len(r.Data) > 0 {
			require.NoError(t, json.Unmarshal(r.Data, &ids))
		}
		for i, id := range ids {
			require.NotContains(t, ids[i+1:], id, "seed %d: twice in %v", seed, key)
			require.False(t, h.failed[id], "seed %d: refused, and there in %v: %s", seed, key, id)
			require.True(t, slices.Contains(h.come[id], key) || slices.Contains(h.unknown[id], key),
				"seed %d: %s in %v", seed, id, key)
			seen[id]++
		}
	}
	for id, keys := range h.come {
		require.Equal(t, len(keys), seen[id], "seed %d: %s was lost", seed, id)
	}
	for id, keys := range h.unknown {
		require.Contains(t, []int{0, len(keys)}, seen[id], "seed %d: %s came about in part", seed, id)
	}
}
