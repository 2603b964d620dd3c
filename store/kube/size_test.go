package kube_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestRoomInTheLog: processes that ended have filled the log of a head. The next commit settles as much of it as it
// needs the room of, and comes about; one that never has room is refused, and writes nothing. A log gets as long as
// that only where commits have no rolls.
func TestRoomInTheLog(t *testing.T) {
	server, long := newSimServer(), strings.Repeat("long", 20)
	head := record(poolKey("lab"), "")
	commit := func(i, n int) error {
		s := kube.NewStore(&simClient{server: server}, kube.Options{}, counterID(fmt.Sprint("process-", i)), noPause)
		if i < 3 {
			kube.WithoutRolls(s)
		}
		writes := make([]store.Write, n)
		for j := range writes {
			key := store.Key{Kind: store.KindAllocation, Pool: long, Name: fmt.Sprint(long, i, "-", j)}
			writes[j] = store.Write{Op: store.Create, Record: record(key, "held")}
		}
		next, err := storetest.CommitOne(t.Context(), s, head, writes...)
		if err == nil {
			head = next
		}
		return err
	}
	pending := func() (n int) {
		for _, o := range server.objects {
			if o.Pending() {
				n++
			}
		}
		return n
	}
	require.NoError(t, commit(0, 5000))
	require.NoError(t, commit(1, 3000))
	require.Greater(t, pending(), 7500)
	require.NoError(t, commit(2, 3000))
	require.Less(t, pending(), 11_000-500)
	require.Greater(t, pending(), 7500, "no more than need be")
	before := len(server.objects)
	require.ErrorIs(t, commit(3, 12_000), store.ErrTooLarge)
	require.Len(t, server.objects, before)
}
