package servertest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// OpenAtOnce has many create the same schema, and others.
func (d Driver) OpenAtOnce(t *testing.T, url string) {
	schema, other := d.NewSchema(), d.NewSchema()
	var wg sync.WaitGroup
	errs := make([]error, 16)
	for i := range errs {
		wg.Go(func() {
			in := schema
			if i%4 == 3 {
				in = fmt.Sprint(other, i%8)
			}
			s, err := d.Open(context.Background(), url, in, false)
			if err == nil {
				_, err = storetest.CommitOne(context.Background(), s, Head(fmt.Sprint(i)))
				err = errors.Join(err, s.Close())
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	n := 0
	for _, err := range d.OpenAt(t, url, schema).List(t.Context(), store.KindPool, "") {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 12, n)
}

// OpenVersions opens a schema that is not there, one that is, and one of a later version.
func (d Driver) OpenVersions(t *testing.T) {
	url, schema := d.Place(t)
	_, err := d.Open(t.Context(), url, schema, true)
	require.ErrorIs(t, err, d.ErrNoSchema)
	_, err = storetest.CommitOne(t.Context(), d.OpenAt(t, url, schema), Head("a"))
	require.NoError(t, err)
	again, err := d.Open(t.Context(), url, schema, true)
	require.NoError(t, err)
	require.Equal(t, schema, again.Schema())
	require.NoError(t, again.Close())
	d.Execute(t, url, schema, fmt.Sprintf("INSERT INTO migration VALUES (%d, NOW())", d.Version+1))
	_, err = d.Open(t.Context(), url, schema, false)
	require.ErrorIs(t, err, store.ErrNewerFormat)
	require.ErrorContains(t, err, fmt.Sprintf("%q", schema))
}

// ConnectionsStay checks that the connections of a caller can be used after Close.
func ConnectionsStay(t *testing.T, s Store, ping func(ctx context.Context) error) {
	_, err := storetest.CommitOne(t.Context(), s, Head("a"))
	require.NoError(t, err)
	require.NoError(t, s.Close())
	require.NoError(t, ping(t.Context()))
	_, err = s.Get(t.Context(), Head("a").Key)
	require.ErrorIs(t, err, store.ErrClosed)
}

// RequireWorks commits, reads and is refused.
func (d Driver) RequireWorks(t *testing.T, s Store) {
	t.Helper()
	x := Allocation("a", `x's "\`, "10.0.0.0/24 2001:db8::/64")
	x.Created = time.Date(2024, 2, 29, 12, 0, 0, 123456000, time.UTC)
	x.Expires = x.Created.AddDate(8000-2024, 0, 0)
	x.Data = []byte(`{"a": [1, "\u0000\ud800 \\ '"]}`)
	h, err := storetest.CommitOne(t.Context(), s, Head("a"), Create(x))
	require.NoError(t, err)
	x.Revision = h.Revision
	got, err := s.Get(t.Context(), x.Key)
	require.NoError(t, err)
	require.Equal(t, x, got)
	found, err := s.Find(t.Context(), "a", x.Prefixes[1].Addr())
	require.NoError(t, err)
	require.Equal(t, x, found)
	for r, err := range s.List(t.Context(), store.KindAllocation, "") {
		require.NoError(t, err)
		require.Equal(t, x, r)
	}
	for r, err := range s.ByExpiry(t.Context(), store.KindAllocation, "a") {
		require.NoError(t, err)
		require.Equal(t, x, r)
	}
	_, err = storetest.CommitOne(t.Context(), s, Head("a"))
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = storetest.CommitOne(t.Context(), s, h, Create(x))
	var exists *store.ExistsError
	require.ErrorAs(t, err, &exists)
	require.Equal(t, []store.Record{x}, exists.Records)
	_, err = storetest.CommitOne(t.Context(), s, h, Create(Allocation("a", "y", "10.0.0.7/32")))
	require.ErrorIs(t, err, d.ErrOverlap)
	require.NotErrorIs(t, err, store.ErrUnknown)
}
