// Package etcd is the driver for etcd:
//
//	etcd://user:password@10.0.0.1:2379,10.0.0.2:2379/prefix?ca=FILE&cert=FILE&key=FILE
package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// Driver returns the driver.
func Driver() driver.Driver {
	return driver.Driver{Scheme: "etcd", Shared: true, Check: check, Open: open}
}

func check(u *url.URL) error {
	for _, endpoint := range strings.Split(u.Host, ",") {
		if _, _, err := net.SplitHostPort(endpoint); err != nil {
			return errors.New("want HOST:PORT of one or several servers, as in etcd://10.0.0.1:2379,10.0.0.2:2379")
		}
	}
	if u.Query().Has("cert") != u.Query().Has("key") {
		return errors.New("it has only one of the parameters cert and key")
	}
	return driver.CheckQuery(u, "ca", "cert", "key")
}

func open(ctx context.Context, u *url.URL, _ bool) (store.Store, error) {
	secure, err := tlsConfig(u.Query())
	if err != nil {
		return nil, err
	}
	config := clientv3.Config{Endpoints: strings.Split(u.Host, ","), TLS: secure, Logger: zap.NewNop()}
	if u.User != nil {
		config.Username = u.User.Username()
		config.Password, _ = u.User.Password()
	}
	return etcd.Open(ctx, config, &etcd.Options{Prefix: u.Path})
}

// tlsConfig is nil for a connection without TLS.
func tlsConfig(files url.Values) (*tls.Config, error) {
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
