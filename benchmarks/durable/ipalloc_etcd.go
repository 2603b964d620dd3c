package durable

import (
	"context"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

func ipallocEtcd() Kind {
	k := Kind{Name: "ipalloc on etcd", Note: "one Txn a commit", Prepare: onServer(etcdServer)}
	k.Size = func(ctx context.Context, address string) (int64, error) {
		client, _, err := dialEtcd(address)
		if err != nil {
			return 0, err
		}
		defer client.Close()
		status, err := client.Status(ctx, client.Endpoints()[0])
		if err != nil {
			return 0, err
		}
		return status.DbSize, nil
	}
	return ours(k, func(ctx context.Context, address string) (store.Store, error) {
		host, port, place, err := splitPlace(address)
		if err != nil {
			return nil, err
		}
		return etcd.Open(ctx, etcdConfig(host, port), &etcd.Options{Prefix: "/ipalloc/" + place})
	})
}
