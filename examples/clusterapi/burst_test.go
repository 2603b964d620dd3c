package main_test

import (
	"context"
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
)

// burst is how many claims come at once in TestBurst.
var burst = flag.Int("burst", 150, "how many claims come at once")

// TestBurst creates many claims on two pools at once, with three replicas. One of them is killed in the
// middle, and the server is started anew. Each claim gets an address, none is given twice, and the lowest ones are.
// Then all claims are deleted.
func TestBurst(t *testing.T) {
	c := newCluster(t, t.TempDir(), versions{"v1beta1": true})
	t.Cleanup(c.close)
	replicas := []arguments{{}, {}, {Port: c.port, Certs: c.certs}} // the server needs one to convert pools
	victim := c.start(t, replicas[0])
	for _, a := range replicas[1:] {
		c.start(t, a)
	}
	const namespace = "default"
	pools := []*unstructured.Unstructured{
		c.newPool(t, namespace, clusterapi.KindNamespaced, "one", "addresses: [10.30.0.0/16]", "prefix: 16"),
		c.newPool(t, "", clusterapi.KindGlobal, "two", "addresses: ['2001:db8::/64']", "prefix: 64"),
	}
	began := time.Now()
	created := make(chan struct{})
	go func() {
		defer close(created)
		c.createAll(t, pools, namespace)
	}()
	c.awaitBound(t, *burst/4)
	t.Logf("a quarter has them after %v", time.Since(began))
	require.NoError(t, victim.Process.Kill())
	victim.Wait()
	c.awaitBound(t, *burst/2)
	<-created
	t.Logf("half have them after %v", time.Since(began))
	c.server.Stop()
	c.server.Start(t)
	t.Logf("the server is back after %v", time.Since(began))
	c.awaitBound(t, *burst)
	t.Logf("%d claims have their addresses after %v, with a replica killed and the server restarted", *burst,
		time.Since(began))
	c.checkLowest(t, pools)
	for _, pool := range pools {
		total := counts(pool)[0]
		await(t, c, pool, func(p *unstructured.Unstructured) bool {
			return counts(p)[2] == int64(*burst/2) && counts(p)[0] >= total
		})
	}

	began = time.Now()
	require.NoError(t, c.DeleteAllOf(t.Context(), &ipamv1.IPAddressClaim{}, client.InNamespace(namespace)))
	c.awaitNothing(t)
	t.Logf("%d claims are gone after %v", *burst, time.Since(began))
	c.counted(t, pools[0], 65534, 65534)
	await(t, c, pools[1], func(p *unstructured.Unstructured) bool { return counts(p)[2] == 0 })
	for _, pool := range pools {
		require.NoError(t, c.Delete(t.Context(), pool))
		awaitGone(t, c, pool)
	}
}

// createAll creates the claims, half on each pool, by some clients at once.
func (c *cluster) createAll(t testing.TB, pools []*unstructured.Unstructured, namespace string) {
	const clients = 8
	var wait sync.WaitGroup
	for k := range clients {
		wait.Go(func() {
			for i := k; i < *burst; i += clients {
				claim := newClaim(pools[i%2], namespace, fmt.Sprint("claim-", i))
				if err := c.Create(t.Context(), claim); err != nil {
					t.Errorf("claim %d: %v", i, err)
				}
			}
		})
	}
	wait.Wait()
}

// awaitBound waits until so many claims have their addresses. If it waits in vain, it says what the others lack.
func (c *cluster) awaitBound(t testing.TB, n int) {
	t.Helper()
	require.EventuallyWithT(t, func(look *assert.CollectT) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var list ipamv1.IPAddressClaimList
		require.NoError(look, c.List(ctx, &list)) // the server may be away
		bound, without := 0, ""
		for i := range list.Items {
			claim := &list.Items[i]
			if claim.Status.AddressRef.Name != "" {
				bound++
			} else {
				without += fmt.Sprintf("\n%s: %+v", claim.Name, claim.Status.Conditions)
			}
		}
		require.GreaterOrEqual(look, bound, n, "without an address:%s", without)
	}, *patience, 50*time.Millisecond)
}

func (c *cluster) awaitNothing(t testing.TB) {
	t.Helper()
	require.Eventually(t, func() bool {
		var claims ipamv1.IPAddressClaimList
		var addresses ipamv1.IPAddressList
		require.NoError(t, c.List(t.Context(), &claims))
		require.NoError(t, c.List(t.Context(), &addresses))
		return len(claims.Items)+len(addresses.Items) == 0
	}, *patience, 50*time.Millisecond)
}

// checkLowest requires that the addresses of each pool are its lowest ones, each once, and each that of its claim.
func (c *cluster) checkLowest(t testing.TB, pools []*unstructured.Unstructured) {
	t.Helper()
	var claims ipamv1.IPAddressClaimList
	var list ipamv1.IPAddressList
	require.NoError(t, c.List(t.Context(), &claims))
	require.NoError(t, c.List(t.Context(), &list))
	require.Len(t, list.Items, *burst)
	uids := map[string]*ipamv1.IPAddressClaim{}
	for i := range claims.Items {
		uids[claims.Items[i].Name] = &claims.Items[i]
	}
	held := map[string][]netip.Addr{}
	for _, address := range list.Items {
		claim := uids[address.Spec.ClaimRef.Name]
		require.Equal(t, address.Name, claim.Status.AddressRef.Name)
		require.Equal(t, claim.UID, address.OwnerReferences[0].UID)
		held[address.Spec.PoolRef.Name] = append(held[address.Spec.PoolRef.Name], netip.MustParseAddr(address.Spec.Address))
	}
	for i, first := range []string{"10.30.0.1", "2001:db8::1"} {
		got := held[pools[i].GetName()]
		slices.SortFunc(got, netip.Addr.Compare)
		want := netip.MustParseAddr(first)
		for _, addr := range got {
			require.Equal(t, want, addr)
			want = want.Next()
		}
		require.Len(t, got, *burst/2)
	}
	for _, name := range []string{"default/one", "two"} {
		report, err := c.open(t, name).Verify(t.Context())
		require.NoError(t, err)
		require.True(t, report.OK(), report)
		require.Equal(t, *burst/2, report.Allocations)
	}
}
