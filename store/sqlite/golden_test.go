package sqlite_test

import (
	"context"
	"flag"
	"testing"

	"github.com/ipalloc/ipalloc/internal/filetest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
)

var update = flag.Bool("update", false, "write the golden file of the present format")

// driver is what the tests of package filetest test.
var driver = filetest.Driver{
	Open: func(ctx context.Context, path string, mustExist bool) (store.Store, error) {
		return sqlite.Open(ctx, path, &sqlite.Options{MustExist: mustExist})
	},
	RequireSound: requireSound,
}

// A file of each format is opened, its pools verify clean, and are used.
func TestFilesOfEveryFormat(t *testing.T) { driver.Formats(t, 1, *update) }
