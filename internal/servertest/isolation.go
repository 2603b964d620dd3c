package servertest

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// Isolation has writers contend for heads, one and several at once, and for a record beside them. All that they may see
// is conflicts, and no commit is lost.
func (d Driver) Isolation(t *testing.T, s Store) {
	d.RequireWorks(t, s)
	const writers, each = 4, 25
	errs := make([]error, writers)
	var wg sync.WaitGroup
	for i := range writers {
		wg.Go(func() {
			for n := range each {
				errs[i] = errors.Join(errs[i], contend(t, s, fmt.Sprint(i, " ", n), n%2 == 0))
			}
		})
	}
	wg.Wait()
	require.NoError(t, errors.Join(errs...))
	n := 0
	for r, err := range s.List(t.Context(), store.KindAllocation, "one") {
		require.NoError(t, err)
		require.NotEqual(t, "last", r.Name)
		n++
	}
	require.Equal(t, writers*each, n)
}

// contend creates a record beside one or two heads, which others want to change too, and beside a record that is
// written with heads of its own.
func contend(t *testing.T, s Store, name string, both bool) error {
	for {
		changes := []store.Change{{Head: Head("one"), Writes: []store.Write{Create(Allocation("one", name, ""))}}}
		if both {
			changes = append(changes,
				store.Change{Head: Head("two"), Writes: []store.Write{Put(Holding("other", "shared", "last", ""))}})
		}
		for i := range changes {
			stored, err := s.Get(t.Context(), changes[i].Head.Key)
			switch {
			case err == nil:
				changes[i].Head = stored
			case !errors.Is(err, store.ErrNotFound):
				return err
			}
		}
		_, err := s.Commit(t.Context(), changes...)
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// RevisionsDoNotFall has a record with a revision that another commit, which began later, has written: the statement
// raises that of the allocation. A commit does not put a lower one in its place. Its error is returned.
func (d Driver) RevisionsDoNotFall(t *testing.T, raise string) error {
	url, schema := d.Place(t)
	s := d.OpenAt(t, url, schema)
	h, err := storetest.CommitOne(t.Context(), s, Head("a"), Create(Allocation("a", "x", "10.0.0.1/32")))
	require.NoError(t, err)
	d.Execute(t, url, schema, raise)
	_, refused := storetest.CommitOne(t.Context(), s, h, Put(Allocation("a", "x", "10.0.0.2/32")))
	require.Error(t, refused)
	require.NotErrorIs(t, refused, store.ErrUnknown)
	got, err := s.Get(t.Context(), h.Key)
	require.NoError(t, err)
	require.Equal(t, h.Revision, got.Revision)
	return refused
}
