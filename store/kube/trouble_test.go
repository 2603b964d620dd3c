package kube_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestTwoTroubles has a commit that a stranger's is in the way of, so that it takes several attempts, and two of its
// requests get no answer: any two, in any way. Late requests arrive before the handle tidies up behind the commit, or
// after it. Whoever comes next sees all of the commit or nothing, as its answer says.
func TestTwoTroubles(t *testing.T) {
	answers := map[string]int{}
	for first := 1; ; first++ {
		for second := first + 1; ; second++ {
			made := 0
			for how := range troubles * troubles {
				planned := map[int]trouble{first: how / troubles, second: how % troubles}
				for _, early := range []bool{true, false} {
					made = max(made, twoTroubles(t, planned, early, answers))
				}
			}
			if made < first {
				require.NotZero(t, answers["acknowledged"])
				require.NotZero(t, answers["unknown, come true"])
				require.NotZero(t, answers["unknown, come false"])
				require.NotZero(t, answers["refused"])
				return
			}
			if made < second {
				break
			}
		}
	}
}

// twoTroubles returns how many requests the commit made, and counts what came of it in answers.
func twoTroubles(t *testing.T, planned map[int]trouble, early bool, answers map[string]int) int {
	t.Helper()
	server := newSimServer()
	create := store.Write{Op: store.Create, Record: record(allocKey("new"), "new")}
	put := store.Write{Op: store.Put, Record: record(allocKey("kept"), "new")}
	remove := store.Write{Op: store.Delete, Record: record(allocKey("gone"), "")}
	scenario := crashScenario{writes: []store.Write{create, remove, put}}
	head, err := storetest.CommitOne(t.Context(), simStore(&simClient{server: server}, "before"),
		record(poolKey("lab"), "old"), createOld("kept"), createOld("gone"))
	require.NoError(t, err)
	rival := simStore(&simClient{server: server, crashAt: 5}, "a rival") // at the update of its head
	_, err = storetest.CommitOne(t.Context(), rival, record(poolKey("office"), ""), put)
	require.ErrorIs(t, err, errCrashed)

	client := &simClient{server: server, planned: planned}
	patience := kube.Options{Patience: 3 * time.Millisecond, Parallel: 1} // for one attempt; the next stops the stranger
	s := kube.NewStore(client, patience, counterID("one"), noPause)
	next := head
	next.State = "new"
	_, err = storetest.CommitOne(t.Context(), s, next, scenario.writes...)
	made := client.calls
	if early {
		server.land()
	}
	_ = kube.Tidy(t.Context(), s)
	server.land()
	heir := simStore(&simClient{server: server}, "the heir")
	what := fmt.Sprint(planned, " early=", early, ": ", err)
	come := scenario.requireWhole(t, heir, head)
	switch {
	case err == nil:
		require.True(t, come, what)
		answers["acknowledged"]++
	case errors.Is(err, store.ErrUnknown):
		answers[fmt.Sprint("unknown, come ", come)]++
	default:
		require.False(t, come, what)
		answers["refused"]++
	}
	_, err = heir.Get(t.Context(), poolKey("office"))
	require.ErrorIs(t, err, store.ErrNotFound)
	requireSwept(t, server, heir)
	require.Equal(t, come, scenario.requireWhole(t, heir, head), what)
	return made
}

func createOld(name string) store.Write {
	return store.Write{Op: store.Create, Record: record(allocKey(name), "old")}
}
