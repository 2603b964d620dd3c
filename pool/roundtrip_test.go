package pool_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// trips are the calls to the store that f makes.
func trips(injector *faults.Injector, f func()) string {
	injector.ResetCounts()
	f()
	c := injector.Counts()
	text := fmt.Sprintf("commits %d, gets %d, lists %d, finds %d", c.Commit, c.Get, c.List, c.Find)
	if c.Turn > 0 {
		text += fmt.Sprintf(", turns %d", c.Turn)
	}
	return text
}

func TestRoundTrips(t *testing.T) {
	memory := store.NewMemory()
	injector := &faults.Injector{}
	create(t, memory, specOf("10.0.0.0/29"))
	options := &pool.Options{Random: func() uint64 { return 0 }}
	p, err := pool.Open(t.Context(), injector.Wrap(memory), "blue", options)
	require.NoError(t, err)
	other := open(t, memory.Open())
	write := func() {
		allocate(t, other, pool.Claim{Owner: "external"})
		release(t, other, "external")
	}
	refused := func(want error, f func() error) func() {
		return func() { t.Helper(); require.ErrorIs(t, f(), want) }
	}
	a := pool.Claim{Owner: "a"}
	full := func() {
		for i := range 8 {
			_, _ = p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("full ", i)})
		}
	}
	for _, c := range []struct {
		name   string
		before func()
		do     func()
		want   string
	}{
		{"allocate", nil, func() { allocate(t, p, a) }, "commits 1, gets 0, lists 0, finds 0"},
		{"same owner", nil, func() { allocate(t, p, a) }, "commits 0, gets 1, lists 0, finds 0"},
		{
			"get", nil, func() { _, err := p.Get(t.Context(), pool.Held{Owner: "a"}); require.NoError(t, err) },
			"commits 0, gets 1, lists 0, finds 0",
		},
		{
			"lookup", nil, func() { _, err := p.Get(t.Context(), pool.Held{Addr: addr("10.0.0.0")}); require.NoError(t, err) },
			"commits 0, gets 0, lists 0, finds 1",
		},
		{"stats", nil, func() { used(t, p) }, "commits 0, gets 1, lists 0, finds 0"},
		{"release of another generation", nil, refused(pool.ErrGeneration, func() error {
			_, err := p.Release(t.Context(), pool.Held{Owner: "a", Generation: 99})
			return err
		}), "commits 0, gets 1, lists 0, finds 0"},
		{"release", nil, func() { release(t, p, "a") }, "commits 1, gets 0, lists 0, finds 0"},
		{"release of nothing", nil, refused(pool.ErrNotFound, func() error {
			_, err := p.Release(t.Context(), pool.Held{Owner: "a"})
			return err
		}), "commits 0, gets 1, lists 0, finds 0"},
		{"allocate after an external write", write, func() { allocate(t, p, a) }, "commits 2, gets 0, lists 0, finds 0"},
		{
			"release after an external write", write, func() { release(t, p, "a") },
			"commits 2, gets 1, lists 0, finds 0, turns 1",
		},
		{
			"same owner from another handle", func() { allocate(t, other, a) }, func() { allocate(t, p, a) },
			"commits 1, gets 0, lists 0, finds 0, turns 2",
		},
		{
			"release of what another handle granted", nil, func() { release(t, p, "a") },
			"commits 1, gets 0, lists 0, finds 0, turns 1",
		},
		{"exhausted", full, refused(pool.ErrExhausted, func() error {
			_, err := p.Allocate(t.Context(), a)
			return err
		}), "commits 0, gets 2, lists 0, finds 0"},
		{"taken", nil, refused(pool.ErrTaken, func() error {
			_, err := p.Allocate(t.Context(), claim("a", "10.0.0.1"))
			return err
		}), "commits 0, gets 2, lists 0, finds 0"},
		{
			"not exhausted any more", func() { release(t, other, "full 3") }, func() { allocate(t, p, a) },
			"commits 1, gets 2, lists 0, finds 0",
		},
		{"verify", nil, func() { requireOK(t, p) }, "commits 0, gets 3, lists 2, finds 0"},
		{"list", nil, func() {
			for _, err := range p.Allocations(t.Context()) {
				require.NoError(t, err)
			}
		}, "commits 0, gets 0, lists 1, finds 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.before != nil {
				c.before()
			}
			require.Equal(t, c.want, trips(injector, c.do))
		})
	}
}

func TestOpeningReadsOneRecord(t *testing.T) {
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/16"))
	fill(t, p, 60_000)
	injector := &faults.Injector{}
	want := "commits 0, gets 1, lists 0, finds 0"
	require.Equal(t, want, trips(injector, func() { p = open(t, injector.Wrap(memory)) }))
	want = "commits 1, gets 0, lists 0, finds 0"
	require.Equal(t, want, trips(injector, func() {
		require.Equal(t, "10.0.234.96", texts(allocate(t, p, pool.Claim{Owner: "next"})))
	}))
	require.Equal(t, uint64(60_001), used(t, p))
}

// fill grants n addresses, the lowest ones, by a thousand an owner.
func fill(t testing.TB, p *pool.Pool, n int) {
	t.Helper()
	for i := 0; i < n; i += 1000 {
		c := pool.Claim{Owner: fmt.Sprint("fill ", i), Requests: make([]pool.Request, min(1000, n-i))}
		allocate(t, p, c)
	}
}

// TestRoundTripsOfPieces opens a pool whose free space is in many pieces: they are read at once.
func TestRoundTripsOfPieces(t *testing.T) {
	spec := pool.Spec{Families: []pool.Family{pool.IPv4}}
	first := addr("10.0.0.0").As4()
	for i := range 60_000 {
		at := binary.BigEndian.Uint32(first[:]) + uint32(i*200+i*i%97)
		a := netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)})
		spec.Ranges = append(spec.Ranges, netipx.IPRangeFrom(a, a))
	}
	memory := store.NewMemory()
	create(t, memory, spec)
	pieces := 0
	for _, err := range memory.List(t.Context(), store.KindSpace, "blue") {
		require.NoError(t, err)
		pieces++
	}
	require.Greater(t, pieces, 3)
	injector := &faults.Injector{}
	p, err := pool.Open(t.Context(), injector.Wrap(memory), "blue", nil)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	require.LessOrEqual(t, injector.Counts().RoundTrips(), 4, "the head, its rules, its pieces, and a commit")
}
