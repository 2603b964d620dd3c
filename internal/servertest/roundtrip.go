package servertest

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// countedConn counts what is written at once: the client writes once before it waits for an answer.
type countedConn struct {
	net.Conn
	writes *atomic.Int64
}

func (c countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// connectCounted opens a store whose connections count in writes.
func (d Driver) connectCounted(t *testing.T, url, schema string, conns int) (s Store, writes *atomic.Int64) {
	t.Helper()
	writes = new(atomic.Int64)
	wrap := func(conn net.Conn) net.Conn { return countedConn{conn, writes} }
	return d.Connect(t, url, schema, conns, wrap), writes
}

// notCounted makes a count of quick rounds leave out the next one too, in which the driver may still look.
const notCounted = -2

// isSlow tells whether a call has taken so long that the driver has looked who keeps it waiting, which is not counted.
func isSlow(begin time.Time) bool { return time.Since(begin) >= store.MaxTurn/5 }

// RoundTrips counts what the connection to the server is used for, when its statements have been prepared.
func (d Driver) RoundTrips(t *testing.T) {
	url, schema := d.Place(t)
	s, writes := d.connectCounted(t, url, schema, 1)
	p, err := pool.Create(t.Context(), s, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)
	requireOne := func(calls ...func() error) {
		t.Helper()
		for quick := 0; quick < 3; quick++ {
			for _, do := range calls {
				begin, before := time.Now(), writes.Load()
				require.NoError(t, do())
				if trips := writes.Load() - before; isSlow(begin) {
					quick = notCounted
				} else if quick >= 0 {
					require.Equal(t, int64(1), trips)
				}
			}
		}
	}
	allocate := func(owner string) func() error {
		return func() error {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Policy: pool.RequireDualStack})
			return err
		}
	}
	release := func(owner string) func() error {
		return func() error {
			_, err := p.Release(t.Context(), pool.Held{Owner: owner})
			return err
		}
	}
	require.NoError(t, allocate("warm up")())
	require.NoError(t, release("warm up")())
	requireOne(allocate("x"), release("x"))
	require.NoError(t, allocate("y")())
	d.readRoundTrips(t, s, requireOne)
	refusedRoundTrips(t, s, requireOne)
}

// readRoundTrips counts those of reads.
func (d Driver) readRoundTrips(t *testing.T, s Store, requireOne func(calls ...func() error)) {
	t.Helper()
	for _, read := range []func() error{
		func() error {
			_, err := s.Find(t.Context(), pooltest.Name, netip.MustParseAddr("10.0.0.2"))
			return err
		},
		func() error {
			_, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
			return err
		},
	} {
		if d.Prepares {
			require.NoError(t, read())
		}
		requireOne(read)
	}
}

// refusedRoundTrips counts those of commits that are refused.
func refusedRoundTrips(t *testing.T, s Store, requireOne func(calls ...func() error)) {
	t.Helper()
	head, err := s.Get(t.Context(), Head(pooltest.Name).Key)
	require.NoError(t, err)
	requireOne(func() error {
		_, err := storetest.CommitOne(t.Context(), s, Head(pooltest.Name))
		require.ErrorIs(t, err, store.ErrConflict)
		return nil
	})
	requireOne(func() error {
		_, err := storetest.CommitOne(t.Context(), s, head, Create(Allocation(pooltest.Name, "y", "")))
		require.ErrorIs(t, err, store.ErrExists)
		return nil
	})
}

// JoinRoundTrips counts what a handle uses its connection for: one round trip if it is answered, and two if it has the
// turn and commits. Rest returns when no connection is kept any more.
func (d Driver) JoinRoundTrips(t *testing.T, rest func()) {
	g := d.NewGroup(t)
	s, writes := d.connectCounted(t, g.URL, g.Schema, 2)
	leader := g.Open(t)
	for quick := -1; quick < 2; quick++ { // at first it connects
		rest()
		unblock := g.Block(t)
		leads := g.Join(t, leader, "leader")
		begin, before := time.Now(), writes.Load()
		waits := g.Join(t, s, "waits")
		unblock()
		_, err := g.Commit(t, leader, (<-leads).Turn)
		require.NoError(t, err)
		(<-waits).Answered(t)
		if trips := writes.Load() - before; isSlow(begin) {
			quick = notCounted
		} else if quick >= 0 {
			require.Equal(t, int64(1), trips)
		}
		rest()
		begin, before = time.Now(), writes.Load()
		_, err = g.Commit(t, s, g.Lead(t, s, "waits"))
		require.NoError(t, err)
		if trips := writes.Load() - before; isSlow(begin) {
			quick = notCounted
		} else if quick >= 0 {
			require.Equal(t, int64(2), trips)
		}
	}
	keys := []store.Key{g.Head.Key, Head("b").Key, g.Head.Key}
	for i := range 2 {
		before := writes.Load()
		records, err := s.GetAll(t.Context(), keys...)
		require.NoError(t, err)
		require.Len(t, records, 3)
		require.Equal(t, records[0], records[2])
		if i > 0 {
			require.Equal(t, int64(1), writes.Load()-before)
		}
	}
}
