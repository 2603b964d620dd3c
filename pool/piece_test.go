package pool_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// every yields each second address of a prefix, the first one first.
func every(p netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for a := p.Addr(); p.Contains(a); a = a.Next().Next() {
		out = append(out, a)
	}
	return out
}

// randomIn returns n different addresses of a /64, and their neighbours above that are not among them.
func randomIn(p netip.Prefix, n int) []netip.Addr {
	random := rand.New(rand.NewPCG(1, 2))
	seen := map[netip.Addr]bool{}
	var out []netip.Addr
	for len(out) < n {
		b := p.Addr().As16()
		binary.BigEndian.PutUint64(b[8:], random.Uint64()&^1)
		if a := netip.AddrFrom16(b); !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	return out
}

// fragment grants addresses, 2,048 an owner.
func fragment(t testing.TB, p *pool.Pool, addrs []netip.Addr) (owners []string) {
	t.Helper()
	for len(addrs) > 0 {
		some := addrs[:min(2048, len(addrs))]
		addrs = addrs[len(some):]
		c := pool.Claim{Owner: fmt.Sprint("fill ", len(owners))}
		for _, a := range some {
			c.Requests = append(c.Requests, pool.ExactAddr(a))
		}
		allocate(t, p, c)
		owners = append(owners, c.Owner)
	}
	return owners
}

// pieceRecords are the names of the records of the pool's free space: those there are, and those that the head names.
func pieceRecords(t testing.TB, s store.Store) (stored, named []string) {
	t.Helper()
	stored, named = []string{}, []string{}
	for r, err := range s.List(t.Context(), store.KindSpace, "blue") {
		require.NoError(t, err)
		stored = append(stored, r.Name)
	}
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	var data struct {
		Spaces []struct{ Pieces []struct{ ID string } }
	}
	require.NoError(t, json.Unmarshal(head.Data, &data))
	for _, space := range data.Spaces {
		for _, piece := range space.Pieces {
			if piece.ID != "" {
				named = append(named, piece.ID)
			}
		}
	}
	return stored, named
}

func requireNoLeakedPieces(t testing.TB, s store.Store) {
	t.Helper()
	stored, named := pieceRecords(t, s)
	require.ElementsMatch(t, named, stored)
}

func TestFragmentedPoolsWriteLittle(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   pool.Spec
		setUp  func(*pool.Pool) []string
		taken  []netip.Addr // of which the neighbours are free
		inline bool
		limit  float64
	}{
		{
			name: "packed", spec: specOf("10.0.0.0/16"), inline: true, limit: 2 << 10,
			setUp: func(p *pool.Pool) []string { fill(t, p, 60_000); return nil },
		},
		{name: "alternate of 16", spec: specOf("10.0.0.0/16"), taken: every(prefix("10.0.0.0/16")), limit: 4 << 10},
		{name: "alternate of 12", spec: specOf("10.0.0.0/12"), taken: every(prefix("10.0.0.0/12")), limit: 8 << 10},
		{
			name: "sparse of 64", spec: specOf("2001:db8::/64"), taken: randomIn(prefix("2001:db8::/64"), 20_000),
			limit: 8 << 10,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if raceDetector && len(c.taken) > 100_000 {
				t.Skip("one goroutine, for a minute")
			}
			memory := store.NewMemory()
			injector := &faults.Injector{}
			p := create(t, injector.Wrap(memory), c.spec)
			var owners []string
			if c.setUp != nil {
				owners = c.setUp(p)
			} else {
				owners = fragment(t, p, c.taken)
			}
			requireNoLeakedPieces(t, memory)
			other := open(t, memory.Open())
			churn(t, p, 200, c.taken, nil)
			injector.ResetCounts()
			churn(t, p, 1000, c.taken, other)
			counts := injector.Counts()
			mean := float64(counts.Bytes) / float64(counts.Committed)
			t.Logf("%d commits, %.0f bytes each", counts.Committed, mean)
			require.GreaterOrEqual(t, counts.Committed, 1000)
			require.Less(t, mean, c.limit)

			requireNoLeakedPieces(t, memory)
			stored, _ := pieceRecords(t, memory)
			require.Equal(t, c.inline, len(stored) == 0, "%d pieces", len(stored))
			fresh := open(t, memory.Open())
			requireOK(t, fresh)
			if len(owners) < 100 { // it takes a second otherwise
				requireOK(t, p)
				requireOK(t, other)
			}

			// Empty again, it is one record again.
			for _, owner := range owners {
				release(t, p, owner)
			}
			if !c.inline {
				churn(t, p, 1000, nil, other)
			}
			stored, _ = pieceRecords(t, memory)
			t.Logf("%d pieces are left", len(stored))
			if owners != nil {
				require.Empty(t, stored)
			}
			requireOK(t, open(t, memory.Open()))
		})
	}
}

// churn makes n commits: grants of one address each, in the middle of what is taken or the lowest, and releases. Now
// and then another handle makes one in between, and must give the same answer.
func churn(t testing.TB, p *pool.Pool, n int, taken []netip.Addr, other *pool.Pool) {
	t.Helper()
	random := rand.New(rand.NewPCG(3, uint64(n)))
	var held []string
	for i := range n {
		if i%2 == 1 && random.IntN(4) > 0 || len(held) > 100 {
			j := random.IntN(len(held))
			release(t, p, held[j])
			held[j] = held[len(held)-1]
			held = held[:len(held)-1]
			continue
		}
		c := pool.Claim{Owner: fmt.Sprint("churn ", i)}
		if len(taken) > 0 && random.IntN(2) == 0 {
			c.Requests = []pool.Request{pool.ExactAddr(taken[random.IntN(len(taken))].Next())}
		}
		from := p
		if other != nil && i%50 == 0 {
			from = other
		}
		if _, err := from.Allocate(t.Context(), c); err != nil {
			require.ErrorIs(t, err, pool.ErrTaken)
			c.Requests = nil
			allocate(t, from, c)
		}
		held = append(held, c.Owner)
	}
	for _, owner := range held {
		release(t, p, owner)
	}
}
