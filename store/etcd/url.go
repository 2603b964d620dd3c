package etcd

import (
	"context"
	"net"
	"net/url"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/ipalloc/ipalloc/internal/storetls"
	"github.com/ipalloc/ipalloc/internal/storeurl"
)

// OpenURL returns a store as [Open] does, at the servers that a URL names:
//
//	etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE
//
// Only the host and port of one server are necessary. The path is [Options.Prefix], with its slash. With the parameter
// ca or cert, or both, the connection has TLS: ca is a file of the certificates to trust, instead of those of the
// system; cert and key are files of the client's own certificate. The client logs nothing.
//
// Errors: those of [CheckURL] and Open, and those of reading the files, which name the parameter. None has the URL,
// whose Redacted method returns it without the password.
func OpenURL(ctx context.Context, u *url.URL) (*Store, error) {
	if err := CheckURL(u); err != nil {
		return nil, err
	}
	secure, err := storetls.Config(u.Query())
	if err != nil {
		return nil, err
	}
	config := clientv3.Config{Endpoints: strings.Split(u.Host, ","), TLS: secure, Logger: zap.NewNop()}
	if u.User != nil {
		config.Username = u.User.Username()
		config.Password, _ = u.User.Password()
	}
	return Open(ctx, config, &Options{Prefix: u.Path})
}

// CheckURL returns an error that wraps store.ErrInvalid if [OpenURL] would refuse the URL, and names what is wrong. It
// reads no files and connects to no server.
func CheckURL(u *url.URL) error {
	for _, endpoint := range strings.Split(u.Host, ",") {
		if _, _, err := net.SplitHostPort(endpoint); u.Scheme != "etcd" || err != nil {
			return storeurl.Invalid("want etcd://HOST:PORT of one or several servers, as in etcd://10.0.0.1:2379,10.0.0.2:2379")
		}
	}
	if u.Fragment != "" {
		return storeurl.Invalid("the URL has the fragment %q, want none", u.Fragment)
	}
	parameters, err := storeurl.Parameters(u, "ca", "cert", "key")
	if err != nil {
		return err
	}
	return storetls.Check(parameters)
}
