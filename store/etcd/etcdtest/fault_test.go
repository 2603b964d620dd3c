package etcdtest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// rig is a server, a store that reaches it through a proxy, and one that reaches it directly.
type rig struct {
	server          *server
	proxy           *proxy.Proxy
	proxied, direct *etcd.Store
}

func newRig(t *testing.T) rig {
	t.Helper()
	s := startServer(t)
	proxy := proxy.New(t, s.addr)
	return rig{s, proxy, openStore(t, proxy.Addr()), openStore(t, s.addr)}
}

// requireSound checks that a pool is as its records say, and that just these owners hold an address each, of their own.
func requireSound(t *testing.T, s store.Store, server *server, owners ...string) {
	t.Helper()
	p, err := pool.Open(t.Context(), s, "blue", nil)
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), "%v", report)
	var found []string
	holders := map[string]string{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		found = append(found, a.Owner)
		require.Empty(t, holders[a.Prefixes[0].String()], "%v is held twice", a.Prefixes)
		holders[a.Prefixes[0].String()] = a.Owner
	}
	require.ElementsMatch(t, owners, found)
	if server != nil {
		requireExactIndexes(t, server, "/ipalloc/")
	}
}

// seen waits until the record is there, as another handle sees it.
func seen(t *testing.T, s store.Store, key store.Key) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := s.Watch(ctx, key, 0)
	require.NoError(t, err)
}

// TestAnswerLost loses the answers to commits that have taken effect: a store says that it does not know, and a pool
// finds it out.
func TestAnswerLost(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	h, err := storetest.CommitOne(ctx, r.proxied, head("a"))
	require.NoError(t, err)
	held := r.proxy.HoldReply("claim-of-a-store")
	failed := make(chan error, 1)
	go func() {
		_, err := storetest.CommitOne(ctx, r.proxied, h, create(claim("claim-of-a-store", "10.0.0.1/32")))
		failed <- err
	}()
	<-held
	seen(t, r.direct, claim("claim-of-a-store").Key)
	r.proxy.Heal() // the answer arrives late
	require.NoError(t, <-failed)

	h, err = r.direct.Get(ctx, h.Key)
	require.NoError(t, err)
	held = r.proxy.HoldReply("another-claim")
	go func() {
		_, err := storetest.CommitOne(ctx, r.proxied, h, create(claim("another-claim", "10.0.0.2/32")))
		failed <- err
	}()
	<-held
	seen(t, r.direct, claim("another-claim").Key)
	r.proxy.Cut()
	require.ErrorIs(t, <-failed, store.ErrUnknown)
	r.proxy.Heal()

	p, err := pool.Create(ctx, r.proxied, "blue", parseSpec(t, "10.0.0.0/24"), nil)
	require.NoError(t, err)
	held = r.proxy.HoldReply("pod-1")
	granted := make(chan pool.Allocation, 1)
	go func() {
		a, err := p.Allocate(ctx, pool.Claim{Owner: "pod-1"})
		failed <- err
		granted <- a
	}()
	<-held
	seen(t, r.direct, store.Key{Kind: store.KindAllocation, Pool: "blue", Name: "pod-1"})
	r.proxy.Cut()
	require.NoError(t, <-failed)
	require.Equal(t, "10.0.0.1/32", (<-granted).Prefixes[0].String())
	r.proxy.Heal()
	requireSound(t, r.direct, r.server, "pod-1")
}

// TestRequestLost cuts connections in the middle of a commit, at each of many places. What is said must be what
// happened, and a pool must come to its end.
func TestRequestLost(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	p, err := pool.Create(ctx, r.proxied, "blue", parseSpec(t, "10.0.0.0/24"), nil)
	require.NoError(t, err)
	var owners []string
	for n := 0; n < 900; n += 60 {
		h, err := r.direct.Get(ctx, store.Key{Kind: store.KindPool, Pool: "a"})
		if errors.Is(err, store.ErrNotFound) {
			h, err = head("a"), nil
		}
		require.NoError(t, err)
		key := claim(fmt.Sprint("claim ", n)).Key
		r.proxy.CutAfterRequestBytes(n)
		_, err = storetest.CommitOne(ctx, r.proxied, h, create(store.Record{Key: key}))
		r.proxy.Heal()
		_, missing := r.direct.Get(ctx, key)
		switch {
		case err == nil:
			require.NoError(t, missing)
		case !errors.Is(err, store.ErrUnknown):
			require.ErrorIs(t, missing, store.ErrNotFound, "%v", err)
		}

		owner := fmt.Sprint("pod-", n)
		r.proxy.CutAfterRequestBytes(n)
		_, err = p.Allocate(ctx, pool.Claim{Owner: owner})
		r.proxy.Heal()
		require.NoError(t, err)
		owners = append(owners, owner)
	}
	requireSound(t, r.direct, r.server, owners...)
}

// TestNeverSent has no server to reach: the commit says so, and not that its outcome is unknown.
func TestNeverSent(t *testing.T) {
	r := newRig(t)
	h, err := storetest.CommitOne(t.Context(), r.proxied, head("a"))
	require.NoError(t, err)
	r.proxy.Refuse()
	r.proxy.Cut()
	err = store.ErrUnknown
	for errors.Is(err, store.ErrUnknown) { // until the client knows that its connection is gone
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = storetest.CommitOne(ctx, r.proxied, h, create(claim("x")))
		cancel()
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.proxy.Heal()
	_, err = storetest.CommitOne(t.Context(), r.proxied, h, create(claim("x")))
	require.NoError(t, err)
}

// TestSlowServer gives up on an answer that comes too late, and waits for one that is slow.
func TestSlowServer(t *testing.T) {
	r := newRig(t)
	p, err := pool.Create(t.Context(), r.proxied, "blue", parseSpec(t, "10.0.0.0/24"), nil)
	require.NoError(t, err)
	h, err := storetest.CommitOne(t.Context(), r.proxied, head("a"))
	require.NoError(t, err)
	r.proxy.Delay(300 * time.Millisecond)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "pod-1"})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	_, err = storetest.CommitOne(ctx, r.proxied, h, create(claim("late")))
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.proxy.Heal()
	requireSound(t, r.direct, nil, "pod-1")
}

// TestServerRestart has a pool at work while the server stops and comes back with its data.
func TestServerRestart(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	p, err := pool.Create(t.Context(), s, "blue", parseSpec(t, "10.0.0.0/16"), nil)
	require.NoError(t, err)
	var owners []string
	var working sync.WaitGroup
	var stop atomic.Bool
	results := make(chan string, 10_000)
	for w := range 4 {
		working.Go(func() {
			for i := 0; !stop.Load(); i++ {
				owner := fmt.Sprintf("pod-%d-%d", w, i)
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: owner}); err != nil {
					t.Errorf("allocate: %v", err)
				}
				results <- owner
			}
		})
	}
	for range 3 {
		for range 20 {
			owners = append(owners, <-results)
		}
		server.restart(t)
	}
	stop.Store(true)
	working.Wait()
	close(results)
	for owner := range results {
		owners = append(owners, owner)
	}
	requireSound(t, s, server, owners...)
}

// TestNoSpace fills a server up. Commits are refused, and nothing but that; when there is space again they go on.
func TestNoSpace(t *testing.T) {
	server := newServer(t, false)
	server.config.QuotaBackendBytes = 4 << 20
	server.start(t)
	server.ready(t)
	s, client := openStore(t, server.addr), connect(t, clientConfig(server.addr))
	ctx := t.Context()
	p, err := pool.Create(ctx, s, "blue", parseSpec(t, "10.0.0.0/24"), nil)
	require.NoError(t, err)
	_, err = p.Allocate(ctx, pool.Claim{Owner: "before"})
	require.NoError(t, err)
	for n := 0; err == nil; n++ {
		require.Less(t, n, 1000)
		_, err = client.Put(ctx, fmt.Sprint("fill ", n), strings.Repeat("x", 100<<10))
	}
	require.ErrorIs(t, err, rpctypes.ErrNoSpace)

	for range 3 {
		_, err = p.Allocate(ctx, pool.Claim{Owner: "refused"})
		require.ErrorIs(t, err, rpctypes.ErrNoSpace)
		require.ErrorContains(t, err, "database space exceeded")
		require.NotErrorIs(t, err, store.ErrUnknown)
	}
	_, err = pool.Create(ctx, s, "green", parseSpec(t, "10.0.0.0/24"), nil)
	require.ErrorIs(t, err, rpctypes.ErrNoSpace)
	require.NotErrorIs(t, err, store.ErrUnknown)
	requireSound(t, s, server, "before")

	deleted, err := client.Delete(ctx, "fill ", clientv3.WithPrefix())
	require.NoError(t, err)
	_, err = client.Compact(ctx, deleted.Header.Revision, clientv3.WithCompactPhysical())
	require.NoError(t, err)
	_, err = client.Defragment(ctx, server.addr)
	require.NoError(t, err)
	_, err = client.AlarmDisarm(ctx, &clientv3.AlarmMember{})
	require.NoError(t, err)
	_, err = p.Allocate(ctx, pool.Claim{Owner: "after"})
	require.NoError(t, err)
	requireSound(t, s, server, "before", "after")
}

// answering starts a server whose answers to transactions that write a test may replace, before or after the work is
// done.
func answering(t *testing.T) (s *server, before, after *atomic.Pointer[error]) {
	t.Helper()
	before, after = &atomic.Pointer[error]{}, &atomic.Pointer[error]{}
	s = newServer(t, false)
	s.config.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainUnaryInterceptor(
		func(ctx context.Context, request any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
			txn, ok := request.(*pb.TxnRequest)
			if !ok || len(txn.Compare) == 0 {
				return handle(ctx, request)
			}
			if err := before.Swap(nil); err != nil {
				return nil, *err
			}
			response, err := handle(ctx, request)
			if said := after.Swap(nil); said != nil {
				return nil, *said
			}
			return response, err
		})}
	s.start(t)
	s.ready(t)
	return s, before, after
}

// TestOutcomes has a server say what servers say, of commits that have taken effect and of others.
func TestOutcomes(t *testing.T) {
	server, before, after := answering(t)
	s := openStore(t, server.addr)
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	n := 0
	commit := func(t *testing.T) (store.Key, error) {
		var err error
		if h, err = s.Get(t.Context(), h.Key); err != nil {
			return store.Key{}, err
		}
		n++
		r := claim(fmt.Sprint(n))
		_, err = storetest.CommitOne(t.Context(), s, h, create(r))
		return r.Key, err
	}
	for _, said := range []error{
		status.Error(codes.Canceled, "context canceled"), status.Error(codes.DeadlineExceeded, "context deadline exceeded"),
		status.Error(codes.Unavailable, "error reading from server: EOF"), status.Error(codes.Internal, "stream terminated"),
		status.Error(codes.Unknown, "raft proposal dropped"), status.Error(codes.Aborted, "?"),
		status.Error(codes.ResourceExhausted, "?"),
		rpctypes.ErrGRPCTimeout, rpctypes.ErrGRPCTimeoutDueToLeaderFail, rpctypes.ErrGRPCTimeoutDueToConnectionLost,
		rpctypes.ErrGRPCStopped, rpctypes.ErrGRPCLeaderChanged, rpctypes.ErrGRPCNoSpace,
	} {
		t.Run("effect/"+status.Convert(said).Message(), func(t *testing.T) {
			after.Store(&said)
			key, err := commit(t)
			require.ErrorIs(t, err, store.ErrUnknown)
			require.NotErrorIs(t, err, store.ErrConflict)
			_, err = s.Get(t.Context(), key)
			require.NoError(t, err, "the server has committed it")
		})
	}
	for said, want := range map[error]error{
		rpctypes.ErrGRPCPermissionDenied:                     rpctypes.ErrPermissionDenied,
		rpctypes.ErrGRPCNoSpace:                              rpctypes.ErrNoSpace,
		rpctypes.ErrGRPCRequestTooLarge:                      store.ErrTooLarge,
		rpctypes.ErrGRPCTooManyOps:                           store.ErrTooLarge,
		rpctypes.ErrGRPCNotCapable:                           rpctypes.ErrNotCapable,
		rpctypes.ErrGRPCCorrupt:                              rpctypes.ErrCorrupt,
		status.Error(codes.PermissionDenied, "says a proxy"): nil,
		status.Error(codes.ResourceExhausted, "grpc: received message larger than max (3 vs. 2)"): store.ErrTooLarge,
	} {
		t.Run("no effect/"+status.Convert(said).Message(), func(t *testing.T) {
			before.Store(&said)
			key, err := commit(t)
			require.Error(t, err)
			require.NotErrorIs(t, err, store.ErrUnknown)
			if want != nil {
				require.ErrorIs(t, err, want)
			}
			_, err = s.Get(t.Context(), key)
			require.ErrorIs(t, err, store.ErrNotFound)
		})
	}
}

// TestNoSilentRetry is why attempt exists: the client of etcd tries a transaction again after such an answer.
func TestNoSilentRetry(t *testing.T) {
	server, _, after := answering(t)
	for _, code := range []codes.Code{codes.Canceled, codes.DeadlineExceeded} {
		client := connect(t, clientConfig(server.addr))
		said := status.Error(code, "the proxy has given up")
		after.Store(&said)
		response, err := client.Txn(t.Context()).If(clientv3.Compare(clientv3.ModRevision(code.String()), "=", 0)).
			Then(clientv3.OpPut(code.String(), "")).Commit()
		require.NoError(t, err)
		require.False(t, response.Succeeded, "the client does not do that any more: attempt has become simpler")

		s, err := etcd.New(client, &etcd.Options{Prefix: code.String()})
		require.NoError(t, err)
		after.Store(&said)
		_, err = storetest.CommitOne(t.Context(), s, head("a"))
		require.ErrorIs(t, err, store.ErrUnknown)
		require.NotErrorIs(t, err, store.ErrConflict)
		require.NoError(t, s.Close())
	}
}

// TestTooLarge finds the limits of the defaults, in figures, and those of servers that take less than the options say.
func TestTooLarge(t *testing.T) {
	server := newServer(t, false)
	server.config.MaxTxnOps, server.config.MaxRequestBytes = 20, 50_000
	server.start(t)
	server.ready(t)
	s := openStore(t, server.addr)
	writes := func(n, size int) (all []store.Write) {
		for i := range n {
			r := claim(fmt.Sprint(i), fmt.Sprintf("10.0.0.%d/32", i))
			r.State = strings.Repeat("s", size)
			all = append(all, create(r))
		}
		return all
	}
	for _, c := range []struct {
		writes      []store.Write
		what        string
		size, limit int64
	}{
		{writes(128, 0), "heads and writes of a commit", 129, 128},
		{writes(127, 0), "operations of a commit", 256, 128}, // with what voids asks, since no room is left to look for them
		{writes(30, 0), "operations of a commit", 61, 0},
		{writes(15, 1000), "operations of a commit", 31, 0},
	} {
		_, err := storetest.CommitOne(t.Context(), s, head("a"), c.writes...)
		var tooLarge *store.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, store.TooLargeError{What: c.what, Size: c.size, Limit: c.limit}, *tooLarge)
	}
	large := head("a")
	for _, c := range []struct {
		size  int
		limit int64
	}{{60_000, 0}, {700_000, 0}, {1_600_000, 1_572_864}} {
		large.Data = []byte(`"` + strings.Repeat("x", c.size) + `"`)
		_, err := storetest.CommitOne(t.Context(), s, large)
		var tooLarge *store.TooLargeError
		require.ErrorAs(t, err, &tooLarge, "%d", c.size)
		require.Equal(t, "commit in bytes", tooLarge.What)
		require.Greater(t, tooLarge.Size, int64(c.size))
		require.Equal(t, c.limit, tooLarge.Limit)
	}
	_, err := s.Get(t.Context(), large.Key)
	require.ErrorIs(t, err, store.ErrNotFound)

	fitting, err := etcd.New(connect(t, clientConfig(server.addr)), &etcd.Options{MaxTxnOps: 20, MaxRequestBytes: 50_000})
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), fitting, head("a"), writes(16, 0)...) // 33 operations, nested
	require.NoError(t, err)
	requireExactIndexes(t, server, "/ipalloc/")
}
