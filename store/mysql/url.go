package mysql

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-sql-driver/mysql"

	"github.com/ipalloc/ipalloc/internal/storetls"
	"github.com/ipalloc/ipalloc/internal/storeurl"
)

// OpenURL opens the store as [Open] does, in the server that a URL names:
//
//	mysql://USER:PASSWORD@HOST:PORT/SCHEMA?tls=true&ca=FILE&cert=FILE&key=FILE
//
// The port is 3306 if there is none. The path is [Options.Schema], which opts must not have. The parameter tls is true,
// or skip-verify, which trusts any server, or preferred, which also does without TLS. The files ca, of the certificates
// to trust, and cert and key, the client's own certificate, mean TLS with a server that is verified. The parameter
// socket is the path of a server's Unix socket, in place of the host.
//
// Errors: those of [CheckURL] and Open, and those of reading the files, which name the parameter. None has the URL,
// whose Redacted method returns it without the password.
func OpenURL(ctx context.Context, u *url.URL, opts *Options) (*Store, error) {
	if err := CheckURL(u); err != nil {
		return nil, err
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	if options.Schema != "" {
		return nil, storeurl.Invalid("the schema %q is in the options, want it in the URL", options.Schema)
	}
	options.Schema = strings.TrimPrefix(u.Path, "/")
	config, err := configOf(u)
	if err != nil {
		return nil, err
	}
	return openConfig(ctx, config, &options)
}

// CheckURL returns an error that wraps store.ErrInvalid if [OpenURL] would refuse the URL, and names what is wrong. It
// reads no files and connects to no server.
func CheckURL(u *url.URL) error {
	parameters, err := storeurl.Parameters(u, "ca", "cert", "key", "socket", "tls")
	switch {
	case err != nil:
		return err
	case u.Scheme != "mysql" || u.Opaque != "" || (u.Host == "") != parameters.Has("socket"):
		return storeurl.Invalid("want mysql://USER:PASSWORD@HOST:PORT/SCHEMA, or the parameter socket in place of the host")
	case u.Fragment != "":
		return storeurl.Invalid("the URL has the fragment %q, want none", u.Fragment)
	}
	modes := []string{"true", "skip-verify", "preferred"}
	secure := parameters.Has("ca") || parameters.Has("cert")
	if mode := parameters.Get("tls"); mode != "" && !slices.Contains(modes, mode) {
		return storeurl.Invalid("the parameter tls of the URL is %q, want one of: %s", mode, strings.Join(modes, ", "))
	} else if secure && mode != "" && mode != "true" {
		return storeurl.Invalid("the parameter tls of the URL is %q, want true beside ca, cert and key", mode)
	}
	if _, err := (&Options{Schema: strings.TrimPrefix(u.Path, "/")}).schema(); err != nil {
		return err
	}
	return storetls.Check(parameters)
}

// configOf returns how to connect to the server of a URL that was checked.
func configOf(u *url.URL) (*mysql.Config, error) {
	parameters := u.Query()
	config := mysql.NewConfig()
	config.Net, config.Addr = "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "3306"))
	if parameters.Has("socket") {
		config.Net, config.Addr = "unix", parameters.Get("socket")
	}
	if u.User != nil {
		config.User = u.User.Username()
		config.Passwd, _ = u.User.Password()
	}
	config.TLSConfig = parameters.Get("tls")
	secure, err := storetls.Config(parameters)
	config.TLS = secure
	return config, err
}
