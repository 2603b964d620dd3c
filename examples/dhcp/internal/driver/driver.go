// Package driver opens the store that a URL names:
//
//	file:///var/lib/dhcpalloc/leases.db                    a bbolt file, of one process at a time
//	sqlite:///var/lib/dhcpalloc/leases.sqlite              a SQLite file, which several processes of a machine share
//	etcd://user:password@10.0.0.1:2379,10.0.0.2:2379/prefix?ca=FILE&cert=FILE&key=FILE
//	postgres://user:password@db.example/name?schema=dhcp   with any parameters of libpq
package driver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

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
		return openEtcd(ctx, u)
	case "postgres", "postgresql":
		return openPostgres(ctx, u)
	}
	return nil, fmt.Errorf("%q is none of the schemes file, sqlite, etcd and postgres", u.Scheme)
}

// openFile makes the folder of the file, too. A bbolt file that another process has open is an error at once: that is
// another server, which does not go away.
func openFile(ctx context.Context, u *url.URL) (store.Store, error) {
	if u.Host != "" || u.Opaque != "" || u.User != nil || !filepath.IsAbs(u.Path) {
		return nil, fmt.Errorf("want the absolute path of a file after %s://", u.Scheme)
	}
	if err := checkQuery(u); err != nil {
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

func openPostgres(ctx context.Context, u *url.URL) (store.Store, error) {
	query := u.Query()
	schema := query.Get("schema") // a parameter of this driver alone
	query.Del("schema")
	other := *u
	other.RawQuery = query.Encode()
	return postgres.Open(ctx, other.String(), &postgres.Options{Schema: schema})
}

func openEtcd(ctx context.Context, u *url.URL) (store.Store, error) {
	endpoints := strings.Split(u.Host, ",")
	for _, endpoint := range endpoints {
		if _, _, err := net.SplitHostPort(endpoint); err != nil {
			return nil, errors.New("want HOST:PORT of one or several servers, as in etcd://10.0.0.1:2379,10.0.0.2:2379")
		}
	}
	if err := checkQuery(u, "ca", "cert", "key"); err != nil {
		return nil, err
	}
	secure, err := tlsConfig(u.Query())
	if err != nil {
		return nil, err
	}
	config := clientv3.Config{Endpoints: endpoints, TLS: secure, Logger: zap.NewNop()}
	if u.User != nil {
		config.Username = u.User.Username()
		config.Password, _ = u.User.Password()
	}
	return etcd.Open(ctx, config, &etcd.Options{Prefix: u.Path})
}

// tlsConfig is nil for a connection without TLS.
func tlsConfig(files url.Values) (*tls.Config, error) {
	if files.Has("cert") != files.Has("key") {
		return nil, errors.New("it has only one of the parameters cert and key")
	}
	if !files.Has("ca") && !files.Has("cert") {
		return nil, nil //nolint:nilnil // a nil config is how a client is told to do without TLS
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if files.Has("ca") {
		text, err := os.ReadFile(files.Get("ca"))
		if err != nil {
			return nil, err
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("%s has no certificate", files.Get("ca"))
		}
	}
	if files.Has("cert") {
		pair, err := tls.LoadX509KeyPair(files.Get("cert"), files.Get("key"))
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// checkQuery returns an error if the URL has a parameter of another name than these.
func checkQuery(u *url.URL, known ...string) error {
	for name := range u.Query() {
		if !slices.Contains(known, name) {
			return fmt.Errorf("it has the unknown parameter %q", name)
		}
	}
	return nil
}
