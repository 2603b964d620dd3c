package etcdtest_test

import (
	"context"
	"fmt"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// server is a real etcd server in this process.
type server struct {
	config *embed.Config
	etcd   *embed.Etcd
	addr   string // of clients, as host:port
}

// freeAddr returns an address of 127.0.0.1 that nothing listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	require.NoError(t, err)
	return addr
}

func urls(addr string) []url.URL { return []url.URL{{Scheme: "http", Host: addr}} }

// newServer returns a server that has not been started. Its data do not reach the disk, unless durable.
func newServer(t testing.TB, durable bool) *server {
	t.Helper()
	addr, peer := freeAddr(t), freeAddr(t)
	c := embed.NewConfig()
	c.Name, c.Dir = "m0", t.TempDir()
	c.ListenClientUrls, c.AdvertiseClientUrls = urls(addr), urls(addr)
	c.ListenPeerUrls, c.AdvertisePeerUrls = urls(peer), urls(peer)
	c.InitialCluster = fmt.Sprintf("%s=http://%s", c.Name, peer)
	c.LogLevel, c.LogOutputs = "fatal", []string{"/dev/null"}
	c.TickMs, c.ElectionMs = 10, 100
	// The server sets this, but its package does not. 0 logs all requests.
	c.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	c.UnsafeNoFsync = !durable
	return &server{config: c, addr: addr}
}

// startServer starts a server that is stopped at the end of the test.
func startServer(t testing.TB) *server {
	t.Helper()
	s := newServer(t, false)
	s.start(t)
	s.ready(t)
	return s
}

func (s *server) start(t testing.TB) {
	t.Helper()
	e, err := embed.StartEtcd(s.config)
	require.NoError(t, err)
	s.etcd = e
	t.Cleanup(s.stop)
}

func (s *server) stop() {
	if s.etcd != nil {
		s.etcd.Close()
		s.etcd = nil
	}
}

func (s *server) ready(t testing.TB) {
	t.Helper()
	select {
	case <-s.etcd.Server.ReadyNotify():
	case <-time.After(time.Minute):
		require.FailNow(t, "the server does not become ready")
	}
}

// restart stops the server and starts it again with what it has on disk.
func (s *server) restart(t testing.TB) {
	t.Helper()
	s.stop()
	s.start(t)
	s.ready(t)
}

// clientConfig is how tests reach the servers at addrs.
func clientConfig(addrs ...string) clientv3.Config {
	return clientv3.Config{
		Endpoints: addrs, Logger: zap.NewNop(), DialTimeout: 5 * time.Second,
		BackoffWaitBetween: time.Millisecond,
	}
}

// connect returns a client that is closed at the end of the test.
func connect(t testing.TB, config clientv3.Config) *clientv3.Client {
	t.Helper()
	client, err := clientv3.New(config)
	require.NoError(t, err)
	t.Cleanup(func() { client.Close() })
	return client
}

// openStore returns a store at addr that is closed at the end of the test.
func openStore(t testing.TB, addr string) *etcd.Store {
	t.Helper()
	s, err := etcd.New(connect(t, clientConfig(addr)), nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

// backends returns what makes backends with a prefix each on one server, half of them with a client that all handles
// share.
func backends(t testing.TB, s *server) func(testing.TB) storetest.Backend {
	shared := connect(t, clientConfig(s.addr))
	var n atomic.Int64
	return func(testing.TB) storetest.Backend {
		i := n.Add(1)
		options := &etcd.Options{Prefix: fmt.Sprintf("/test/%d/", i)}
		return storetest.Backend{Open: func(ctx context.Context) (store.Store, error) {
			if i%2 == 0 {
				return etcd.New(shared, options)
			}
			return etcd.Open(ctx, clientConfig(s.addr), options)
		}}
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, backends(t, startServer(t))) }

// TestConformanceForgetful has nearly nothing remembered, and few operations in a transaction.
func TestConformanceForgetful(t *testing.T) {
	s := startServer(t)
	var n atomic.Int64
	storetest.Run(t, func(testing.TB) storetest.Backend {
		options := &etcd.Options{Prefix: fmt.Sprint("forgetful-", n.Add(1)), Remembered: 1, MaxTxnOps: 110}
		return storetest.Backend{Open: func(ctx context.Context) (store.Store, error) {
			return etcd.Open(ctx, clientConfig(s.addr), options)
		}}
	})
}
