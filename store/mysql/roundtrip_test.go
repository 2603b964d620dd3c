package mysql_test

import (
	"context"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	driver "github.com/go-sql-driver/mysql"
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

// counted makes connections count in writes.
func counted(writes *atomic.Int64) func(*driver.Config) {
	return func(config *driver.Config) {
		config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			return countedConn{conn, writes}, err
		}
	}
}

// TestRoundTrips counts what the connection to the server is used for.
func TestRoundTrips(t *testing.T) {
	var writes atomic.Int64
	s := openOn(t, connect(t, sharedServer(t).dsn(), counted(&writes)), 1, newSchema())
	p, err := pool.Create(t.Context(), s, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)
	trips := func(want int64, do func() error) {
		t.Helper()
		before := writes.Load()
		require.NoError(t, do())
		require.Equal(t, want, writes.Load()-before)
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
	for range 3 {
		trips(1, allocate("x"))
		trips(1, release("x"))
	}
	require.NoError(t, allocate("y")())
	find := func() error {
		_, err := s.Find(t.Context(), pooltest.Name, netip.MustParseAddr("10.0.0.2"))
		return err
	}
	get := func() error {
		_, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
		return err
	}
	conflict := func() error {
		_, err := storetest.CommitOne(t.Context(), s,
			store.Record{Key: store.Key{Kind: store.KindPool, Pool: pooltest.Name}})
		require.ErrorIs(t, err, store.ErrConflict)
		return nil
	}
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: pooltest.Name})
	require.NoError(t, err)
	exists := func() error {
		standing := store.Write{
			Op: store.Create, Record: store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: pooltest.Name, Name: "y"}},
		}
		_, err := storetest.CommitOne(t.Context(), s, head, standing)
		require.ErrorIs(t, err, store.ErrExists)
		return nil
	}
	trips(1, find)
	trips(1, get)
	trips(1, conflict)
	trips(1, exists)
}

// TestJoinRoundTrips counts what a handle uses its connection for: one round trip if it is answered, and two if it has
// the turn and commits.
func TestJoinRoundTrips(t *testing.T) {
	g := newGroup(t)
	var writes atomic.Int64
	s := openOn(t, connect(t, g.dsn, counted(&writes)), 2, g.schema)
	leader := g.open(t)
	for i := range 3 { // at first it connects
		unblock := g.block(t)
		leads := g.join(t, t.Context(), leader, "leader")
		before := writes.Load()
		waits := g.join(t, t.Context(), s, "waits")
		unblock()
		_, err := g.commit(t, leader, (<-leads).turn)
		require.NoError(t, err)
		(<-waits).answered(t)
		if after := writes.Load(); i > 0 {
			require.Equal(t, int64(1), after-before)
		}
		before = writes.Load()
		_, err = g.commit(t, s, g.lead(t, s, "waits"))
		require.NoError(t, err)
		if i > 0 {
			require.Equal(t, int64(2), writes.Load()-before)
		}
	}
	keys := []store.Key{g.head.Key, head("b").Key, g.head.Key}
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
