// Package servertest has the tests that drivers share whose store is in a database of a server, and what such tests
// need.
package servertest

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

// Store is what these drivers open.
type Store interface {
	store.Store
	store.Grouper
	store.Reader
	Schema() string
}

// Driver is a driver that is tested.
type Driver struct {
	// Addr is the address of the server that tests share. It skips the test if none is installed, unless this is CI.
	Addr func(t testing.TB) string
	// URL is how to reach that server at an address that leads to it.
	URL func(t testing.TB, addr string) string
	// NewSchema is the name of a schema that no other test has.
	NewSchema func() string
	// Open opens the store in a schema, and creates it if there is none, unless it must exist.
	Open func(ctx context.Context, url, schema string, mustExist bool) (Store, error)
	// Connect opens the store on at most so many connections, each of which is wrapped. It is closed at the end of the
	// test.
	Connect func(t testing.TB, url, schema string, conns int, wrap func(net.Conn) net.Conn) Store
	// Execute runs statements one after the other, in the schema.
	Execute func(t testing.TB, url, schema string, statements ...string)
	// NewLine returns the line at a head.
	NewLine func(t *testing.T, g *Group) Line
	// LockHead locks the row of a pool's head in a transaction of its own, until the function that it returns is called.
	LockHead func(t *testing.T, url, schema, pool string) (unlock func())

	// Version is that of the tables.
	Version int
	// ErrNoSchema and ErrOverlap are the driver's.
	ErrNoSchema, ErrOverlap error
	// Prepares says that a statement takes one more round trip when it is first run.
	Prepares bool
}

// Place returns how to reach the shared server, and a new schema.
func (d Driver) Place(t testing.TB) (url, schema string) {
	t.Helper()
	return d.URL(t, d.Addr(t)), d.NewSchema()
}

// OpenAt opens a store, which is closed at the end of the test.
func (d Driver) OpenAt(t testing.TB, url, schema string) Store {
	t.Helper()
	s, err := d.Open(context.Background(), url, schema, false)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s
}

// OpenNew opens a store in a new schema, which is closed at the end of the test.
func (d Driver) OpenNew(t testing.TB) Store {
	t.Helper()
	url, schema := d.Place(t)
	return d.OpenAt(t, url, schema)
}

// DocumentedQueries are the queries in the package comment, by the line before each.
func DocumentedQueries(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	queries, title := map[string]string{}, ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if sql, ok := strings.CutPrefix(line, "//\t"); ok {
			queries[title] += sql + "\n"
		} else if line != "//" {
			title = strings.TrimPrefix(line, "// ")
		}
	}
	return queries
}
