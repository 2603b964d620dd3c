package etcdtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// cluster is three members that reach each other through proxies, and clients that reach each of them through another.
type cluster struct {
	members        [3]*server
	peers, clients [3]*proxy.Proxy
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{}
	var initial []string
	for i := range c.members {
		m := newServer(t, false)
		m.config.Name = fmt.Sprint("m", i)
		m.config.TickMs, m.config.ElectionMs = 50, 500
		c.peers[i] = proxy.New(t, m.config.ListenPeerUrls[0].Host)
		c.clients[i] = proxy.New(t, m.addr)
		m.config.AdvertisePeerUrls = urls(c.peers[i].Addr())
		initial = append(initial, fmt.Sprintf("%s=http://%s", m.config.Name, c.peers[i].Addr()))
		c.members[i] = m
	}
	for _, m := range c.members {
		m.config.InitialCluster = strings.Join(initial, ",")
		m.start(t)
	}
	for _, m := range c.members {
		m.ready(t)
	}
	return c
}

// TestThreeMembers stops one member, cuts one off from clients, and then the last two from each other. What can work
// works, what cannot says so, and nothing is given twice.
func TestThreeMembers(t *testing.T) {
	c := startCluster(t)
	ctx := t.Context()
	watching := make(chan struct{}, 10)
	s := openClusterStore(t, c, func(
		ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer,
		options ...grpc.CallOption,
	) (grpc.ClientStream, error) {
		stream, err := open(ctx, d, cc, method, options...)
		watching <- struct{}{}
		return stream, err
	})
	p, err := pool.Create(ctx, s, "blue", parseSpec(t, "10.0.0.0/24"), &pool.Options{CommitTimeout: 20 * time.Second})
	require.NoError(t, err)
	var owners []string
	allocate := func() {
		t.Helper()
		owner := fmt.Sprint("pod-", len(owners))
		_, err := p.Allocate(ctx, pool.Claim{Owner: owner})
		require.NoError(t, err)
		owners = append(owners, owner)
	}
	allocate()
	c.members[0].stop()
	allocate()
	c.clients[1].Refuse()
	c.clients[1].Cut()
	allocate()
	_, err = p.Release(ctx, pool.Held{Owner: owners[0]})
	require.NoError(t, err)
	owners = append(owners[1:], "pod-0")
	_, err = p.Allocate(ctx, pool.Claim{Owner: "pod-0"})
	require.NoError(t, err)
	h, err := s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)

	watched := make(chan error, 1)
	go func() {
		_, err := s.Watch(ctx, h.Key, h.Revision)
		watched <- err
	}()
	<-watching
	c.peers[1].Stall() // no member has a majority
	c.peers[2].Stall()
	short, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	_, err = storetest.CommitOne(short, s, h, create(claim("cut off")))
	require.ErrorIs(t, err, store.ErrUnknown)
	_, err = s.Get(short, h.Key)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a stale answer would be worse than none")
	require.Error(t, <-watched, "a watch that cannot see says so")

	for i := range c.members {
		c.peers[i].Heal()
		c.clients[i].Heal()
	}
	c.members[0].start(t)
	c.members[0].ready(t)
	p, err = pool.Open(ctx, s, "blue", nil)
	require.NoError(t, err)
	allocate()
	allocate()
	for _, m := range c.members {
		requireSound(t, openStore(t, m.addr), nil, owners...)
	}
}

// openClusterStore opens a store that knows all members.
func openClusterStore(t *testing.T, c *cluster, streams grpc.StreamClientInterceptor) *etcd.Store {
	t.Helper()
	var addrs []string
	for _, p := range c.clients {
		addrs = append(addrs, p.Addr())
	}
	config := clientConfig(addrs...)
	config.DialOptions = append(config.DialOptions, grpc.WithChainStreamInterceptor(streams))
	s, err := etcd.Open(t.Context(), config, nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}
