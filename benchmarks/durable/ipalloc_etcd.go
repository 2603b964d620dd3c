package durable

import (
	"context"
	"net"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

func ipallocEtcd() Kind {
	k := Kind{Name: "ipalloc on etcd", Note: "one Txn a commit", Prepare: onServer(etcdServer)}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return nil, err
		}
		config := clientv3.Config{Endpoints: []string{net.JoinHostPort(host, port)}, DialTimeout: 5 * time.Second}
		return etcd.Open(ctx, config, &etcd.Options{Prefix: "/ipalloc/" + place})
	})
}
