package main_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
)

// serves waits until the pool has the reason for its condition, for the generation that the test has seen.
func (c *cluster) serves(t testing.TB, pool *unstructured.Unstructured, reason string) {
	t.Helper()
	generation := pool.GetGeneration()
	await(t, c, pool, func(pool *unstructured.Unstructured) bool {
		list, _, _ := unstructured.NestedSlice(pool.Object, "status", "conditions")
		if len(list) == 0 {
			return false
		}
		condition := list[0].(map[string]any)
		return condition["reason"] == reason && condition["observedGeneration"].(int64) >= generation
	})
}

// TestPoolChanges changes a pool under its claims. The server of the tests asks no webhook, so the controller itself
// refuses what it must not do.
func TestPoolChanges(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "changes", "addresses: [10.20.0.1-10.20.0.9]", "prefix: 24")
	a, b := c.boundClaim(t, pool, namespace, "a"), c.boundClaim(t, pool, namespace, "b")
	c.counted(t, pool, 9, 7, 2)

	c.setSpec(t, pool, "addresses", []any{"10.20.0.2-10.20.0.9"})
	c.serves(t, pool, "AddressesInUse")
	c.counted(t, pool, 9, 7, 2) // the pool is as it was
	c.setSpec(t, pool, "drain", true)
	c.serves(t, pool, "PoolServing")
	c.counted(t, pool, 8, 7, 2, 1)
	require.Equal(t, "10.20.0.1", c.address(t, namespace, "a").Spec.Address)
	c.release(t, a)
	c.counted(t, pool, 8, 7, 1)
	require.Equal(t, "10.20.0.3", c.bound(t, c.claim(t, pool, namespace, "c")).Spec.Address, "never given out again")

	c.setSpec(t, pool, "gateway", "10.20.0.4")
	c.setSpec(t, pool, "excludedAddresses", []any{"10.20.0.5"})
	c.serves(t, pool, "PoolServing")
	require.Equal(t, "10.20.0.6", c.bound(t, c.claim(t, pool, namespace, "d")).Spec.Address)
	c.setSpec(t, pool, "addresses", []any{"nonsense", "10.20.0.1-x"})
	c.serves(t, pool, "SpecInvalid")
	late := c.claim(t, pool, namespace, "late")
	c.refused(t, late, "PoolNotReady", "")
	c.setSpec(t, pool, "addresses", []any{"10.20.0.2-10.20.0.20"})
	require.Equal(t, "10.20.0.7", c.bound(t, late).Spec.Address)
	c.release(t, b)
}

// TestDualStack gives one claim an address of each family, or none.
func TestDualStack(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	v4 := c.newPool(t, namespace, clusterapi.KindNamespaced, "v4", "addresses: [10.21.0.1-10.21.0.9]", "prefix: 24",
		"gateway: 10.21.0.254", "dualStackPool: v6")
	first := c.claim(t, v4, namespace, "first")
	c.refused(t, first, "PoolNotReady", "v6 does not exist")
	v6 := c.newPool(t, namespace, clusterapi.KindNamespaced, "v6", "addresses: ['2001:db8::10-2001:db8::11']",
		"prefix: 64", "gateway: '2001:db8::1'")
	require.Equal(t, "10.21.0.1", c.bound(t, first).Spec.Address)
	second := c.address(t, namespace, "first-ipv6")
	require.Equal(t, "2001:db8::10", second.Spec.Address)
	require.EqualValues(t, 64, *second.Spec.Prefix)
	require.Equal(t, "2001:db8::1", second.Spec.Gateway)
	require.Equal(t, "first", second.Spec.ClaimRef.Name)
	require.Equal(t, "v6", second.Spec.PoolRef.Name)

	c.boundClaim(t, v4, namespace, "other")
	c.counted(t, v4, 9, 7, 2)
	c.counted(t, v6, 2, 0, 2)
	third := c.claim(t, v4, namespace, "third")
	c.refused(t, third, "PoolExhausted", "IPv6")
	c.counted(t, v4, 9, 7, 2) // nothing of the other family was kept
	c.release(t, first)
	awaitGone(t, c, second)
	require.Equal(t, "10.21.0.1", c.bound(t, third).Spec.Address)
	require.Equal(t, "2001:db8::10", c.address(t, namespace, "third-ipv6").Spec.Address)
	c.release(t, third)
	c.counted(t, v6, 2, 1, 1)
	c.counted(t, v4, 9, 8, 1)

	twice := c.newPool(t, namespace, clusterapi.KindNamespaced, "twice", "addresses: [10.21.1.1]", "prefix: 24",
		"dualStackPool: v4")
	c.refused(t, c.claim(t, twice, namespace, "x"), "PoolNotReady", "one family")
}

// TestNetwork refuses pools that overlap in a network, and keeps from all of them what others hand out there.
func TestNetwork(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	network := "network: " + namespace
	one := c.newPool(t, namespace, clusterapi.KindNamespaced, "one", "addresses: [10.22.0.1-10.22.0.9]", "prefix: 16",
		network)
	c.counted(t, one, 9, 9)
	clash := c.newPool(t, namespace, clusterapi.KindNamespaced, "clash", "addresses: [10.22.0.9-10.22.0.20]", "prefix: 16",
		network)
	c.serves(t, clash, "Overlaps")
	waits := c.claim(t, clash, namespace, "waits")
	c.refused(t, waits, "PoolNotReady", "")
	elsewhere := c.newPool(t, namespace, clusterapi.KindNamespaced, "elsewhere", "addresses: [10.22.0.1-10.22.0.9]",
		"prefix: 16", network+"-2")
	c.counted(t, elsewhere, 9, 9)
	c.setSpec(t, clash, "addresses", []any{"10.22.0.10-10.22.0.20"})
	require.Equal(t, "10.22.0.10", c.bound(t, waits).Spec.Address)

	// What one pool knows of a DHCP server, all pools of the network keep to.
	dhcp := c.newPool(t, namespace, clusterapi.KindNamespaced, "dhcp", "addresses: [10.22.1.1]", "prefix: 16", network,
		"externalAddresses: [10.22.0.1-10.22.0.3, 10.22.0.11-10.22.0.19]")
	c.serves(t, dhcp, "PoolServing")
	c.touch(t, one)
	c.counted(t, one, 6, 6)
	require.Equal(t, "10.22.0.4", c.bound(t, c.claim(t, one, namespace, "a")).Spec.Address)
	require.Equal(t, "10.22.0.20", c.bound(t, c.claim(t, clash, namespace, "b")).Spec.Address)
	require.Equal(t, "10.22.0.1", c.bound(t, c.claim(t, elsewhere, namespace, "c")).Spec.Address)
	c.setSpec(t, dhcp, "externalAddresses", []any{"10.22.0.4"})
	c.serves(t, dhcp, "AddressesInUse") // somebody has it
	require.NoError(t, c.Delete(t.Context(), dhcp))
	awaitGone(t, c, dhcp)
	require.Equal(t, "10.22.0.1", c.bound(t, c.claim(t, one, namespace, "d")).Spec.Address)

	// Without a network, a pool keeps to what it knows itself.
	plain := c.newPool(t, namespace, clusterapi.KindNamespaced, "plain", "addresses: [10.22.0.1-10.22.0.9]", "prefix: 16",
		"externalAddresses: [10.22.0.1-10.22.0.3]")
	require.Equal(t, "10.22.0.4", c.bound(t, c.claim(t, plain, namespace, "e")).Spec.Address)
	c.counted(t, plain, 6, 5, 1)
}

// touch makes the controller look at a pool again.
func (c *cluster) touch(t testing.TB, pool *unstructured.Unstructured) {
	t.Helper()
	c.patch(t, pool, `{"metadata":{"annotations":{"touched":"yes"}}}`)
}

// TestEndpoint reserves the endpoints of control planes.
func TestEndpoint(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	before := c.newCluster(t, namespace, "before", "10.23.0.1")
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "nodes", "addresses: [10.23.0.1-10.23.0.9]", "prefix: 24")
	require.Equal(t, "10.23.0.2", c.bound(t, c.claim(t, pool, namespace, "a")).Spec.Address)
	c.counted(t, pool, 9, 7, 2)
	after := c.newCluster(t, namespace, "after", "10.23.0.3")
	c.newCluster(t, namespace, "by-name", "api.example.com")
	c.newCluster(t, newNamespace(), "of-others", "10.23.0.4")
	c.counted(t, pool, 9, 6, 3)
	require.Equal(t, "10.23.0.4", c.bound(t, c.claim(t, pool, namespace, "b")).Spec.Address)

	c.patch(t, after, `{"spec":{"controlPlaneEndpoint":{"host":"10.23.0.9"}}}`)
	require.Eventually(t, func() bool {
		held, err := c.open(t, namespace+"/nodes").Get(t.Context(), heldAt("10.23.0.9"))
		return err == nil && held.Labels["cluster"] == namespace+"/after"
	}, *patience, tick)
	require.Equal(t, "10.23.0.3", c.bound(t, c.claim(t, pool, namespace, "c")).Spec.Address)
	c.counted(t, pool, 9, 4, 5)
	require.NoError(t, c.Delete(t.Context(), before))
	c.counted(t, pool, 9, 5, 4)
	require.Equal(t, "10.23.0.1", c.bound(t, c.claim(t, pool, namespace, "d")).Spec.Address)

	// An endpoint that was claimed first stays the claim's.
	vip := c.boundClaim(t, pool, namespace, "vip")
	claimed := c.address(t, namespace, "vip").Spec.Address
	c.newCluster(t, namespace, "claimed", claimed)
	c.release(t, c.boundClaim(t, pool, namespace, "e"))
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(vip), &ipamv1.IPAddressClaim{}))
	c.counted(t, pool, 9, 3, 6)

	// A pool that only endpoints are left in can be deleted.
	require.NoError(t, c.DeleteAllOf(t.Context(), &ipamv1.IPAddressClaim{}, client.InNamespace(namespace)))
	require.NoError(t, c.Delete(t.Context(), pool))
	awaitGone(t, c, pool)
}
