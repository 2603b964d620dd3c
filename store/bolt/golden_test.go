package bolt_test

import (
	"context"
	"flag"
	"testing"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

var update = flag.Bool("update", false, "write the golden file of the present format")

// driver is what the tests of package filetest test.
var driver = filetest.Driver{
	Open: func(ctx context.Context, path string, mustExist bool) (store.Store, error) {
		return bolt.Open(ctx, path, &bolt.Options{MustExist: mustExist})
	},
	RequireSound: func(t testing.TB, path string) { contents(t, path) },
}

// A file of each format is opened, its pools verify clean, and are used.
func TestFilesOfEveryFormat(t *testing.T) { driver.Formats(t, 1, *update) }
