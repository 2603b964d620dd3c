// Package driver opens the store that a URL names:
//
//	file:///var/lib/dhcpalloc/leases.db                    a bbolt file, of one process at a time
//	sqlite:///var/lib/dhcpalloc/leases.sqlite              a SQLite file, which several processes of a machine share
//	etcd://user:password@10.0.0.1:2379,10.0.0.2:2379/prefix?ca=FILE&cert=FILE&key=FILE
//	postgres://user:password@db.example/name?schema=dhcp   with any parameters of libpq
package driver

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/internal/storeurl"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

// Open opens the store. The caller closes it. The errors quote the URL without its password.
func Open(ctx context.Context, text string) (store.Store, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("store: it is no URL, such as file:///var/lib/dhcpalloc/leases.db")
	}
	s, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", u.Redacted(), err)
	}
	return s, nil
}

func open(ctx context.Context, u *url.URL) (store.Store, error) {
	switch u.Scheme {
	case "file", "sqlite":
		return openFile(ctx, u)
	case "etcd":
		return etcd.OpenURL(ctx, u)
	case "postgres", "postgresql":
		return postgres.OpenURL(ctx, u, nil)
	}
	return nil, fmt.Errorf("%q is none of the schemes file, sqlite, etcd and postgres", u.Scheme)
}

// openFile makes the folder of the file, too. A bbolt file that another process has open is an error at once: that is
// another server, which does not go away.
func openFile(ctx context.Context, u *url.URL) (store.Store, error) {
	if u.Host != "" || u.Opaque != "" || u.User != nil || !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("want the absolute path of a file after %s://", u.Scheme)
	}
	if _, err := storeurl.Parameters(u); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(u.Path), 0o755); err != nil {
		return nil, err
	}
	if u.Scheme == "sqlite" {
		return sqlite.Open(ctx, u.Path, nil)
	}
	return bolt.Open(ctx, u.Path, nil)
}
