package kubetest_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// mortal is a client that refuses requests from some moment on, as if its process had ended.
type mortal struct {
	ended atomic.Bool
	fits  func(*http.Request) bool // which request is the last one, without effect; nil for none
}

func (m *mortal) wrap(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if m.fits != nil && m.fits(r) {
				m.ended.Store(true)
			}
			if m.ended.Load() {
				return nil, errLost
			}
			return next.RoundTrip(r)
		})
	})
	return config
}

func claimsOf(name string, n int) []pool.Claim {
	claims := make([]pool.Claim, n)
	for i := range claims {
		claims[i].Owner = fmt.Sprintf("%s-%d", name, i)
	}
	return claims
}

// limited returns config with a limit, as that of controllers was for long by default: 20 requests a second, and some
// more at once.
func limited(config *rest.Config, qps float32) *rest.Config {
	config.QPS, config.Burst = qps, 30
	return config
}

// TestLeftByTheDead: a process makes a large commit and ends. One with a limited client goes on at once: what was left
// takes none of its requests yet, see TestRollOfTheDead. Sweep settles it, and empties the log.
func TestLeftByTheDead(t *testing.T) {
	server, namespace, first, n := sharedServer(t), newNamespace(), &mortal{}, size(400, 1000)
	s := open(t, first.wrap(server.config(writer)), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/20")
	_, err := p.All(t.Context(), pooltest.Allocations(claimsOf("left", n))...)
	require.NoError(t, err)
	first.ended.Store(true)
	pending := func() (n int) {
		for _, row := range printed(t, server, namespace, "ipallocations") {
			if row["Pending"] != nil {
				n++
			}
		}
		return n
	}
	before := pending()
	require.Greater(t, before, n*3/4)

	count := &counter{}
	other := open(t, count.wrap(limited(server.config(writer), 20)), kube.Options{Namespace: namespace})
	q, err := pool.Open(t.Context(), other, labPool, nil)
	require.NoError(t, err)
	const next = 4
	for i := range next {
		_, err := q.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("next-", i)})
		require.NoError(t, err)
	}
	require.Less(t, len(count.take()), next*6)
	require.GreaterOrEqual(t, pending(), before)

	sweeper := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: namespace})
	count.take()
	_, err = sweeper.Sweep(t.Context())
	require.NoError(t, err)
	require.Less(t, len(count.take()), n+100, "one request an object")
	require.NoError(t, other.Close())
	requireSettled(t, server, namespace, n+next+1)
	require.Empty(t, rawHead(t, server, namespace)["log"])
	requireHeld(t, sweeper, nil)
}

// rawHead returns the object of pool lab.
func rawHead(t *testing.T, server *server, namespace string) map[string]any {
	t.Helper()
	config := server.config(admin)
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	answer, err := client.Get(fmt.Sprintf("%s/apis/%s/%s/namespaces/%s/ippools/%s",
		config.Host, kube.Group, kube.Version, namespace, labPool))
	require.NoError(t, err)
	defer answer.Body.Close()
	var head map[string]any
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&head))
	return head
}

// TestDeadCommit: a process ends before its large commit comes about. List, and so Verify, and Sweep cost about one
// request for each object that it left.
func TestDeadCommit(t *testing.T) {
	server, namespace, n := sharedServer(t), newNamespace(), size(200, 1000)
	alive := &counter{}
	s := open(t, alive.wrap(server.config(writer)), kube.Options{Namespace: namespace})
	q := createPool(t, s, "10.0.0.0/20")
	dying := &mortal{fits: isHead}
	p, err := pool.Open(t.Context(), open(t, dying.wrap(server.config(writer)), kube.Options{Namespace: namespace}),
		labPool, &pool.Options{Attempts: 1})
	require.NoError(t, err)
	_, err = p.All(t.Context(), pooltest.Allocations(claimsOf("dead", n))...)
	require.ErrorIs(t, err, errLost)
	require.Len(t, printed(t, server, namespace, "ipallocations"), n)

	_, err = q.Allocate(t.Context(), pool.Claim{Owner: "next"})
	require.NoError(t, err)
	alive.take()
	require.Len(t, requireHeld(t, s, nil), 1)
	require.Less(t, len(alive.take()), 3*n, "two lists of them, and a read of each of them for each")
	_, err = s.Sweep(t.Context())
	require.NoError(t, err)
	require.Less(t, len(alive.take()), n+50)
	require.NoError(t, s.Close())
	requireSettled(t, server, namespace, 2)
}

// TestRefusedBeforeWriting: what the head has no room to list is refused before anything is written.
func TestRefusedBeforeWriting(t *testing.T) {
	server, count := sharedServer(t), &counter{}
	s := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: newNamespace()})
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
	require.NoError(t, err)
	count.take()
	writes, long := make([]store.Write, 14_000), strings.Repeat("long", 20)
	for i := range writes {
		key := store.Key{Kind: store.KindAllocation, Pool: long, Name: fmt.Sprint(long, i)}
		writes[i] = store.Write{Op: store.Create, Record: record(key, "held")}
	}
	_, err = storetest.CommitOne(t.Context(), s, head, writes...)
	var tooLarge *store.TooLargeError
	require.ErrorAs(t, err, &tooLarge)
	require.Greater(t, tooLarge.Size, tooLarge.Limit)
	require.Empty(t, count.take())
}

// TestLargeInTime: a limited client cannot commit so much at once in its time, and commits it in parts.
func TestLargeInTime(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	createPool(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), "10.0.0.0/20")
	s := open(t, limited(server.config(writer), 50), kube.Options{Namespace: namespace})
	p, err := pool.Open(t.Context(), s, labPool, &pool.Options{CommitTimeout: 3 * time.Second})
	require.NoError(t, err)
	for r, err := range p.Each(t.Context(), slices.Values(pooltest.Allocations(claimsOf("many", 150)))) {
		require.NoError(t, err)
		require.NoError(t, r.Err)
	}
}

// TestNothingStays: after normal work nothing stays that people can see, without Sweep.
func TestNothingStays(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/16")
	for i := range 20 {
		claim := pool.Claim{
			Owner: fmt.Sprint("child-", i), Requests: []pool.Request{{Family: pool.IPv4, Bits: 28}},
		}
		child, _, err := pool.Delegate(t.Context(), p, claim, fmt.Sprint("child-", i), pool.Spec{}, nil)
		require.NoError(t, err)
		_, err = child.Allocate(t.Context(), pool.Claim{Owner: "x"})
		require.NoError(t, err)
		_, err = child.Release(t.Context(), pool.Held{Owner: "x"})
		require.NoError(t, err)
		require.NoError(t, pool.Delete(t.Context(), s, child.Name(), nil))
	}
	require.EventuallyWithT(t, func(c *assert.CollectT) {
		for resource, n := range map[string]int{"ippools": 1, "ipallocations": 0, "iprecords": 0} {
			rows := printed(t, server, namespace, resource)
			require.Len(c, rows, n, resource)
			for _, row := range rows {
				require.Nil(c, row["Pending"])
			}
		}
	}, 20*time.Second, 50*time.Millisecond)
}

// TestPrintedWhilePending: the columns of an object that a commit has left pending show what it is about to be.
func TestPrintedWhilePending(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	config := server.config(writer)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.Body != nil && strings.Contains(r.URL.Path, "/ipallocations/") {
				body, err := io.ReadAll(r.Body)
				if err != nil || !bytes.Contains(body, []byte(`"pending"`)) {
					return nil, errLost // nothing is settled
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			return next.RoundTrip(r)
		})
	})
	s := open(t, config, kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/24")
	look := func() map[string]any {
		rows := printed(t, server, namespace, "ipallocations")
		require.Len(t, rows, 1)
		require.NotNil(t, rows[0]["Pending"])
		return rows[0]
	}
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "x"})
	require.NoError(t, err)
	require.Subset(t, look(), map[string]any{"State": "allocated", "Owner": "x", "Addresses": "10.0.0.0"})
	_, err = p.Release(t.Context(), pool.Held{Owner: "x"})
	require.NoError(t, err)
	require.Subset(t, look(), map[string]any{"State": "being released", "Owner": "x", "Addresses": "10.0.0.0"})
	_, err = open(t, server.config(writer), kube.Options{Namespace: namespace}).Sweep(t.Context())
	require.NoError(t, err)
	requireSettled(t, server, namespace, 1)
}
