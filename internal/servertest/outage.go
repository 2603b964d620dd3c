package servertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// patience is how long tests wait for what comes soon unless the machine does other things.
const patience = 2 * time.Minute

// Outage is a store behind a proxy, and another handle on it that is not.
type Outage struct {
	Proxy           *proxy.Proxy
	Through, Direct Store
	URL, Schema     string
	Head            store.Record // of pool a
}

// NewOutage opens a store behind the proxy on so many connections.
func (d Driver) NewOutage(t *testing.T, conns int) *Outage {
	t.Helper()
	url, schema := d.Place(t)
	o := d.outageAt(t, url, schema, conns)
	var err error
	o.Head, err = storetest.CommitOne(t.Context(), o.Through, Head("a"))
	require.NoError(t, err)
	return o
}

func (d Driver) outageAt(t *testing.T, url, schema string, conns int) *Outage {
	t.Helper()
	o := &Outage{Proxy: proxy.New(t, d.Addr(t)), URL: url, Schema: schema}
	o.Direct = d.OpenAt(t, url, schema)
	o.Through = d.Connect(t, d.URL(t, o.Proxy.Addr()), schema, conns, direct)
	return o
}

// direct leaves a connection as it is.
func direct(conn net.Conn) net.Conn { return conn }

// RequireHead checks whether the head is as it was, and goes on with it.
func (o *Outage) RequireHead(t *testing.T, changed bool) {
	t.Helper()
	got, err := o.Direct.Get(t.Context(), o.Head.Key)
	require.NoError(t, err)
	require.Equal(t, changed, got.Revision != o.Head.Revision)
	o.Head = got
}

// awaitChange waits until the head is another one, and goes on with it.
func (o *Outage) awaitChange(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		got, err := o.Direct.Get(t.Context(), o.Head.Key)
		return err == nil && got.Revision != o.Head.Revision
	}, patience, time.Millisecond)
	o.RequireHead(t, true)
}

// Commit commits the head, which must succeed.
func (o *Outage) Commit(t *testing.T, s store.Store) {
	t.Helper()
	var err error
	o.Head, err = storetest.CommitOne(t.Context(), s, o.Head)
	require.NoError(t, err)
}

// AnswerLost loses the answer to commits.
func (d Driver) AnswerLost(t *testing.T) {
	o := d.NewOutage(t, 4)
	for i := range 3 {
		lost := o.Proxy.LoseReply("owner to lose")
		_, err := storetest.CommitOne(t.Context(), o.Through, o.Head,
			Put(Allocation("a", "owner to lose", fmt.Sprintf("10.0.0.%d/32", i))))
		<-lost
		require.ErrorIs(t, err, store.ErrUnknown)
		require.ErrorContains(t, err, "pool/a")
		o.awaitChange(t)
	}
	o.Commit(t, o.Through)
}

// RequestLost cuts the connection after so many bytes of a request.
func (d Driver) RequestLost(t *testing.T, sizes ...int) {
	o := d.NewOutage(t, 4)
	for _, n := range sizes {
		cut := o.Proxy.CutAfterRequestBytes(n)
		_, err := storetest.CommitOne(t.Context(), o.Through, o.Head,
			Create(Allocation("a", strings.Repeat("x", 900), "10.0.0.1/32")))
		<-cut
		require.ErrorIs(t, err, store.ErrUnknown)
		o.RequireHead(t, false)
		_, err = o.Through.Get(t.Context(), o.Head.Key) // through a new connection
		require.NoError(t, err)
		o.Commit(t, o.Through)
	}
}

// SlowServer has the context end at each point at which a commit can wait: only when the request has been sent is the
// outcome unknown.
func (d Driver) SlowServer(t *testing.T) {
	o := d.NewOutage(t, 1)
	o.Proxy.Delay(20 * time.Millisecond)
	o.Commit(t, o.Through)
	o.Proxy.Heal()

	o.Proxy.StallReplies()
	ended, end := context.WithCancel(t.Context())
	defer end()
	done := make(chan error, 1)
	before := o.Head
	go func() {
		_, err := storetest.CommitOne(ended, o.Through, before)
		done <- err
	}()
	o.awaitChange(t)
	end()
	err := <-done
	require.ErrorIs(t, err, store.ErrUnknown)
	require.ErrorIs(t, err, context.Canceled)

	soon, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = storetest.CommitOne(soon, o.Through, o.Head) // has to connect
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.Proxy.Heal()
	o.RequireHead(t, false)
}

// ServerDown commits when nobody answers: nothing is sent, so nothing is unknown.
func (d Driver) ServerDown(t *testing.T) {
	o := d.NewOutage(t, 1)
	o.Proxy.Refuse()
	o.Proxy.Cut()
	_, err := o.Through.Get(t.Context(), o.Head.Key) // finds that the connection is lost
	require.Error(t, err)
	_, err = storetest.CommitOne(t.Context(), o.Through, o.Head)
	require.Error(t, err)
	require.NotErrorIs(t, err, store.ErrUnknown)
	o.Proxy.Heal()
	o.Commit(t, o.Through)
}

// WhileLocked runs do while another transaction has the head locked, and meanwhile what happens.
func (d Driver) WhileLocked(t *testing.T, o *Outage, happens, do func()) {
	t.Helper()
	unlock := d.LockHead(t, o.URL, o.Schema, "a")
	var wg sync.WaitGroup
	wg.Go(do)
	happens()
	wg.Wait()
	unlock()
}

// Durable restarts the server after each few commits. The same handle finds it again, with all that it was told is
// stored.
func Durable(t *testing.T, s Store, restarts ...func() error) {
	h := Head("a")
	for i, restart := range restarts {
		var err error
		for n := range 5 {
			h, err = storetest.CommitOne(t.Context(), s, h, Put(Allocation("a", "x", fmt.Sprintf("10.0.%d.%d/32", i, n))))
			require.NoError(t, err)
		}
		require.NoError(t, restart())
		var got store.Record
		require.Eventually(t, func() bool {
			got, err = s.Get(t.Context(), h.Key)
			return err == nil
		}, patience, 10*time.Millisecond)
		require.Equal(t, h.Revision, got.Revision)
		deleted, err := storetest.CommitOne(t.Context(), s, h, Remove(h))
		require.NoError(t, err)
		h, err = storetest.CommitOne(t.Context(), s, Head("a"))
		require.NoError(t, err)
		require.Greater(t, h.Revision, deleted.Revision, "the counter has survived")
	}
}

// PoolOutages has several workers allocate and release through a proxy that loses requests and answers all the time.
// What they were told holds, nothing is given twice, and nothing leaks. Settled returns when what was sent has no
// effect any more.
func (d Driver) PoolOutages(t *testing.T, settled func()) {
	o := d.NewOutage(t, 8)
	p, err := pool.Create(t.Context(), o.Through, pooltest.Name, pooltest.Spec(t), nil)
	require.NoError(t, err)
	const workers, each = 8, 40
	var mu sync.Mutex
	held, unsure := map[string]pool.Allocation{}, map[string]bool{}
	unknown := 0
	done := make(chan struct{})
	var wg, trouble sync.WaitGroup
	trouble.Go(func() { o.trouble(done) })
	for worker := range workers {
		wg.Go(func() {
			for n := range each {
				c := pooltest.Claim(worker, n)
				a, err := p.Allocate(t.Context(), c)
				release := err == nil && n%3 == 0
				if release {
					_, err = p.Release(t.Context(), pool.Held{Owner: c.Owner})
				}
				mu.Lock()
				switch {
				case err != nil:
					unsure[c.Owner] = true
					if errors.Is(err, store.ErrUnknown) {
						unknown++
					}
				case !release:
					held[c.Owner] = a
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	close(done)
	trouble.Wait()
	o.Proxy.Heal()
	t.Logf("of %d claims %d ended with an error, %d of them with an unknown outcome", workers*each, len(unsure), unknown)

	settled()
	p, err = pool.Open(t.Context(), o.Direct, pooltest.Name, nil)
	require.NoError(t, err)
	found := pooltest.RequireConsistent(t, p)
	for owner, want := range held {
		require.Equal(t, want.Prefixes, found[owner].Prefixes, owner)
	}
	for owner := range found {
		require.True(t, unsure[owner] || held[owner].Owner != "",
			"%s holds what it has released, or was never told to have", owner)
	}
}

// trouble loses requests and answers until all is done.
func (o *Outage) trouble(done <-chan struct{}) {
	for i := 0; ; i++ {
		var happened <-chan struct{}
		switch i % 3 {
		case 0:
			happened = o.Proxy.LoseReply("worker-")
		case 1:
			happened = o.Proxy.CutAfterRequestBytes(rand.IntN(4000))
		default:
			happened = o.Proxy.CutAfterReplyBytes(rand.IntN(4000))
		}
		select {
		case <-happened:
		case <-done:
			return
		}
	}
}
