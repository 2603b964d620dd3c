package durable

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	goipam "github.com/metal-stack/go-ipam"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/ipalloc/ipalloc/internal/freeport"
)

const etcdServer = "etcd"

// startEtcd starts a server, and returns the address for its clients.
func startEtcd(dir string) (string, func() error, error) {
	e, err := embedEtcd(dir)
	if err != nil {
		return "", nil, err
	}
	stop := func() error {
		e.Close()
		return nil
	}
	return e.Config().ListenClientUrls[0].Host, stop, nil
}

// embedEtcd starts a server of one member on the loopback interface, with etcd's defaults.
func embedEtcd(dir string) (*embed.Etcd, error) {
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = dir, "panic", []string{os.DevNull}
	cfg.QuotaBackendBytes = 8 << 30
	// The server's command sets this, its package does not: with 0 every request is logged.
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	for _, urls := range []*[]url.URL{&cfg.ListenClientUrls, &cfg.ListenPeerUrls} {
		address, err := freeport.Addr()
		if err != nil {
			return nil, err
		}
		*urls = []url.URL{{Scheme: "http", Host: address}}
	}
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		e.Close()
		return nil, errors.New("etcd was not ready after a minute")
	}
	return e, nil
}

// onServer is the Prepare of what is kept on a server of that sort. Places are not removed before the server's end.
func onServer(sort string) func(context.Context, *Servers, string) (string, func() error, error) {
	return func(_ context.Context, servers *Servers, _ string) (string, func() error, error) {
		address, err := servers.place(sort)
		return address, func() error { return nil }, err
	}
}

// splitPlace is the server and the name of a place on it.
func splitPlace(address string) (host, port, place string, err error) {
	server, place, _ := strings.Cut(address, "/")
	host, port, err = net.SplitHostPort(server)
	return host, port, place, err
}

func dialEtcd(address string) (*clientv3.Client, string, error) {
	host, port, place, err := splitPlace(address)
	if err != nil {
		return nil, "", err
	}
	client, err := clientv3.New(etcdConfig(host, port))
	return client, place, err
}

// etcdConfig is a client's, which logs nothing.
func etcdConfig(host, port string) clientv3.Config {
	return clientv3.Config{
		Endpoints: []string{net.JoinHostPort(host, port)}, DialTimeout: 5 * time.Second, Logger: zap.NewNop(),
	}
}

func bareEtcd() Kind {
	return Kind{
		Name: "bare etcd", Module: "go.etcd.io/etcd/client/v3", Floor: true, Grows: true,
		Note:    "no allocator: one value of 200 bytes put, or deleted, in one Txn",
		Prepare: onServer(etcdServer),
		Open: func(_ context.Context, address string, prefix netip.Prefix) (Pool, error) {
			client, place, err := dialEtcd(address)
			if err != nil {
				return nil, err
			}
			return &bareEtcdPlace{client: client, place: "bare/" + place + "/", first: prefix.Addr().As4()}, nil
		},
	}
}

type bareEtcdPlace struct {
	client *clientv3.Client
	place  string
	first  [4]byte
	calls  atomic.Uint32
	swaps  int64 // the revision that the last one made
}

// Allocate returns the number of the call as an address.
func (b *bareEtcdPlace) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	addr := b.first
	binary.BigEndian.PutUint32(addr[:], binary.BigEndian.Uint32(b.first[:])+b.calls.Add(1))
	_, err := b.client.Txn(ctx).Then(clientv3.OpPut(b.place+owner, strings.Repeat("x", 200))).Commit()
	return netip.AddrFrom4(addr), err
}

func (b *bareEtcdPlace) Release(ctx context.Context, owner string) error {
	_, err := b.client.Txn(ctx).Then(clientv3.OpDelete(b.place + owner)).Commit()
	return err
}

// Fill puts many values in each Txn; etcd takes 128 at most.
func (b *bareEtcdPlace) Fill(ctx context.Context, owners []string) error {
	const atOnce = 100
	for i := 0; i < len(owners); i += atOnce {
		var ops []clientv3.Op
		for _, owner := range owners[i:min(i+atOnce, len(owners))] {
			ops = append(ops, clientv3.OpPut(b.place+owner, strings.Repeat("x", 200)))
		}
		if _, err := b.client.Txn(ctx).Then(ops...).Commit(); err != nil {
			return err
		}
	}
	return nil
}

// Swap implements Swapper. A key that is not there has revision 0.
func (b *bareEtcdPlace) Swap(ctx context.Context) error {
	key := b.place + swapOwner
	answer, err := b.client.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(key), "=", b.swaps)).
		Then(clientv3.OpPut(key, swapValue(int(b.swaps)))).Commit()
	if err == nil && !answer.Succeeded {
		err = errSwapped
	}
	if err == nil {
		b.swaps = answer.Header.Revision
	}
	return err
}

func (b *bareEtcdPlace) Close() error { return b.client.Close() }

func goIPAMEtcd() Kind {
	return Kind{
		Name: "go-ipam etcd", Module: goIPAMModule,
		Note:    "a prefix with all its addresses is one value; no owners: the caller keeps the address",
		Prepare: prepareGoIPAMEtcd,
		Open: func(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
			storage, err := openGoIPAMEtcd(ctx, address)
			if err != nil {
				return nil, err
			}
			return openGoIPAM(ctx, storage, prefix)
		},
	}
}

func openGoIPAMEtcd(ctx context.Context, address string) (goipam.Storage, error) {
	host, port, _, err := splitPlace(address)
	if err != nil {
		return nil, err
	}
	return goipam.NewEtcd(ctx, host, port, nil, nil, true)
}

// prepareGoIPAMEtcd empties the default namespace of go-ipam. A dump cannot be loaded into another
// namespace, so there is one place at a time.
func prepareGoIPAMEtcd(ctx context.Context, servers *Servers, _ string) (string, func() error, error) {
	address, err := servers.place(etcdServer)
	if err != nil {
		return "", nil, err
	}
	storage, err := openGoIPAMEtcd(ctx, address)
	if err != nil {
		return "", nil, err
	}
	namespaces, err := storage.ListNamespaces(ctx)
	for _, namespace := range namespaces {
		err = errors.Join(err, storage.DeleteAllPrefixes(ctx, namespace))
	}
	return address, func() error { return nil }, err
}
