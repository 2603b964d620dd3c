// Package driver says how a program opens the store that a URL names. Each driver is a package of its own, so that a
// program has the clients of those backends only that it names.
package driver

import (
	"context"
	"net/url"
	"slices"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/store"
)

// Driver opens stores of one kind.
type Driver struct {
	// Scheme is that of its URLs.
	Scheme string
	// Shared reports whether the store is for all nodes, rather than for one.
	Shared bool
	// Check returns an error for a URL that cannot be right. It reads nothing.
	Check func(u *url.URL) error
	// Open opens the store. If create is false, it may return an error that wraps fs.ErrNotExist for a store that is not
	// there, and creates nothing.
	Open func(ctx context.Context, u *url.URL, create bool) (store.Store, error)
}

// Set is the drivers of a program.
type Set []Driver

// Find returns the driver for a URL, or CNI's error if there is none or if the URL is wrong.
func (s Set) Find(u *url.URL) (Driver, error) {
	i := slices.IndexFunc(s, func(d Driver) bool { return d.Scheme == u.Scheme })
	if i < 0 {
		var known []string
		for _, d := range s {
			known = append(known, d.Scheme)
		}
		return Driver{}, network.RefuseStore(u, known)
	}
	if err := s[i].Check(u); err != nil {
		return Driver{}, network.RefuseStoreURL(u, err)
	}
	return s[i], nil
}
