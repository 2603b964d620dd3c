package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// Benchmarks measures a driver: commits of a 1 KiB head with 1, 16 and 256 creates, one after the other and from
// parallel goroutines with a pool each; commits of two heads; renewals of all held records in turn, and reading the
// first to expire; the ten records that have a label; the time until a watch sees a commit; and reads. Each is measured
// with no other records and with 60,000 allocations in the pool. The benchmarks of one such number share a backend from
// newBackend. The names contain the numbers: held=60000/commit/writes=16.
func Benchmarks(b *testing.B, newBackend func(t testing.TB) Backend) {
	for _, held := range []int{0, 60_000} {
		b.Run(fmt.Sprintf("held=%d", held), func(b *testing.B) {
			s := openBench(b, newBackend(b), held)
			for _, writes := range []int{1, 16, 256} {
				b.Run(fmt.Sprintf("commit/writes=%d", writes), func(b *testing.B) { s.commits(b, writes) })
			}
			b.Run("commit/renew=1", s.renews)
			b.Run("commit/conflict", s.conflicts)
			b.Run("commit/parallel", s.parallel)
			b.Run("commit/heads=2", s.twoHeads)
			b.Run("watch", s.watches)
			b.Run("expiry/renew", s.renewsExpiry)
			b.Run("expiry/first", s.expiriesFirst)
			b.Run("label/found=10", s.findsLabel)
			b.Run("get/head", s.gets)
			b.Run("get/missing", s.getsMissing)
			if held > 0 {
				b.Run(fmt.Sprintf("list/records=%d", held), s.lists)
				b.Run("find", s.finds)
			}
		})
	}
}

const benchPool = "bench"

// bench is a store that is measured. The records that it is said to hold are of benchPool; the benchmarks create theirs
// in pools of their own.
type bench struct {
	ctx   context.Context
	store store.Store
	held  int
	pools atomic.Int64 // used so far by benchmarks
}

func openBench(b *testing.B, backend Backend, held int) *bench {
	b.Helper()
	s, err := backend.Open(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	bench := &bench{ctx: context.Background(), store: s, held: held}
	head := benchHead(benchPool)
	for i := 0; i < held; {
		writes := make([]store.Write, 0, 100)
		for ; i < held && len(writes) < cap(writes); i++ {
			writes = append(writes, create(benchClaim(benchPool, i)))
		}
		if head, err = CommitOne(bench.ctx, s, head, writes...); err != nil {
			b.Fatal(err)
		}
	}
	if _, err = CommitOne(bench.ctx, s, head); err != nil {
		b.Fatal(err)
	}
	return bench
}

// benchHead returns a head of 1 KiB.
func benchHead(pool string) store.Record {
	head := newHead(pool)
	head.Data = json.RawMessage(`"` + strings.Repeat("x", 1022) + `"`)
	return head
}

// benchClaim returns the i-th allocation of pool, of 10.0.0.0 plus i.
func benchClaim(pool string, i int) store.Record {
	r := claim(pool, fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i))
	addr := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
	r.Prefixes = []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}
	r.Created = time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	r.Data = json.RawMessage(`{"generation":1234567,"requests":[{"family":4}]}`)
	return r
}

// newPool returns the name of a pool that is not used yet.
func (s *bench) newPool() string { return fmt.Sprint(benchPool, "-", s.pools.Add(1)) }

func (s *bench) commits(b *testing.B, n int) {
	pool, i := s.newPool(), 0
	head, writes := benchHead(pool), make([]store.Write, n)
	for b.Loop() {
		for j := range writes {
			writes[j] = create(benchClaim(pool, i))
			i++
		}
		next, err := CommitOne(s.ctx, s.store, head, writes...)
		if err != nil {
			b.Fatal(err)
		}
		head = next
	}
}

func (s *bench) renews(b *testing.B) {
	pool, r := s.newPool(), benchClaim(benchPool, 0)
	head := benchHead(pool)
	r.Pool = pool
	for b.Loop() {
		r.Expires = r.Expires.Add(time.Second)
		next, err := CommitOne(s.ctx, s.store, head, put(r))
		if err != nil {
			b.Fatal(err)
		}
		head = next
	}
}

func (s *bench) conflicts(b *testing.B) {
	stale := benchHead(benchPool)
	for b.Loop() {
		_, err := CommitOne(s.ctx, s.store, stale, create(benchClaim(benchPool, 0)))
		if !errors.Is(err, store.ErrConflict) {
			b.Fatal(err)
		}
	}
}

func (s *bench) parallel(b *testing.B) {
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		pool := s.newPool()
		head := benchHead(pool)
		for i := 0; pb.Next(); i++ {
			next, err := CommitOne(s.ctx, s.store, head, create(benchClaim(pool, i)))
			if err != nil {
				b.Error(err)
				return
			}
			head = next
		}
	})
}

func (s *bench) gets(b *testing.B) {
	for b.Loop() {
		if _, err := s.store.Get(s.ctx, headKey(benchPool)); err != nil {
			b.Fatal(err)
		}
	}
}

func (s *bench) getsMissing(b *testing.B) {
	for b.Loop() {
		if _, err := s.store.Get(s.ctx, claimKey(benchPool, "missing")); !errors.Is(err, store.ErrNotFound) {
			b.Fatal(err)
		}
	}
}

func (s *bench) lists(b *testing.B) {
	for b.Loop() {
		n := 0
		for _, err := range s.store.List(s.ctx, store.KindAllocation, benchPool) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
		if n != s.held {
			b.Fatalf("listed %d records, want %d", n, s.held)
		}
	}
}

func (s *bench) finds(b *testing.B) {
	addr := benchClaim(benchPool, s.held/2).Prefixes[0].Addr()
	for b.Loop() {
		if _, err := s.store.Find(s.ctx, benchPool, addr); err != nil {
			b.Fatal(err)
		}
	}
}

// twoHeads commits two heads with a record each.
func (s *bench) twoHeads(b *testing.B) {
	pools := []string{s.newPool(), s.newPool()}
	heads := []store.Record{benchHead(pools[0]), benchHead(pools[1])}
	for i := 0; b.Loop(); i++ {
		next, err := s.store.Commit(s.ctx,
			change(heads[0], create(benchClaim(pools[0], i))), change(heads[1], create(benchClaim(pools[1], i))))
		if err != nil {
			b.Fatal(err)
		}
		heads = next
	}
}

// watches measures from the beginning of a commit until a watch through the same handle has told of it.
func (s *bench) watches(b *testing.B) {
	pool := s.newPool()
	head, err := CommitOne(s.ctx, s.store, benchHead(pool))
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		seen, revision := make(chan error, 1), head.Revision
		go func() {
			_, err := s.store.Watch(s.ctx, headKey(pool), revision)
			seen <- err
		}()
		if head, err = CommitOne(s.ctx, s.store, head); err != nil {
			b.Fatal(err)
		}
		if err := <-seen; err != nil {
			b.Fatal(err)
		}
	}
}

// leased returns a pool with as many records that expire as are held, at least one, and its head.
func (s *bench) leased(b *testing.B) (pool string, head store.Record, lease func(i int) store.Record) {
	b.Helper()
	pool = s.newPool()
	lease = func(i int) store.Record {
		r := benchClaim(pool, i%max(s.held, 1))
		r.Expires = r.Created.Add(time.Duration(i) * time.Second)
		return r
	}
	head = benchHead(pool)
	for i := 0; i < max(s.held, 1); {
		var writes []store.Write
		for ; i < max(s.held, 1) && len(writes) < 100; i++ {
			writes = append(writes, put(lease(i)))
		}
		next, err := CommitOne(s.ctx, s.store, head, writes...)
		if err != nil {
			b.Fatal(err)
		}
		head = next
	}
	return pool, head, lease
}

func (s *bench) renewsExpiry(b *testing.B) {
	_, head, lease := s.leased(b)
	for i := max(s.held, 1); b.Loop(); i++ {
		next, err := CommitOne(s.ctx, s.store, head, put(lease(i)))
		if err != nil {
			b.Fatal(err)
		}
		head = next
	}
}

// findsLabel finds the ten that have a label, of as many records as are held, at least ten, which all have one.
func (s *bench) findsLabel(b *testing.B) {
	const each = 10
	pool, n := s.newPool(), max(s.held, each)
	for i, head := 0, benchHead(pool); i < n; {
		var writes []store.Write
		for ; i < n && len(writes) < 60; i++ { // with an index, each may be several operations
			r := benchClaim(pool, i)
			r.Labels = map[string]string{"node": fmt.Sprint("n", i%(n/each))}
			writes = append(writes, create(r))
		}
		next, err := CommitOne(s.ctx, s.store, head, writes...)
		if err != nil {
			b.Fatal(err)
		}
		head = next
	}
	for b.Loop() {
		found := 0
		l := store.Labelled{Kind: store.KindAllocation, Pool: pool, Name: "node", Value: "n0"}
		for _, err := range store.ByLabel(s.ctx, s.store, l) {
			if err != nil {
				b.Fatal(err)
			}
			found++
		}
		if found != each {
			b.Fatalf("found %d records, want %d", found, each)
		}
	}
}

func (s *bench) expiriesFirst(b *testing.B) {
	pool, _, _ := s.leased(b)
	for b.Loop() {
		n := 0
		for _, err := range s.store.ByExpiry(s.ctx, store.KindAllocation, pool) {
			if err != nil {
				b.Fatal(err)
			}
			n++
			break
		}
		if n != 1 {
			b.Fatal("nothing expires")
		}
	}
}
