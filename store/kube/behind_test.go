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

// requireNothingPending checks that all objects at the server are in their final form.
func requireNothingPending(t *testing.T, server *simServer) {
	t.Helper()
	server.mu.Lock()
	defer server.mu.Unlock()
	for r, o := range server.objects {
		require.NotContains(t, o.Labels(), kube.Group+"/pending", "%v", r)
	}
}

// count returns how many objects are at the server.
func (s *simServer) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.objects)
}

// TestSettledBehind: what a commit leaves is settled a moment later, or at Close, without another call; a deleted head
// goes too. No goroutine is left then: the bubble would say so.
func TestSettledBehind(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("closed=", closed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := newSimServer()
				s := lively(server, "one")
				lab, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), createAlloc("x")...)
				require.NoError(t, err)
				child, err := storetest.CommitOne(t.Context(), s, record(poolKey("child"), ""), createAlloc("y")...)
				require.NoError(t, err)
				_, err = s.Commit(t.Context(), store.Change{Head: lab, Writes: createAlloc("z")},
					store.Change{Head: child, Writes: []store.Write{{Op: store.Delete, Record: record(child.Key, "")}}})
				require.NoError(t, err)
				gone, err := storetest.CommitOne(t.Context(), s, record(poolKey("gone"), ""))
				require.NoError(t, err)
				_, err = storetest.CommitOne(t.Context(), s, gone, store.Write{Op: store.Delete, Record: gone})
				require.NoError(t, err)
				if closed {
					require.NoError(t, s.Close())
				} else {
					time.Sleep(time.Second)
				}
				requireNothingPending(t, server)
				require.Equal(t, 4, server.count(), "the pool, and three allocations")
				require.NoError(t, s.Close())
			})
		})
	}
}

// TestTwoRequestsOneAfterTheOther: nobody waits for what is settled beside or behind a commit.
func TestTwoRequestsOneAfterTheOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const request = 20 * time.Millisecond
		s := kube.NewLively(&slow{&simClient{server: newSimServer()}, request}, kube.Options{}, counterID("one"))
		head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
		require.NoError(t, err)
		for i := range 20 {
			time.Sleep(time.Duration(i) * 10 * time.Millisecond) // so that some commits meet the update behind another
			start := time.Now()
			head, err = storetest.CommitOne(t.Context(), s, head, createAlloc(fmt.Sprint("owner-", i))...)
			require.NoError(t, err)
			require.LessOrEqual(t, time.Since(start), 3*request, "commit %d", i)
			if i < 4 {
				require.Equal(t, 2*request, time.Since(start), "commit %d", i)
			}
		}
		require.NoError(t, s.Close())
	})
}

// TestDeadLeftover: what a commit that came to nothing could not take back at once is taken back later.
func TestDeadLeftover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		client := &hooked{simClient: &simClient{server: server}}
		s := kube.NewLively(client, kube.Options{}, counterID("one"))
		head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
		require.NoError(t, err)
		client.hook = func() {
			client.mu.Lock()
			defer client.mu.Unlock()
			client.crashAt = client.calls + 1 // the update of the head, and all that follows
		}
		_, err = storetest.CommitOne(t.Context(), s, head, createAlloc("x")...)
		require.ErrorIs(t, err, errCrashed)
		require.Equal(t, 2, server.count())
		client.mu.Lock()
		client.crashed, client.crashAt = false, 0
		client.mu.Unlock()
		time.Sleep(10 * time.Second)
		require.Equal(t, 1, server.count())
		require.NoError(t, s.Close())
	})
}

// TestOutOfTheWay: a handle that was in line, where others commit, settles what it left when it has not committed for
// longer. The update of the head that this takes makes the commit of whoever has the turn begin anew.
func TestOutOfTheWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := newSimServer()
		count := &counting{API: &simClient{server: server}}
		s := kube.NewLively(count, kube.Options{}, counterID("one"))
		_, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
		require.NoError(t, err)
		for _, inLine := range []bool{true, false} {
			turn, err := s.Turn(t.Context(), poolKey("lab"))
			require.NoError(t, err)
			head := turn.Heads()[0]
			if !inLine {
				turn.End()
				time.Sleep(10 * time.Second) // nobody else has come
			}
			_, err = s.Commit(t.Context(), store.Change{Head: head, Writes: createAlloc(fmt.Sprint(inLine)), Turn: turn})
			require.NoError(t, err)
			synctest.Wait() // for what removes the ticket
			count.take()
			time.Sleep(time.Second * 9 / 10)
			require.Equal(t, inLine, len(count.take()) == 0)
			time.Sleep(2 * time.Second)
			requireNothingPending(t, server)
		}
		require.NoError(t, s.Close())
	})
}
