package servertest

import (
	"context"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// WatchHandover has one writer and one watcher in turns: each waits for what the other has written, so a wake-up that
// is missed would stop both.
func (d Driver) WatchHandover(t *testing.T, turns int) {
	url, schema := d.Place(t)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	first, other := d.OpenAt(t, url, schema), d.OpenAt(t, url, schema)
	h, err := storetest.CommitOne(t.Context(), first, Head("a"))
	require.NoError(t, err)
	done := make(chan error, 1)
	play := func(s Store, h store.Record, mine bool) error {
		for n := 0; n < turns; mine = !mine {
			var err error
			if mine {
				h.State = fmt.Sprint(n)
				h, err = storetest.CommitOne(ctx, s, h)
				n++
			} else {
				h, err = s.Watch(ctx, h.Key, h.Revision)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	go func() { done <- play(other, h, false) }()
	require.NoError(t, play(first, h, true))
	require.NoError(t, <-done)
}
