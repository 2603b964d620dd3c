// Package file is the driver for a file of one node: file:///var/lib/ipalloc.db.
package file

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/internal/storeurl"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// Driver returns the driver.
func Driver() driver.Driver { return driver.Driver{Scheme: "file", Check: check, Open: open} }

func check(u *url.URL) error {
	switch {
	case u.Host != "" || u.Opaque != "" || !filepath.IsAbs(u.Path):
		return errors.New("want the absolute path of a file after file://, as in file:///var/lib/ipalloc.db")
	case u.User != nil || u.Fragment != "":
		return errors.New("a file has no user and no fragment")
	}
	_, err := storeurl.Parameters(u)
	return err
}

// open waits for as long as other processes have the file open. It makes the folder if it makes the file.
func open(ctx context.Context, u *url.URL, create bool) (store.Store, error) {
	if create {
		if err := os.MkdirAll(filepath.Dir(u.Path), 0o755); err != nil {
			return nil, err
		}
	}
	return bolt.Open(ctx, u.Path, &bolt.Options{LockWait: -1, MustExist: !create})
}
