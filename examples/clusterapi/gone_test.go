package main_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/controller"
)

// roundTripper is a function that answers requests.
type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClaimGoneWhileItIsBound lets a claim go when a replica has taken an address for it, but has not yet made the
// IPAddress, as another replica does that knows more. The address is free again, without a sweep.
func TestClaimGoneWhileItIsBound(t *testing.T) {
	c := newCluster(t, t.TempDir(), versions{})
	t.Cleanup(c.close)
	var once sync.Once
	var letGo func()
	c.wrap = func(next http.RoundTripper) http.RoundTripper {
		return roundTripper(func(r *http.Request) (*http.Response, error) {
			gone := false
			if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/ipaddresses") {
				once.Do(func() { letGo(); gone = true })
			}
			if gone {
				return nil, errors.New("cut off")
			}
			return next.RoundTrip(r)
		})
	}
	c.run(t, controller.Options{
		Settle: time.Millisecond, Sweep: time.Hour, Registry: prometheus.NewRegistry(),
	})
	pool := c.newPool(t, "default", clusterapi.KindNamespaced, "one", "addresses: [10.41.0.1-10.41.0.9]", "prefix: 16")
	c.counted(t, pool, 9, 9)
	letGo = func() {
		doomed := newClaim(pool, "default", "doomed")
		held, err := c.open(t, "default/one").Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, 1, held.Holders, "the address is taken")
		require.NoError(t, c.Delete(t.Context(), doomed))
		c.patch(t, doomed, `{"metadata": {"finalizers": null}}`)
	}
	awaitGone(t, c, c.claim(t, pool, "default", "doomed"))
	// The counts of the pool's status are those from before the claim until the next look, so the pool itself is asked.
	require.Eventually(t, func() bool {
		held, err := c.open(t, "default/one").Info(t.Context())
		return err == nil && held.Holders == 0
	}, *patience, tick, "the address is free again")
	require.Equal(t, "10.41.0.1", c.bound(t, c.claim(t, pool, "default", "next")).Spec.Address)
}
