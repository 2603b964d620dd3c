// Package etcd is the driver for etcd:
//
//	etcd://user:password@10.0.0.1:2379,10.0.0.2:2379/prefix?ca=FILE&cert=FILE&key=FILE
package etcd

import (
	"context"
	"net/url"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// Driver returns the driver.
func Driver() driver.Driver {
	return driver.Driver{Scheme: "etcd", Shared: true, Check: etcd.CheckURL, Open: open}
}

func open(ctx context.Context, u *url.URL, _ bool) (store.Store, error) { return etcd.OpenURL(ctx, u) }
