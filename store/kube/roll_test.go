package kube_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// createAllocs returns n writes of records that no other round creates.
func createAllocs(round string, n int) (writes []store.Write) {
	for i := range n {
		writes = append(writes, createAlloc(fmt.Sprint(round, "-", i))...)
	}
	return writes
}

// rolls counts those at the server.
func (s *simServer) rolls() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.objects {
		if o.IsRoll() {
			n++
		}
	}
	return n
}

// tallied counts verbs.
func tallied(verbs []string) map[string]int {
	counts := map[string]int{}
	for _, verb := range verbs {
		counts[verb]++
	}
	return counts
}

// TestSettledLater: commits of many records do not settle one another, up to so many of them: of each record they write
// one object, and beside these a roll and the head. All is settled when there is less to do.
func TestSettledLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		count := &counting{API: &slow{&simClient{server: server}, time.Millisecond}}
		s := kube.NewLively(count, kube.Options{}, counterID("one"))
		head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
		require.NoError(t, err)
		count.take()
		round := func(i int) map[string]int {
			head, err = storetest.CommitOne(t.Context(), s, head, createAllocs(fmt.Sprint(i), kube.RollFrom)...)
			require.NoError(t, err)
			return tallied(count.take())
		}
		for i := range kube.MaxLater {
			require.Equal(t, map[string]int{"create": kube.RollFrom + 1, "update": 1}, round(i), "commit %d", i)
		}
		require.Equal(t, kube.MaxLater, server.rolls())
		round(kube.MaxLater)
		settled := 0
		for i := kube.MaxLater + 1; i < kube.MaxLater+10; i++ {
			verbs := round(i)
			require.Zero(t, verbs["get"])
			settled += verbs["update"] - 1
		}
		require.Greater(t, settled, 8*kube.RollFrom, "beside commits when the log has as many as it may")
		require.LessOrEqual(t, server.rolls(), kube.MaxLater+2)
		time.Sleep(10 * time.Second)
		require.NotContains(t, count.take(), "get")
		requireNothingPending(t, server)
		require.Equal(t, 1+(kube.MaxLater+10)*kube.RollFrom, server.count(), "no rolls")
		require.NoError(t, s.Close())
	})
}

// TestReplacedBeforeSettled: what is written again is settled by that; the roll goes, and no object is read for it.
func TestReplacedBeforeSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		count := &counting{API: &slow{&simClient{server: server}, time.Millisecond}}
		s := kube.NewLively(count, kube.Options{}, counterID("one"))
		head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), createAllocs("x", 20)...)
		require.NoError(t, err)
		var removals []store.Write
		for _, w := range createAllocs("x", 20) {
			removals = append(removals, store.Write{Op: store.Delete, Record: w.Record})
		}
		_, err = storetest.CommitOne(t.Context(), s, head, removals...)
		require.NoError(t, err)
		time.Sleep(10 * time.Second)
		require.NotContains(t, count.take(), "get")
		require.Equal(t, 1, server.count(), "the head")
		require.NoError(t, s.Close())
	})
}

// TestRollOfTheDead: a process has ended behind a large commit. Another one begins late to settle it, and then does a
// handful of requests beside each commit, until nothing is left; so does Sweep at once.
func TestRollOfTheDead(t *testing.T) {
	for _, sweep := range []bool{false, true} {
		t.Run(fmt.Sprint("sweep=", sweep), func(t *testing.T) {
			const many = 100
			server := newSimServer()
			dead := kube.NewStore(&simClient{server: server}, kube.Options{}, counterID("dead"), noPause)
			head, err := storetest.CommitOne(t.Context(), dead, record(poolKey("lab"), ""), createAllocs("x", many)...)
			require.NoError(t, err)
			count := &counting{API: &simClient{server: server}}
			heir := kube.NewStore(count, kube.Options{Parallel: 1}, counterID("heir"), noPause)
			if sweep {
				_, err := heir.Sweep(t.Context())
				require.NoError(t, err)
			}
			for i := range kube.PatientWithRolls + many/kube.Handful + 3 {
				count.mu.Lock()
				count.verbs = nil
				count.mu.Unlock()
				head, err = storetest.CommitOne(t.Context(), heir, head)
				require.NoError(t, err)
				require.LessOrEqual(t, len(count.verbs), 1+2*kube.Handful, "commit %d", i)
				if i > 0 && i < kube.PatientWithRolls { // the first one reads the head
					require.Equal(t, []string{"update"}, count.verbs, "commit %d", i)
				}
			}
			requireNothingPending(t, server)
			require.Equal(t, 1+many, server.count())
		})
	}
}

// TestRollThatCameToNothing: that of a commit which crashed before it took effect goes with what it names.
func TestRollThatCameToNothing(t *testing.T) {
	server := newSimServer()
	s := simStore(&simClient{server: server}, "before")
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
	require.NoError(t, err)
	client := &simClient{server: server, crashAt: 1 + 20 + 1 + 1} // it reads the head, and crashes at the head's update
	_, err = storetest.CommitOne(t.Context(), simStore(client, "dead"), head, createAllocs("x", 20)...)
	require.ErrorIs(t, err, errCrashed)
	require.Equal(t, 1, server.rolls())
	require.Equal(t, 22, server.count())
	_, err = storetest.CommitOne(t.Context(), s, head)
	require.NoError(t, err)
	_, err = s.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1, server.count())
}

// TestNoRollInAList: rolls are in no list of records, and are no damage.
func TestNoRollInAList(t *testing.T) {
	server := newSimServer()
	s := simStore(&simClient{server: server}, "one")
	_, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), createAllocs("x", 20)...)
	require.NoError(t, err)
	require.Equal(t, 1, server.rolls())
	for _, kind := range []store.Kind{store.KindHistory, store.KindAllocation} {
		n := 0
		for r, err := range s.Audit(t.Context(), kind, "") {
			require.NoError(t, err)
			require.Equal(t, kind, r.Key.Kind)
			n++
		}
		require.Equal(t, map[store.Kind]int{store.KindHistory: 0, store.KindAllocation: 20}[kind], n)
	}
}
