package pool_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// reserve reserves what the claim asks for.
func reserve(t testing.TB, p *pool.Pool, c pool.Claim) pool.Allocation {
	t.Helper()
	a, err := p.Reserve(t.Context(), c)
	require.NoError(t, err)
	return a
}

// countsV4 are how many addresses are used, cool down, are kept and are free.
func countsV4(t *testing.T, p *pool.Pool) [4]uint64 {
	t.Helper()
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	s := info.StatsOf(pool.IPv4)
	return [4]uint64{s.Used.Uint64(), s.Cooling.Uint64(), s.Kept.Uint64(), s.Free.Uint64()}
}

// What is reserved is withheld from others, given to its owner, and stays reserved after a release and after the end of
// a lease, until the reservation ends.
func TestReserve(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		kept := reserve(t, p.Pool, claim("db-0", "10.0.0.0"))
		require.True(t, kept.Reserved && kept.Kept)
		require.Equal(t, [4]uint64{0, 0, 1, 3}, countsV4(t, p.Pool))
		again := reserve(t, p.Pool, claim("db-0", "10.0.0.0"))
		require.Equal(t, kept, again)

		_, err := p.Allocate(t.Context(), claim("web", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		require.ErrorContains(t, err, `allocate for "web": 10.0.0.0/32: taken: it is reserved for another owner`)
		require.Equal(t, "10.0.0.1", allocate(t, p.Pool, pool.Claim{Owner: "web"}).Addrs()[0].String())
		_, err = p.Get(t.Context(), pool.Held{Owner: "db-0"})
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = p.Release(t.Context(), pool.Held{Owner: "db-0"})
		require.ErrorIs(t, err, pool.ErrNotFound)

		held := allocate(t, p.Pool, lease("db-0", time.Hour))
		require.Equal(t, kept.Prefixes, held.Prefixes)
		require.True(t, held.Reserved && !held.Kept)
		require.Equal(t, [4]uint64{2, 0, 0, 2}, countsV4(t, p.Pool))
		release(t, p.Pool, "db-0")
		require.Equal(t, [4]uint64{1, 0, 1, 2}, countsV4(t, p.Pool))

		allocate(t, p.Pool, lease("db-0", time.Hour))
		p.clock.Add(2 * time.Hour)
		n, err := p.Expire(t.Context())
		require.NoError(t, err)
		require.Zero(t, n, "the lease has ended, and nobody else gets the address")
		allocate(t, p.Pool, pool.Claim{Owner: "a"})
		allocate(t, p.Pool, pool.Claim{Owner: "b"})
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "c"})
		require.ErrorIs(t, err, pool.ErrExhausted)
		require.Equal(t, kept.Prefixes, allocate(t, p.Pool, pool.Claim{Owner: "db-0"}).Prefixes)

		ended, err := p.Unreserve(t.Context(), pool.Held{Owner: "db-0"})
		require.NoError(t, err)
		require.True(t, ended.Reserved)
		require.Equal(t, [4]uint64{4, 0, 0, 0}, countsV4(t, p.Pool), "what is held stays held")
		release(t, p.Pool, "db-0")
		allocate(t, p.Pool, claim("c", "10.0.0.0"))
		_, err = p.Unreserve(t.Context(), pool.Held{Owner: "db-0"})
		require.ErrorIs(t, err, pool.ErrNotFound)
		_, err = p.Unreserve(t.Context(), pool.Held{Owner: "db-0", Optional: true})
		require.NoError(t, err)
	})
}

// What is held already becomes reserved, and its lease stays as it is.
func TestReserveWhatIsHeld(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		held := allocate(t, p.Pool, lease("vm", time.Hour))
		got := reserve(t, p.Pool, pool.Claim{Owner: "vm"})
		held.Reserved = true
		require.Equal(t, held, got)
		_, err := p.Reserve(t.Context(), claim("vm", "10.0.0.3"))
		require.ErrorIs(t, err, pool.ErrHeld)
		_, err = p.Reserve(t.Context(), claim("other", "10.0.0.0"))
		require.ErrorIs(t, err, pool.ErrTaken)
		release(t, p.Pool, "vm")
		_, err = p.Reserve(t.Context(), claim("vm", "10.0.0.3"))
		require.ErrorIs(t, err, pool.ErrHeld)
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm", Requests: []pool.Request{{}, {}}})
		require.ErrorIs(t, err, pool.ErrHeld)
		require.ErrorContains(t, err, "[10.0.0.0/32] is reserved for it")
		_, err = p.Unreserve(t.Context(), pool.Held{Addr: addr("10.0.0.0")})
		require.NoError(t, err)
		require.Equal(t, [4]uint64{0, 0, 0, 4}, countsV4(t, p.Pool))
	})
}

// A reservation has no time to live, and its owner has the scope that it was made with.
func TestReserveRules(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		_, err := p.Reserve(t.Context(), lease("vm", time.Hour))
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.ErrorContains(t, err, "1h0m0s")
		_, err = p.All(t.Context(), pool.Reserve(lease("vm", time.Hour)))
		require.ErrorIs(t, err, pool.ErrInvalid)
		reserve(t, p.Pool, pool.Claim{Owner: "vm", Scope: "blue", Labels: map[string]string{"host": "vm-7"}})
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "vm"})
		require.ErrorIs(t, err, pool.ErrScope)
		held := allocate(t, p.Pool, pool.Claim{Owner: "vm", Scope: "blue"})
		require.Equal(t, map[string]string{"host": "vm-7"}, held.Labels)
	})
}

// What is declined is in quarantine for its owner too, and stays reserved.
func TestDeclineWhatIsReserved(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.3"), func(t *testing.T, p *trial) {
		reserve(t, p.Pool, claim("client", "10.0.0.2"))
		allocate(t, p.Pool, lease("client", time.Hour))
		_, err := p.Decline(t.Context(), pool.Held{Owner: "client"}, time.Minute)
		require.NoError(t, err)
		require.Equal(t, [4]uint64{0, 0, 1, 3}, countsV4(t, p.Pool))
		_, err = p.Allocate(t.Context(), lease("client", time.Hour))
		require.ErrorIs(t, err, pool.ErrTaken)
		require.ErrorContains(t, err, "until "+p.clock.Now().Add(time.Minute).UTC().Format(time.RFC3339Nano))
		p.clock.Add(time.Minute)
		require.Equal(t, "10.0.0.2", allocate(t, p.Pool, lease("client", time.Hour)).Addrs()[0].String())
		_, err = p.Decline(t.Context(), pool.Held{Owner: "client"}, time.Minute)
		require.NoError(t, err)
		_, err = p.Unreserve(t.Context(), pool.Held{Owner: "client"})
		require.NoError(t, err)
		require.Equal(t, [4]uint64{0, 1, 0, 3}, countsV4(t, p.Pool), "the quarantine goes on")
		require.Equal(t, "10.0.0.0", allocate(t, p.Pool, lease("client", time.Hour)).Addrs()[0].String())
	})
}

// A reservation keeps a pool from giving up its addresses, as what is held does.
func TestReservationsAndChanges(t *testing.T) {
	s := store.NewMemory()
	p, err := pool.Create(t.Context(), s, "p", specOf("10.0.0.0-10.0.0.7"), nil)
	require.NoError(t, err)
	reserve(t, p, claim("vm", "10.0.0.7"))
	err = p.Update(t.Context(), specOf("10.0.0.0-10.0.0.3"))
	require.ErrorIs(t, err, pool.ErrOutOfRange)
	require.ErrorContains(t, err, `"vm" has reserved [10.0.0.7/32]`)
	require.NoError(t, p.Drain(t.Context(), specOf("10.0.0.0-10.0.0.3")))
	held := allocate(t, p, pool.Claim{Owner: "vm"})
	require.False(t, held.Reserved)
	require.Equal(t, "10.0.0.0", held.Addrs()[0].String())
	reserve(t, p, claim("other", "10.0.0.1"))
	release(t, p, "vm")
	require.NoError(t, pool.Delete(t.Context(), s, "p", nil), "nothing is held")
}

// A snapshot has the reservations, and an import of it makes them again.
func TestReservationsMove(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0-10.0.0.7"), func(t *testing.T, p *trial) {
		reserve(t, p.Pool, claim("kept", "10.0.0.7"))
		reserve(t, p.Pool, claim("held", "10.0.0.6"))
		allocate(t, p.Pool, lease("held", time.Hour))
		snapshot, err := p.Snapshot(t.Context())
		require.NoError(t, err)
		require.Len(t, snapshot.Kept, 1)
		require.Equal(t, 2, snapshot.Reservations)
		text, err := json.Marshal(snapshot)
		require.NoError(t, err)
		require.Contains(t, string(text), `"state":"reserved"`)
		var read pool.Snapshot
		require.NoError(t, json.Unmarshal(text, &read))
		moved, err := pool.Import(t.Context(), store.NewMemory(), "moved", read, &pool.Options{Clock: p.clock.Now})
		require.NoError(t, err)
		require.Equal(t, countsV4(t, p.Pool), countsV4(t, moved))
		require.Equal(t, "10.0.0.7", allocate(t, moved, pool.Claim{Owner: "kept"}).Addrs()[0].String())
		release(t, moved, "held")
		require.Equal(t, [4]uint64{1, 0, 1, 6}, countsV4(t, moved))
		report, err := moved.Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), "%v", report)
	})
}

// What a step ends that an earlier step of the same call has granted is told as it was.
func TestUnreserveWhatTheCallReserved(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0"), func(t *testing.T, p *trial) {
		all, err := p.All(t.Context(),
			pool.Reserve(pool.Claim{Owner: "a"}), pool.Unreserve(pool.Held{Owner: "a"}))
		require.NoError(t, err)
		for _, result := range all {
			require.Equal(t, "10.0.0.0/32", result.Allocation.Prefixes[0].String())
		}
	})
}
