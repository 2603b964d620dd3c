package pool_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// TestDecline: an address that somebody else uses is nobody's for a time, also where released addresses cool down.
func TestDecline(t *testing.T) {
	for name, spec := range map[string]pool.Spec{"at once": specOf("10.0.0.0/30"), "cooling": cooling("10.0.0.0/30")} {
		t.Run(name, func(t *testing.T) {
			inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
				allocate(t, b.Pool, pool.Claim{Owner: "a"})
				b.faults.ResetCounts()
				lost, err := b.Decline(t.Context(), pool.Held{Owner: "a"}, time.Hour)
				require.NoError(t, err)
				require.Equal(t, "10.0.0.0", texts(lost))
				if b.memory != nil {
					require.Equal(t, 1, b.faults.Counts().RoundTrips(), "one commit")
				}
				requireHoldsNothing(t, b.Pool, "a")
				require.Equal(t, uint64(1), b.stats(t).Cooling.Uint64())

				p := b.another(t)
				_, err = p.Allocate(t.Context(), claim("a", "10.0.0.0"))
				require.ErrorIs(t, err, pool.ErrTaken, "not its last owner either")
				require.Equal(t, "10.0.0.1", texts(allocate(t, p, pool.Claim{Owner: "a"})), "who may have another one")
				require.True(t, snapshot(t, p).Cooling[0].Declined)
				b.clock.Add(time.Hour - time.Microsecond)
				_, err = b.Allocate(t.Context(), claim("b", "10.0.0.0"))
				require.ErrorIs(t, err, pool.ErrTaken)
				b.clock.Add(time.Microsecond)
				allocate(t, b.Pool, claim("b", "10.0.0.0"))
			})
		})
	}
}

// TestDeclineOneOfTwo: of two addresses the one in use is in quarantine, and the other one is released.
func TestDeclineOneOfTwo(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/30", "2001:db8::/126"), func(t *testing.T, b *trial) {
		both := pool.Claim{Owner: "a", Policy: pool.RequireDualStack}
		allocate(t, b.Pool, both)
		_, err := b.Decline(t.Context(), pool.Held{Addr: addr("2001:db8::")}, time.Hour)
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0 2001:db8::1", texts(allocate(t, b.another(t), both)))
	})
}

// TestTransferInOneCommit: what one owner gives up another one gets, where released addresses cool down too.
func TestTransferInOneCommit(t *testing.T) {
	inMemoryAndStored(t, cooling("10.0.0.0/30"), func(t *testing.T, b *trial) {
		first := allocate(t, b.Pool, pool.Claim{Owner: "a"})
		steps := []pool.Step{
			pool.Release(pool.Held{Owner: "a", Generation: first.Generation, Optional: true}),
			pool.Allocate(claim("b", "10.0.0.0")),
		}
		b.faults.ResetCounts()
		results, err := b.All(t.Context(), steps...)
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", texts(results[1].Allocation))
		if b.memory != nil {
			require.Equal(t, 1, b.faults.Counts().Commit)
		}
		require.Zero(t, b.stats(t).Cooling.Uint64())
		again, err := b.another(t).All(t.Context(), steps...)
		require.NoError(t, err)
		require.Equal(t, results[1].Allocation, again[1].Allocation)

		// All or nothing: what cannot be had, is not given up for.
		allocate(t, b.Pool, claim("c", "10.0.0.3"))
		_, err = b.All(t.Context(), pool.Release(pool.Held{Owner: "b"}), pool.Allocate(claim("b", "10.0.0.3")))
		require.ErrorIs(t, err, pool.ErrTaken)
		held, err := b.Get(t.Context(), pool.Held{Owner: "b"})
		require.NoError(t, err)
		require.Equal(t, results[1].Allocation, held)
	})
}

// TestNamedByAddress: whoever holds the address, also if that changes while the call looks.
func TestNamedByAddress(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/29"), func(t *testing.T, b *trial) {
		wide := allocate(t, b.Pool, ofBits("a", 30))
		got, err := b.another(t).Get(t.Context(), pool.Held{Addr: addr("10.0.0.3").WithZone("")})
		require.NoError(t, err)
		require.Equal(t, wide, got)
		_, err = b.Get(t.Context(), pool.Held{Addr: addr("10.0.0.3"), Generation: wide.Generation + 1})
		require.ErrorIs(t, err, pool.ErrGeneration)
		_, err = b.Release(t.Context(), pool.Held{Owner: "a", Addr: addr("10.0.0.4")})
		require.ErrorIs(t, err, pool.ErrNotFound, "it holds something else")
		_, err = b.Release(t.Context(), pool.Held{Addr: addr("10.0.0.4")})
		require.ErrorIs(t, err, pool.ErrNotFound)
		require.ErrorContains(t, err, "10.0.0.4/32")
		none, err := b.Release(t.Context(), pool.Held{Addr: addr("10.0.0.4"), Optional: true})
		require.NoError(t, err)
		require.Zero(t, none)
		_, err = b.Release(t.Context(), pool.Held{Optional: true})
		require.ErrorIs(t, err, pool.ErrInvalid, "it names nothing")
		got, err = b.another(t).Release(t.Context(), pool.Held{Addr: addr("10.0.0.2")})
		require.NoError(t, err)
		require.Equal(t, wide, got)
	})
	memory := store.NewMemory()
	p := create(t, memory, specOf("10.0.0.0/29"))
	allocate(t, p, pool.Claim{Owner: "a"})
	finds := 0
	late := open(t, &finding{Memory: memory, found: func() {
		if finds++; finds == 1 { // it has another owner by the time of the commit
			_, err := p.All(t.Context(), pool.Release(pool.Held{Owner: "a"}), pool.Allocate(claim("b", "10.0.0.0")))
			require.NoError(t, err)
		}
	}})
	got, err := late.Release(t.Context(), pool.Held{Addr: addr("10.0.0.0")})
	require.NoError(t, err)
	require.Equal(t, "b", got.Owner)
	require.Equal(t, 2, finds)
}

// finding is a store that calls found after each look-up by address.
type finding struct {
	*store.Memory
	found func()
}

func (s *finding) Find(ctx context.Context, name string, addr netip.Addr) (store.Record, error) {
	r, err := s.Memory.Find(ctx, name, addr)
	s.found()
	return r, err
}

// TestErrorsOfOneName: it does not matter with which package's an error is compared.
func TestErrorsOfOneName(t *testing.T) {
	p, err := pool.New(specOf("10.0.0.0/32"), nil)
	require.NoError(t, err)
	_, err = p.Get(t.Context(), pool.Held{Owner: "nobody"})
	require.ErrorIs(t, err, pool.ErrNotFound)
	require.ErrorIs(t, err, store.ErrNotFound)
	_, err = p.Allocate(t.Context(), pool.Claim{})
	require.ErrorIs(t, err, store.ErrInvalid)
	allocate(t, p, pool.Claim{Owner: "a"})
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "b"})
	require.ErrorIs(t, err, allocator.ErrExhausted)
	_, err = p.Allocate(t.Context(), claim("b", "10.0.0.0"))
	require.ErrorIs(t, err, allocator.ErrTaken)
	_, err = pool.ParseSpec("10.0.0.0/33")
	require.ErrorIs(t, err, pool.ErrInvalid)
	_, err = cidr.ParseAddr("x")
	require.ErrorIs(t, err, store.ErrInvalid)

	memory := store.NewMemory()
	create(t, memory, specOf("10.0.0.0/32"))
	_, err = pool.Create(t.Context(), memory, "blue", specOf("10.0.0.0/32"), nil)
	require.ErrorIs(t, err, pool.ErrExists)
	require.ErrorIs(t, err, store.ErrExists)
	_, err = pool.Open(t.Context(), memory, "green", nil)
	require.ErrorIs(t, err, pool.ErrNoPool)
	require.ErrorIs(t, err, store.ErrNotFound)
}
