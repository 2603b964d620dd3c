// Package stores opens the store that a URL names, with any of the drivers.
package stores

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

// Schemes are what the URLs may begin with.
var Schemes = []string{"bolt", "sqlite", "etcd", "postgres", "postgresql", "mysql", "kube"}

// Open opens the store. The caller closes it. If create is false, it is an error if the file, or the schema of a
// database, is not there. An error quotes the URL without its password.
func Open(ctx context.Context, text string, create bool) (store.Store, error) {
	scheme, path, ok := strings.Cut(text, ":")
	if !ok || !slices.Contains(Schemes, scheme) {
		return nil, fmt.Errorf("%w: the store's URL begins with %q, want one of %s, as in bolt:addresses.db",
			store.ErrInvalid, scheme, strings.Join(Schemes, ":, ")+":")
	}
	if scheme == "bolt" || scheme == "sqlite" {
		return openFile(ctx, scheme, path, create)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the store's URL, which begins with %s:, cannot be parsed", store.ErrInvalid, scheme)
	}
	s, err := openServer(ctx, u, create)
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", u.Redacted(), err)
	}
	return s, nil
}

// openFile opens the file whose path is what comes after the scheme, as it is: only // before an absolute path is not
// part of it.
func openFile(ctx context.Context, scheme, path string, create bool) (store.Store, error) {
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		path = rest
		if !strings.HasPrefix(path, "/") {
			return nil, fmt.Errorf("%w: the store's URL is %q, want %s:FILE, or three slashes before an absolute path",
				store.ErrInvalid, scheme+"://"+path, scheme)
		}
	}
	if path == "" {
		return nil, fmt.Errorf("%w: the store's URL is %q, want the path of a file behind it", store.ErrInvalid, scheme+":")
	}
	var s store.Store
	var err error
	if scheme == "bolt" {
		s, err = bolt.Open(ctx, path, &bolt.Options{MustExist: !create, LockWait: -1})
	} else {
		s, err = sqlite.Open(ctx, path, &sqlite.Options{MustExist: !create})
	}
	if err != nil {
		return nil, fmt.Errorf("store %q: %w", scheme+":"+path, err)
	}
	return s, nil
}

func openServer(ctx context.Context, u *url.URL, create bool) (store.Store, error) {
	switch u.Scheme {
	case "etcd":
		return etcd.OpenURL(ctx, u)
	case "mysql":
		return mysql.OpenURL(ctx, u, &mysql.Options{MustExist: !create})
	case "kube":
		return kube.OpenURL(ctx, u, nil)
	}
	return postgres.OpenURL(ctx, u, &postgres.Options{MustExist: !create})
}
