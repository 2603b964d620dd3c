package kube_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// observed notes its requests, and calls before with each of them, unless that is nil.
type observed struct {
	*simClient
	before func(verb string)
	verbs  []string
}

func (c *observed) note(verb string) {
	c.verbs = append(c.verbs, verb)
	if c.before != nil {
		c.before(verb)
	}
}

func (c *observed) Get(ctx context.Context, r kube.Ref) (*kube.Object, error) {
	c.note("get")
	return c.simClient.Get(ctx, r)
}

func (c *observed) Create(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	c.note("create")
	return c.simClient.Create(ctx, o)
}

func (c *observed) Update(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	if o.Turn() != "" {
		c.note("turn")
	} else {
		c.note("update")
	}
	return c.simClient.Update(ctx, o)
}

func (c *observed) Remove(ctx context.Context, o *kube.Object) error {
	c.note("remove")
	return c.simClient.Remove(ctx, o)
}

func createAlloc(name string) []store.Write {
	return []store.Write{{Op: store.Create, Record: record(allocKey(name), "held")}}
}

// losing returns a handle that has just lost the head of pool lab to another, the client that it uses, and the head.
func losing(t *testing.T, server *simServer) (*kube.Store, *observed, store.Record) {
	t.Helper()
	head, err := storetest.CommitOne(t.Context(), simStore(&simClient{server: server}, "first"),
		record(poolKey("lab"), ""), createAlloc("first")...)
	require.NoError(t, err)
	client := &observed{simClient: &simClient{server: server}}
	client.before = func(verb string) {
		if verb == "update" {
			client.before = nil
			_, err := storetest.CommitOne(t.Context(), simStore(&simClient{server: server}, "rival"), head)
			require.NoError(t, err)
		}
	}
	s := kube.NewStore(client, kube.Options{Parallel: 1}, counterID("loser"), noPause)
	_, err = storetest.CommitOne(t.Context(), s, head, createAlloc("x")...)
	var conflict *store.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, []string{"get", "create", "update", "get", "remove"}, client.verbs)
	client.verbs = nil
	return s, client, conflict.Current
}

// requireTurn checks whose turn it is at the head of pool lab.
func requireTurn(t *testing.T, server *simServer, want string) {
	t.Helper()
	o, err := (&simClient{server: server}).Get(t.Context(), kube.RefOf(poolKey("lab")))
	require.NoError(t, err)
	require.Equal(t, want, o.Turn())
}

// TestTurn: a handle that has lost takes its turn before it writes a record, and whoever looks at the head then waits,
// and writes nothing. After a commit that nobody was in the way of, it commits as before.
func TestTurn(t *testing.T) {
	server := newSimServer()
	s, client, head := losing(t, server)
	other := &observed{simClient: &simClient{server: server}}
	waiting, committed := make(chan struct{}), make(chan struct{})
	first := true
	patient := kube.NewStore(other, kube.Options{}, counterID("other"), func(context.Context, time.Duration) error {
		if first {
			first = false
			close(waiting)
		}
		<-committed
		return nil
	})
	answer := make(chan error, 1)
	client.before = func(verb string) {
		if verb == "create" {
			client.before = nil
			go func() {
				_, err := storetest.CommitOne(t.Context(), patient, head, createAlloc("y")...)
				answer <- err
			}()
			<-waiting
		}
	}
	head, err := storetest.CommitOne(t.Context(), s, head, createAlloc("x")...)
	require.NoError(t, err)
	require.Equal(t, []string{"get", "turn", "create", "update"}, client.verbs)
	requireTurn(t, server, "")
	close(committed)
	require.ErrorIs(t, <-answer, store.ErrConflict)
	require.NotContains(t, other.verbs, "create")
	client.verbs = nil
	_, err = storetest.CommitOne(t.Context(), s, head, createAlloc("z")...)
	require.NoError(t, err)
	require.Equal(t, []string{"create", "update", "update"}, client.verbs, "the record, the one before, and the head")
}

// TestTurnOfTheDead: others wait for the turn of a process that has crashed, longer for more records, and then take
// theirs.
func TestTurnOfTheDead(t *testing.T) {
	for name, c := range map[string]struct {
		records           int
		shortest, longest time.Duration
	}{
		"one record":  {1, time.Second, 2 * time.Second},
		"500 records": {500, 6 * time.Second, 8 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			server := newSimServer()
			s, client, head := losing(t, server)
			client.before = func(verb string) { client.crashed = client.crashed || verb == "create" }
			var writes []store.Write
			for i := range c.records {
				writes = append(writes, createAlloc(fmt.Sprint("owner-", i))...)
			}
			_, err := storetest.CommitOne(t.Context(), s, head, writes...)
			require.ErrorIs(t, err, errCrashed)
			requireTurn(t, server, "loser-000002")
			var waited time.Duration
			heir := kube.NewStore(&simClient{server: server}, kube.Options{Patience: time.Second}, counterID("heir"),
				func(_ context.Context, d time.Duration) error {
					waited += d
					return nil
				})
			_, err = storetest.CommitOne(t.Context(), heir, head, createAlloc("x")...)
			require.NoError(t, err)
			requireTurn(t, server, "")
			require.GreaterOrEqual(t, waited, c.shortest/2, "half of each wait is by chance")
			require.LessOrEqual(t, waited, c.longest)
		})
	}
}

// TestTurnGivenBack: a commit that fails gives its turn back, and one that writes the head as another's record ends the
// turn there.
func TestTurnGivenBack(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		server := newSimServer()
		s, client, head := losing(t, server)
		_, err := storetest.CommitOne(t.Context(), s, head, createAlloc("first")...)
		require.ErrorIs(t, err, store.ErrExists)
		require.Contains(t, client.verbs, "turn")
		requireTurn(t, server, "")
	})
	t.Run("several", func(t *testing.T) {
		server := newSimServer()
		s, client, head := losing(t, server)
		client.before = func(verb string) { client.crashed = client.crashed || verb == "create" }
		_, err := storetest.CommitOne(t.Context(), s, head, createAlloc("x")...)
		require.ErrorIs(t, err, errCrashed)
		requireTurn(t, server, "loser-000002")
		heads, err := simStore(&simClient{server: server}, "heir").Commit(t.Context(),
			store.Change{Head: record(poolKey("a"), "")}, store.Change{Head: head})
		require.NoError(t, err)
		requireTurn(t, server, "")
		_, err = storetest.CommitOne(t.Context(), simStore(&simClient{server: server}, "next"), heads[1],
			createAlloc("x")...)
		require.NoError(t, err)
	})
}
