package etcdtest_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// joined is what a call of Join came to.
type joined struct {
	turn store.GroupTurn
	err  error
}

// joins has a handle join the line at the head, and returns when its ask is there.
func joins(t *testing.T, server *server, s store.Store, ask string) <-chan joined {
	t.Helper()
	ended, before := make(chan joined, 1), len(tickets(t, server))
	go func() {
		turn, err := s.(store.Grouper).Join(t.Context(), head("a").Key, []byte(ask))
		ended <- joined{turn, err}
	}()
	require.Eventually(t, func() bool { return len(tickets(t, server)) > before }, 10*time.Second, time.Millisecond)
	return ended
}

func tickets(t *testing.T, server *server) []string {
	t.Helper()
	found := slices.Collect(maps.Keys(dump(t, server, "/ipalloc/")))
	return slices.DeleteFunc(found, func(key string) bool { return !strings.HasPrefix(key, "/ipalloc/turns/") })
}

// has waits for what a call of Join comes to.
func has(t *testing.T, ended <-chan joined) joined {
	t.Helper()
	select {
	case j := <-ended:
		return j
	case <-time.After(10 * time.Second):
		t.Fatal("it waits on")
		return joined{}
	}
}

// answers commits in the turn and answers all, and returns the revision.
func answers(t *testing.T, s store.Store, turn store.GroupTurn) int64 {
	t.Helper()
	for i, ask := range turn.Asks() {
		turn.Answer(i, append([]byte("to "), ask...))
	}
	heads, err := s.Commit(t.Context(), store.Change{Head: turn.Heads()[0], Turn: turn})
	require.NoError(t, err)
	return heads[0].Revision
}

func requireAnswer(t *testing.T, j joined, answer string, revision int64) {
	t.Helper()
	require.NoError(t, j.err)
	got, at, err := j.turn.Answered()
	require.NoError(t, err)
	require.Equal(t, answer, string(got))
	require.Equal(t, revision, at)
}

// TestJoinRoundTrips counts what it costs to be answered, to have the turn, and to go on for those who came meanwhile.
func TestJoinRoundTrips(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	_, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	names := map[string]bool{ticketOf(t, server, s): true}
	asker, sentAsking := countedApart(t, server, names)
	holder, sentHolding := countedApart(t, server, names)
	for range 3 {
		first := has(t, joins(t, server, s, ""))
		var second, third <-chan joined
		var turn store.GroupTurn
		require.Equal(t, "map[Txn:2]", sentHolding.during(func() {
			second = joins(t, server, holder, "second")
			require.Equal(t, oneTxn, sentAsking.during(func() { third = joins(t, server, asker, "third") }))
			first.turn.End()
			turn = has(t, second).turn
		}), "its ticket, and a look when it is told that it has the turn")
		require.Len(t, turn.Asks(), 1)
		require.Equal(t, "map[]", sentAsking.during(func() {
			require.Equal(t, oneTxn, sentHolding.during(func() {
				revision := answers(t, holder, turn)
				answered := has(t, third)
				requireAnswer(t, answered, "to third", revision)
				answered.turn.End()
			}))
		}), "an answer comes by itself")
		require.Nil(t, turn.Next())
		turn.End()
	}
}

// countedApart is counted for a handle whose tickets have a name that is not among names. Another try for a name that
// is in use would be a round trip more.
func countedApart(t *testing.T, server *server, names map[string]bool) (store.Store, *calls) {
	t.Helper()
	for {
		s, sent := counted(t, server.addr)
		if name := ticketOf(t, server, s); !names[name] {
			names[name] = true
			return s, sent
		}
	}
}

// ticketOf returns the name that a handle, which uses it again, has for its tickets.
func ticketOf(t *testing.T, server *server, s store.Store) string {
	t.Helper()
	turn := has(t, joins(t, server, s, "")).turn
	defer turn.End()
	return tickets(t, server)[0]
}

// TestNextTurn commits for those who came while the commit before was under way, without them or others being told.
func TestNextTurn(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	_, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	holder, sent := counted(t, server.addr)
	turn := has(t, joins(t, server, holder, "first")).turn
	require.Empty(t, turn.Asks(), "nobody waits yet")
	second, third := joins(t, server, openStore(t, server.addr), "second"), joins(t, server, s, "third")
	answers(t, holder, turn)
	next := turn.Next()
	require.Nil(t, turn.Next())
	turn.End()
	require.Equal(t, [][]byte{[]byte("second"), []byte("third")}, next.Asks())
	require.Equal(t, oneTxn, sent.during(func() {
		next.Answer(0, []byte("to second"))
		heads, err := holder.Commit(t.Context(), store.Change{Head: next.Heads()[0], Turn: next})
		require.NoError(t, err)
		requireAnswer(t, has(t, second), "to second", heads[0].Revision)
	}))
	next.End() // so that the third one is told
	j := has(t, third)
	require.NoError(t, j.err)
	require.Len(t, j.turn.Heads(), 1)
	j.turn.End()
	require.Empty(t, tickets(t, server))
}

// TestTicketsHaveFewNames shows that a line, whose dead keys etcd looks at as long as it remembers them, does not get
// longer with the number of turns, nor with that of answers.
func TestTicketsHaveFewNames(t *testing.T) {
	t.Run("turns", func(t *testing.T) {
		requireFewTickets(t, func(s *etcd.Store, handle, _ int) error { return takeTurn(t, s, handle%2 == 0) })
	})
	t.Run("answers", func(t *testing.T) {
		requireFewTickets(t, func(s *etcd.Store, handle, call int) error {
			p, err := pool.Ensure(t.Context(), s, "blue", parseSpec(t, "10.0.0.0/16"), pool.Keep, nil)
			if err == nil {
				_, err = p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprintf("pod-%d-%d", handle, call)})
			}
			return err
		})
	})
}

// requireFewTickets has several handles call at once, and counts the names of their tickets.
func requireFewTickets(t *testing.T, do func(s *etcd.Store, handle, call int) error) {
	t.Helper()
	server := startServer(t)
	_, err := storetest.CommitOne(t.Context(), openStore(t, server.addr), head("a"))
	require.NoError(t, err)
	names, watching := map[string]bool{}, make(chan struct{})
	client := connect(t, clientConfig(server.addr))
	ctx, cancel := context.WithCancel(t.Context())
	events := client.Watch(ctx, "/ipalloc/turns/", clientv3.WithPrefix(), clientv3.WithCreatedNotify())
	<-events
	go func() {
		defer close(watching)
		for response := range events {
			for _, event := range response.Events {
				names[string(event.Kv.Key)] = true
			}
		}
	}()
	const handles, each = 8, 60
	var all sync.WaitGroup
	for i := range handles {
		handle := openStore(t, server.addr)
		all.Go(func() {
			for call := range each {
				if err := do(handle, i, call); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	_, err = client.Put(t.Context(), "/ipalloc/turns/end", "")
	require.NoError(t, err)
	time.AfterFunc(time.Second, cancel)
	<-watching
	require.Contains(t, names, "/ipalloc/turns/end")
	require.LessOrEqual(t, len(names), 4*handles, "names of %d tickets", handles*each)
}

// takeTurn takes a turn, of Join or of Turn, and ends it.
func takeTurn(t *testing.T, s *etcd.Store, joins bool) error {
	if joins {
		turn, err := s.Join(t.Context(), head("a").Key, []byte("x"))
		if err == nil {
			turn.End()
		}
		return err
	}
	turn, err := s.Turn(t.Context(), head("a").Key)
	if err == nil {
		turn.End()
	}
	return err
}

// TestJoinWithoutStream shows that a handle that cannot hear of its turn or its answer gets either all the same.
func TestJoinWithoutStream(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	_, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	for _, answered := range []bool{false, true} {
		t.Run(fmt.Sprint("answered=", answered), func(t *testing.T) {
			between := proxy.New(t, server.addr)
			deaf := openStore(t, between.Addr())
			first := has(t, joins(t, server, s, "first")).turn
			second := joins(t, server, s, "second")
			third := joins(t, server, deaf, "third")
			first.End()
			turn := has(t, second).turn
			between.Cut()
			if !answered {
				turn.End()
				j := has(t, third)
				if j.err != nil { // the cut has met a request
					require.NotErrorIs(t, j.err, store.ErrUnknown)
					return
				}
				require.NotEmpty(t, j.turn.Heads())
				j.turn.End()
				return
			}
			revision := answers(t, s, turn)
			turn.End()
			requireAnswer(t, has(t, third), "to third", revision)
		})
	}
}

// TestJoinPassedOver takes away the tickets of those who wait, as others do with those of a process that was stopped.
// They go on all the same.
func TestJoinPassedOver(t *testing.T) {
	server := startServer(t)
	s := openStore(t, server.addr)
	_, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	client := connect(t, clientConfig(server.addr))
	first := has(t, joins(t, server, s, "first"))
	second, third := joins(t, server, openStore(t, server.addr), "second"), joins(t, server, s, "third")
	_, err = client.Delete(t.Context(), "/ipalloc/turns/", clientv3.WithPrefix())
	require.NoError(t, err)
	for _, waiting := range []<-chan joined{second, third} {
		j := has(t, waiting)
		require.NoError(t, j.err)
		require.Len(t, j.turn.Heads(), 1)
		j.turn.End()
		_, _, err := j.turn.Answered()
		require.NoError(t, err)
	}
	first.turn.End()
}

// TestAnswerIsKeptUntilItIsRead has one leave that is answered before it can withdraw what it asked for, while another
// call of the same Store begins. It is told the answer.
func TestAnswerIsKeptUntilItIsRead(t *testing.T) {
	server := startServer(t)
	holder := openStore(t, server.addr)
	for _, name := range []string{"a", "b"} {
		_, err := storetest.CommitOne(t.Context(), holder, head(name))
		require.NoError(t, err)
	}
	var holding atomic.Bool
	held, release := make(chan struct{}), make(chan struct{})
	config := clientConfig(server.addr)
	config.DialOptions = append(config.DialOptions, grpc.WithChainUnaryInterceptor(func(
		ctx context.Context, method string, request, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker,
		options ...grpc.CallOption,
	) error {
		if holding.CompareAndSwap(true, false) {
			close(held)
			<-release
		}
		return invoke(ctx, method, request, reply, cc, options...)
	}))
	s, err := etcd.New(connect(t, config), nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })

	turn := has(t, joins(t, server, holder, "holder")).turn
	before := openStore(t, server.addr)
	second := joins(t, server, before, "second")
	ctx, leave := context.WithCancel(t.Context())
	left := make(chan joined, 1)
	go func() {
		turn, err := s.Join(ctx, head("a").Key, []byte("third"))
		left <- joined{turn, err}
	}()
	require.Eventually(t, func() bool { return len(tickets(t, server)) == 3 }, 10*time.Second, time.Millisecond)
	turn.End()
	turn = has(t, second).turn
	holding.Store(true)
	leave()
	<-held
	revision := answers(t, before, turn)
	turn.End()
	for range 2 { // the second one is begun when the first one has ended
		other, err := s.Join(t.Context(), head("b").Key, []byte("other"))
		require.NoError(t, err)
		other.End()
	}
	close(release)
	requireAnswer(t, has(t, left), "to third", revision)
}
