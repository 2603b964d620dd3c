package kubetest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// tripper does something else than to pass a request on, once, where it fits.
type tripper struct {
	mu   sync.Mutex
	fits func(*http.Request) bool
	trip func(next http.RoundTripper, r *http.Request) (*http.Response, error)
}

func (tr *tripper) wrap(next http.RoundTripper) http.RoundTripper {
	return roundTrip(func(r *http.Request) (*http.Response, error) {
		tr.mu.Lock()
		trip := tr.trip
		if trip != nil && tr.fits(r) {
			tr.trip = nil
		} else {
			trip = nil
		}
		tr.mu.Unlock()
		if trip != nil {
			return trip(next, r)
		}
		return next.RoundTrip(r)
	})
}

// once says what becomes of the next request that fits.
func (tr *tripper) once(
	fits func(*http.Request) bool, trip func(http.RoundTripper, *http.Request) (*http.Response, error),
) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.fits, tr.trip = fits, trip
}

var errLost = errors.New("the connection is lost")

// The ways in which a request goes wrong.
var (
	lostRequest = func(http.RoundTripper, *http.Request) (*http.Response, error) { return nil, errLost }
	lostAnswer  = func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if answer, err := next.RoundTrip(r); err == nil {
			answer.Body.Close()
		}
		return nil, errLost
	}
)

// answering is a server, or something before it, that answers by itself.
func answering(code int, body string, pass bool) func(http.RoundTripper, *http.Request) (*http.Response, error) {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		if pass {
			if answer, err := next.RoundTrip(r); err == nil {
				answer.Body.Close()
			}
		}
		return &http.Response{
			StatusCode: code, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: r,
			Header: http.Header{"Content-Type": {"application/json"}, "Retry-After": {"1"}},
			Body:   io.NopCloser(bytes.NewReader([]byte(body))),
		}, nil
	}
}

func status(code int, reason, message string) string {
	return fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","message":%q,"reason":%q,"code":%d}`,
		message, reason, code)
}

func isHead(r *http.Request) bool {
	return r.Method == "PUT" && strings.Contains(r.URL.Path, "/ippools/") && r.URL.Query().Get("dryRun") == ""
}
func isCreate(r *http.Request) bool { return r.Method == "POST" }

// TestOutcomes has the update of the head, which is the commit point, and the write before it end in all ways, and
// looks at what Commit says, and at what is there.
func TestOutcomes(t *testing.T) {
	server := sharedServer(t)
	for name, c := range map[string]struct {
		fits func(*http.Request) bool
		trip func(http.RoundTripper, *http.Request) (*http.Response, error)
		want error // nil for a commit that comes about
		come bool
	}{
		"head, request lost": {isHead, lostRequest, store.ErrUnknown, false},
		"head, answer lost":  {isHead, lostAnswer, nil, true},
		"head, 429": {
			isHead, answering(429, status(429, "TooManyRequests", "slow down"), false), nil, true,
		},
		"head, 403 quota": {
			isHead, answering(403, status(403, "Forbidden", "exceeded quota"), false), errRefused, false,
		},
		"head, 422": {
			isHead, answering(422, status(422, "Invalid", "a webhook says no"), false), errRefused, false,
		},
		"head, 413": {
			isHead, answering(413, status(413, "RequestEntityTooLarge", "limit is 3145728"), false), store.ErrTooLarge, false,
		},
		"head, etcd too large": {
			isHead, answering(500, status(500, "InternalError", "etcdserver: request is too large"), false),
			store.ErrTooLarge, false,
		},
		"head, etcd full": {
			isHead, answering(500, status(500, "InternalError", "etcdserver: mvcc: database space exceeded"), false),
			errRefused, false,
		},
		"head, 500": {
			isHead, answering(500, status(500, "InternalError", "etcdserver: leader changed"), false), store.ErrUnknown, false,
		},
		"head, 504 and done": {
			isHead, answering(504, status(504, "Timeout", "etcdserver: request timed out"), true), nil, true,
		},
		"head, 503 of a balancer": {isHead, answering(503, "no healthy upstream", false), store.ErrUnknown, false},
		"head, 409 after a hidden retry": {
			isHead, answering(409, status(409, "Conflict", "the object has been modified"), true), nil, true,
		},
		"head, nonsense and done": {isHead, answering(200, "<html>", true), nil, true},
		"record, request lost":    {isCreate, lostRequest, errRefused, false},
		"record, answer lost":     {isCreate, lostAnswer, errRefused, false},
		"record, 403": {
			isCreate, answering(403, status(403, "Forbidden", "exceeded quota"), false), errRefused, false,
		},
		"record, exists after all": {
			isCreate, answering(409, status(409, "AlreadyExists", "a hidden retry"), true), nil, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			trouble := &tripper{}
			config := server.config(writer)
			config.Wrap(trouble.wrap)
			namespace := newNamespace()
			s := open(t, config, kube.Options{Namespace: namespace, Patience: 1})
			head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "old"))
			require.NoError(t, err)
			trouble.once(c.fits, c.trip)
			next := head
			next.State = "new"
			writes := []store.Write{{Op: store.Create, Record: record(allocKey("x"), "new")}}
			got, err := storetest.CommitOne(t.Context(), s, next, writes...)
			switch {
			case c.want == nil:
				require.NoError(t, err)
			case errors.Is(c.want, errRefused):
				require.Error(t, err)
				require.NotErrorIs(t, err, store.ErrUnknown)
			default:
				require.ErrorIs(t, err, c.want)
			}
			other := open(t, server.config(writer), kube.Options{Namespace: namespace, Patience: 1})
			now, err := other.Get(t.Context(), head.Key)
			require.NoError(t, err)
			x, err := other.Get(t.Context(), allocKey("x"))
			if c.come {
				require.NoError(t, err)
				require.Equal(t, got, now)
				require.Equal(t, got.Revision, x.Revision)
				_, err = storetest.CommitOne(t.Context(), s, got)
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, store.ErrNotFound)
			require.Equal(t, head, now)
			_, err = storetest.CommitOne(t.Context(), s, next, writes...)
			require.NoError(t, err, "the same again")
			_, err = other.Sweep(t.Context())
			require.NoError(t, err)
			requireSettled(t, server, namespace, 2)
		})
	}
}

// errRefused stands for an error that is none of package store.
var errRefused = errors.New("refused")

// TestRealRefusals has the server itself refuse writes, in the middle of a commit, and then allow them again. That
// allocations cannot be updated any more is noticed when one is to be settled, and so may be told to the call after.
func TestRealRefusals(t *testing.T) {
	server, namespace := ownServer(t), newNamespace()
	granted := 0
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/24")
	for i, forbidden := range []func(authorizer.Attributes) bool{
		func(a authorizer.Attributes) bool { return a.GetVerb() == "create" },
		func(a authorizer.Attributes) bool { return a.GetVerb() == "update" && a.GetResource() == "ippools" },
		func(a authorizer.Attributes) bool {
			return a.GetVerb() == "update" && a.GetResource() == "ipallocations"
		},
		func(a authorizer.Attributes) bool { return a.GetVerb() != "get" && a.GetVerb() != "list" },
	} {
		allocate := func() error {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("owner-", granted)})
			if err == nil {
				granted++
			}
			return err
		}
		require.NoError(t, allocate())
		server.rules.forbid.Store(&forbidden)
		err := allocate()
		for try := 0; err == nil && i == 2 && try < 100; try++ {
			time.Sleep(50 * time.Millisecond)
			err = allocate()
		}
		require.ErrorIs(t, err, kube.ErrForbidden, "case %d", i)
		require.NotErrorIs(t, err, store.ErrUnknown)
		server.rules.forbid.Store(nil)
		requireHeld(t, s, nil)
		require.NoError(t, allocate())
	}
	require.Len(t, requireHeld(t, s, nil), granted)
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	requireSettled(t, server, namespace, granted+1)
}

// TestNetwork has several processes' worth of handles allocate and release through a proxy that cuts, stalls, delays
// and refuses connections, while the API server is stopped and started again on the same etcd. In the end the pool
// holds what was granted and not released.
func TestNetwork(t *testing.T) {
	server, namespace := ownServer(t), newNamespace()
	direct := open(t, server.config(writer), kube.Options{Namespace: namespace})
	createPool(t, direct, "10.0.0.0/22")
	const handles = 4
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	var mu sync.Mutex
	said, granted := told{}, 0
	proxy := proxy.New(t, server.Addr)
	config := server.config(writer)
	config.Host = "https://" + proxy.Addr()
	config.Timeout = time.Second
	for h := range handles {
		all.Go(func() {
			workThrough(ctx, config, namespace, h, func(owner, last string) {
				mu.Lock()
				defer mu.Unlock()
				said[owner] = last
				if strings.HasPrefix(last, "granted") {
					granted++
				}
			})
		})
	}
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 24 {
		switch round % 6 {
		case 0:
			<-orTimeout(proxy.CutAfterRequestBytes(1 + random.IntN(20_000)))
		case 1:
			<-orTimeout(proxy.CutAfterReplyBytes(1 + random.IntN(20_000)))
		case 2:
			proxy.Delay(5 * time.Millisecond)
			<-orTimeout(nil)
		case 3:
			proxy.Stall()
			<-orTimeout(nil)
			proxy.Cut()
		case 4:
			proxy.StallReplies()
			<-orTimeout(nil)
			proxy.Cut()
		case 5:
			proxy.Refuse()
			proxy.Cut()
			if round > 12 {
				server.Stop()
				server.Start(t)
			}
		}
		proxy.Heal()
		<-orTimeout(nil)
	}
	enough := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return granted > 20
	}
	require.Eventually(t, enough, 2*time.Minute, 10*time.Millisecond, "a busy machine grants less meanwhile")
	stop()
	all.Wait()
	held := requireHeld(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), said)
	for owner, last := range said {
		if last == "released" {
			require.NotContains(t, held, owner)
		}
	}
	_, err := direct.Sweep(t.Context())
	require.NoError(t, err)
	require.Equal(t, held, requireHeld(t, direct, nil))
	t.Logf("%d grants, %d held", granted, len(held))
}

// orTimeout returns a channel that is closed when done is, or after a while.
func orTimeout(done <-chan struct{}) <-chan struct{} {
	either := make(chan struct{})
	go func() {
		defer close(either)
		select {
		case <-done:
		case <-time.After(150 * time.Millisecond):
		}
	}()
	return either
}

// workThrough allocates and releases through a proxy until ctx ends, and tells what it was told last of each owner. An
// owner whose call failed it tells nothing of, after having taken back what it told before.
func workThrough(ctx context.Context, config *rest.Config, namespace string, h int, tell func(owner, last string)) {
	var s *kube.Store
	for s == nil {
		var err error
		s, err = kube.Open(ctx, config, &kube.Options{Namespace: namespace, Patience: 50 * time.Millisecond})
		if err != nil && ctx.Err() != nil {
			return
		}
	}
	defer s.Close()
	for i := 0; ctx.Err() == nil; i++ {
		owner := fmt.Sprintf("handle-%d/%d", h, i)
		p, err := pool.Open(ctx, s, labPool, nil)
		if err != nil {
			continue
		}
		a, err := p.Allocate(ctx, pool.Claim{Owner: owner})
		if err != nil {
			continue
		}
		tell(owner, "granted "+a.Prefixes[0].Addr().String())
		if i%2 == 0 {
			tell(owner, "releasing")
			if _, err := p.Release(ctx, pool.Held{Owner: owner}); err == nil {
				tell(owner, "released")
			}
		}
	}
}

// TestSecondHandleSettles leaves commits of one handle to others, more than a log keeps.
func TestSecondHandleSettles(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	var head store.Record
	want := map[string]int64{}
	for i := range 20 {
		s := open(t, server.config(writer), kube.Options{Namespace: namespace})
		writes := make([]store.Write, 10)
		for j := range writes {
			name := fmt.Sprintf("owner-%d", i*10+j)
			writes[j] = store.Write{Op: store.Create, Record: record(allocKey(name), "held")}
			want[name] = 0
		}
		if i == 0 {
			head = record(poolKey("lab"), "head")
		}
		var err error
		head, err = storetest.CommitOne(t.Context(), s, head, writes...)
		require.NoError(t, err)
		for _, w := range writes {
			want[w.Record.Name] = head.Revision
		}
		require.NoError(t, s.Close())
	}
	s := open(t, server.config(writer), kube.Options{Namespace: namespace, PageSize: 7})
	found := map[string]int64{}
	for r, err := range s.List(t.Context(), store.KindAllocation, "lab") {
		require.NoError(t, err)
		found[r.Name] = r.Revision
	}
	require.Equal(t, want, found)
	pending := slices.Collect(func(yield func(any) bool) {
		for _, row := range printed(t, server, namespace, "ipallocations") {
			if row["Pending"] != nil && !yield(row) {
				return
			}
		}
	})
	require.LessOrEqual(t, len(pending), 64+10)
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	requireSettled(t, server, namespace, len(want)+1)
}
