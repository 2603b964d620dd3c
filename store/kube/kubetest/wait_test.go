package kubetest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func isPath(method, part string) func(*http.Request) bool {
	return func(r *http.Request) bool { return r.Method == method && strings.Contains(r.URL.Path, part) }
}

var (
	tooMany = answering(429, status(429, "TooManyRequests", "slow down"), false)
	// starting is a server that says for how long it cannot answer, and busy one that has done what was asked for.
	starting = answering(503, status(503, "ServiceUnavailable", "starting"), false)
	busy     = answering(503, status(503, "ServiceUnavailable", "busy"), true)
)

// inAnHour is a server that answers as trip does, but asks for so long a wait that no test sees the end of it.
func inAnHour(
	trip func(http.RoundTripper, *http.Request) (*http.Response, error),
) func(http.RoundTripper, *http.Request) (*http.Response, error) {
	return func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		answer, err := trip(next, r)
		if err == nil {
			answer.Header.Set("Retry-After", "3600")
		}
		return answer, err
	}
}

// waiting opens a handle through which something goes wrong once, makes a pool, and allocates for first. The handle
// settles nothing in the background, which would be what goes wrong.
func waiting(
	t *testing.T, wraps ...func(http.RoundTripper) http.RoundTripper,
) (s *kube.Store, p *pool.Pool, trouble *tripper) {
	t.Helper()
	trouble = &tripper{}
	config := sharedServer(t).config(writer)
	config.Wrap(trouble.wrap)
	for _, wrap := range wraps {
		config.Wrap(wrap)
	}
	s = open(t, config, kube.Options{Namespace: newNamespace()})
	p = createPool(t, s, "10.0.0.0/24")
	_, err := s.Turn(t.Context(), poolKey(labPool)) // while it lasts, the head is not at rest
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "first"})
	require.NoError(t, err)
	return s, p, trouble
}

// TestRetryAfter: a request that the server refuses for now is sent again after the time that it names, and nothing
// else fails for it.
func TestRetryAfter(t *testing.T) {
	claims := func() []pool.Claim {
		var all []pool.Claim
		for i := range 20 {
			all = append(all, pool.Claim{Owner: fmt.Sprint("owner-", i)})
		}
		return all
	}
	for name, c := range map[string]struct {
		fits func(*http.Request) bool
		trip func(http.RoundTripper, *http.Request) (*http.Response, error)
	}{
		"record, 429":           {isPath("POST", "/ipallocations"), tooMany},
		"record, 503":           {isPath("POST", "/ipallocations"), starting},
		"record, 503, and done": {isPath("POST", "/ipallocations"), busy},
		"head, 429":             {isPath("PUT", "/ippools/"), tooMany},
		"head, 503, and done":   {isPath("PUT", "/ippools/"), busy},
	} {
		t.Run(name, func(t *testing.T) {
			s, p, trouble := waiting(t)
			trouble.once(c.fits, c.trip)
			start := time.Now()
			granted, err := p.All(t.Context(), pooltest.Allocations(claims())...)
			require.NoError(t, err)
			require.Len(t, granted, 20)
			require.GreaterOrEqual(t, time.Since(start), time.Second)
			require.Len(t, requireHeld(t, s, nil), 21)
		})
	}
	for name, trip := range map[string]func(http.RoundTripper, *http.Request) (*http.Response, error){
		"429": tooMany, "503": starting,
	} {
		t.Run("reads, "+name, func(t *testing.T) {
			_, p, trouble := waiting(t)
			for _, part := range []string{"/ipallocations/lab.first", "/ipallocations"} {
				trouble.once(isPath("GET", part), trip)
				start := time.Now()
				if strings.HasSuffix(part, "first") {
					_, err := p.Get(t.Context(), pool.Held{Owner: "first"})
					require.NoError(t, err)
				} else {
					for _, err := range p.Allocations(t.Context()) {
						require.NoError(t, err)
					}
				}
				require.GreaterOrEqual(t, time.Since(start), time.Second)
			}
		})
	}
}

// TestRetryAfterTheDeadline: where the time that the server names is later than the deadline, the call fails at once,
// and the error says for certain that nothing was changed.
func TestRetryAfterTheDeadline(t *testing.T) {
	for _, fits := range []func(*http.Request) bool{isCreate, isHead} {
		s, _, trouble := waiting(t)
		head, err := s.Get(t.Context(), poolKey(labPool))
		require.NoError(t, err)
		trouble.once(fits, inAnHour(tooMany))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
		_, err = storetest.CommitOne(ctx, s, head, store.Write{Op: store.Create, Record: record(allocKey("x"), "")})
		require.ErrorContains(t, err, "slow down")
		require.NotErrorIs(t, err, store.ErrUnknown)
		require.NoError(t, ctx.Err())
		cancel()
		_, err = s.Get(t.Context(), allocKey("x"))
		require.ErrorIs(t, err, store.ErrNotFound)
	}
	s, _, trouble := waiting(t)
	ctx, cancel := context.WithCancel(t.Context())
	trouble.once(isPath("GET", "/ippools/"), func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		time.AfterFunc(100*time.Millisecond, cancel)
		return inAnHour(tooMany)(next, r)
	})
	_, err := s.Get(ctx, poolKey(labPool))
	require.ErrorContains(t, err, "slow down")
	require.Error(t, ctx.Err(), "the context ends the wait")
}

// TestCleaningUpIsNoRefusal: a commit neither fails nor waits where the server refuses to settle an earlier one for
// now. That is left for the next.
func TestCleaningUpIsNoRefusal(t *testing.T) {
	for name, refuse := range map[string]func(http.RoundTripper, *http.Request) (*http.Response, error){
		"429": tooMany, "503": starting,
	} {
		t.Run(name, func(t *testing.T) {
			// No record is created before so many requests that settle something are answered.
			answered, awaited := make(chan string, 100), atomic.Int64{}
			s, p, trouble := waiting(t, func(next http.RoundTripper) http.RoundTripper {
				return roundTrip(func(r *http.Request) (*http.Response, error) {
					for n := awaited.Load(); n > 0 && isPath("POST", "/ipallocations")(r); n-- {
						select {
						case <-answered:
						case <-r.Context().Done():
							return nil, r.Context().Err()
						}
					}
					answer, err := next.RoundTrip(r)
					if isPath("PUT", "/ipallocations/lab.")(r) {
						answered <- r.URL.Path
					}
					return answer, err
				})
			})
			allocate := func(owner string, settles int64) {
				awaited.Store(settles)
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
				require.NoError(t, err)
				require.Empty(t, answered)
			}
			trouble.once(isPath("PUT", "/ipallocations/lab.first"), inAnHour(refuse))
			allocate("second", 1)
			require.Equal(t, []any{"first", "second"}, pendingOwners(t, s))
			allocate("third", 2)
			require.Equal(t, []any{"third"}, pendingOwners(t, s), "which the next commit settles")
		})
	}
}

// pendingOwners returns the owners of the allocations that are pending, in the order of their names.
func pendingOwners(t *testing.T, s *kube.Store) (owners []any) {
	t.Helper()
	for _, row := range printed(t, sharedServer(t), s.Namespace(), "ipallocations") {
		if row["Pending"] != nil {
			owners = append(owners, row["Owner"])
		}
	}
	return owners
}

// TestServerWithALimit commits many records at once to a server that does two requests at a time, and refuses more.
func TestServerWithALimit(t *testing.T) {
	server := newServer(t, t.TempDir())
	server.MaxInFlight = 2
	server.Run(t, kube.CRDs())
	t.Cleanup(server.Close)
	var refused atomic.Int64
	config := server.config(writer)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			answer, err := next.RoundTrip(r)
			if err == nil && answer.StatusCode == http.StatusTooManyRequests {
				refused.Add(1)
			}
			return answer, err
		})
	})
	s := open(t, config, kube.Options{Namespace: newNamespace()})
	p := createPool(t, s, "10.0.0.0/24")
	var claims []pool.Claim
	for i := range 64 {
		claims = append(claims, pool.Claim{Owner: fmt.Sprint("owner-", i)})
	}
	_, err := p.All(t.Context(), pooltest.Allocations(claims)...)
	require.NoError(t, err)
	require.Len(t, requireHeld(t, s, nil), 64)
	require.Positive(t, refused.Load(), "the server never had too much to do")
}
