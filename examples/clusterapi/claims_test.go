package main_test

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ipamv1beta1 "sigs.k8s.io/cluster-api/api/ipam/v1beta1" //nolint:staticcheck // is still served, so it is tested
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	ippool "github.com/ipalloc/ipalloc/pool"
)

// fixture is a pool as people write it.
func fixture(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "config", "clusterapi", "testdata", name))
	require.NoError(t, err)
	return string(text)
}

// TestFixtures applies the provider's own samples as they are.
func TestFixtures(t *testing.T) {
	c := sharedCluster(t)
	for _, f := range []struct {
		file, first, second string
		total               int64
	}{
		{"inclusterippool-v1alpha1.yaml", "10.10.10.200", "10.10.10.201", 51},
		{"inclusterippool-v1alpha2.yaml", "10.10.10.2", "10.10.10.3", 101},
		{"globalinclusterippool-v1alpha2.yaml", "10.10.10.2", "10.10.10.3", 101},
	} {
		var pool *unstructured.Unstructured
		t.Run(f.file, func(t *testing.T) {
			pool = c.apply(t, "default", fixture(t, f.file))
			var claims []*ipamv1.IPAddressClaim
			for i, name := range []string{"a", "b"} {
				claim := c.claim(t, pool, "default", name)
				claims = append(claims, claim)
				address := c.bound(t, claim)
				require.Equal(t, []string{f.first, f.second}[i], address.Spec.Address)
				require.Equal(t, "10.10.10.1", address.Spec.Gateway)
				require.EqualValues(t, 24, *address.Spec.Prefix)
			}
			c.counted(t, pool, f.total, f.total-2, 2)
			for _, claim := range claims {
				c.release(t, claim)
			}
		})
		require.NoError(t, c.Delete(t.Context(), pool))
		awaitGone(t, c, pool)
	}
}

// TestLife follows a claim and its pool, with all that others see of them.
func TestLife(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "blue", "addresses: [10.1.0.0/29]", "prefix: 29",
		"gateway: 10.1.0.1")
	c.counted(t, pool, 5, 5)
	require.Equal(t, "PoolServing", reasonOf(pool))
	require.Contains(t, pool.GetFinalizers(), api.PoolFinalizer)

	claim := newClaim(pool, namespace, "machine")
	claim.Labels = map[string]string{api.ClusterLabel: "c1"}
	c.newCluster(t, namespace, "c1", "")
	require.NoError(t, c.Create(t.Context(), claim))
	address := c.bound(t, claim)
	require.Contains(t, claim.Finalizers, api.ClaimFinalizer)
	require.Equal(t, claim.Name, claim.Status.AddressRef.Name)
	require.Len(t, claim.Status.Conditions, 1)
	require.Equal(t, metav1.ConditionTrue, claim.Status.Conditions[0].Status)
	require.Equal(t, "AddressAllocated", claim.Status.Conditions[0].Reason)

	require.Equal(t, "10.1.0.2", address.Spec.Address)
	require.Equal(t, claim.Spec.PoolRef, address.Spec.PoolRef)
	require.Equal(t, claim.Name, address.Spec.ClaimRef.Name)
	require.Equal(t, []string{api.AddressFinalizer}, address.Finalizers)
	require.Equal(t, "c1", address.Labels[api.ClusterLabel])
	require.Len(t, address.OwnerReferences, 2)
	require.Equal(t, claim.UID, metav1.GetControllerOf(address).UID)
	require.Equal(t, pool.GetUID(), address.OwnerReferences[1].UID)
	c.counted(t, pool, 5, 4, 1)

	// Those who speak v1beta1 see the same. (A controller that looks at an older copy writes the condition once more.)
	old := &ipamv1beta1.IPAddressClaim{}
	require.EventuallyWithT(t, func(look *assert.CollectT) {
		require.NoError(look, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
		require.NoError(look, c.Get(t.Context(), client.ObjectKeyFromObject(claim), old))
		require.Equal(look, claim.Status.Conditions, old.Status.V1Beta2.Conditions)
	}, *patience, 50*time.Millisecond)
	require.Equal(t, "machine", old.Status.AddressRef.Name)
	require.Len(t, old.Status.Conditions, 1)
	require.EqualValues(t, "True", old.Status.Conditions[0].Status)

	// An address that is deleted by itself stays, since its claim has it; so does a pool in use.
	require.NoError(t, c.Delete(t.Context(), address))
	require.NotNil(t, c.address(t, namespace, "machine").DeletionTimestamp)
	require.NoError(t, c.Delete(t.Context(), pool))
	await(t, c, pool, func(p *unstructured.Unstructured) bool { return reasonOf(p) == "AddressesInUse" })
	late := c.claim(t, pool, namespace, "late")
	c.refused(t, late, "PoolNotReady", "is being deleted")

	c.release(t, claim)
	awaitGone(t, c, address)
	awaitGone(t, c, pool)
	c.release(t, late)
}

// TestOldVersion has a claim of v1beta1, on a server that serves both versions.
func TestOldVersion(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "old", "addresses: [10.1.1.0/29]", "prefix: 29")
	claim := &ipamv1beta1.IPAddressClaim{}
	claim.Namespace, claim.Name = namespace, "a"
	claim.Spec.PoolRef.APIGroup, claim.Spec.PoolRef.Kind = new(api.Group), pool.GetKind()
	claim.Spec.PoolRef.Name = pool.GetName()
	require.NoError(t, c.Create(t.Context(), claim))
	await(t, c, claim, func(claim *ipamv1beta1.IPAddressClaim) bool { return claim.Status.AddressRef.Name != "" })
	address := &ipamv1beta1.IPAddress{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), address))
	require.Equal(t, "10.1.1.1", address.Spec.Address)
	require.Equal(t, 29, address.Spec.Prefix)
}

// TestOnlyOldVersion runs on a server that does not serve v1beta2, and has no clusters.
func TestOnlyOldVersion(t *testing.T) {
	c := startCluster(t, versions{"v1beta2": true})
	namespace := newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "old", "addresses: [10.1.1.0/29]", "prefix: 29")
	claim := &ipamv1beta1.IPAddressClaim{}
	claim.Namespace, claim.Name = namespace, "a"
	claim.Spec.PoolRef.APIGroup, claim.Spec.PoolRef.Kind = new(api.Group), pool.GetKind()
	claim.Spec.PoolRef.Name = pool.GetName()
	require.NoError(t, c.Create(t.Context(), claim))
	await(t, c, claim, func(claim *ipamv1beta1.IPAddressClaim) bool { return claim.Status.AddressRef.Name != "" })
	require.EqualValues(t, "True", claim.Status.Conditions[0].Status)
	require.Equal(t, "AddressAllocated", claim.Status.V1Beta2.Conditions[0].Reason)

	// The replica of this test sweeps often: what nobody asks for any more is released, and nothing else.
	handle := c.open(t, namespace+"/old")
	_, err := handle.Allocate(t.Context(), ippool.Claim{Owner: "of a claim that is gone", Scope: namespace})
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := handle.Get(t.Context(), ippool.Held{Owner: "of a claim that is gone"})
		return errors.Is(err, ippool.ErrNotFound)
	}, *patience, tick)
	_, err = handle.Get(t.Context(), ippool.Held{Owner: string(claim.UID)})
	require.NoError(t, err)
	require.NoError(t, c.Delete(t.Context(), claim))
	awaitGone(t, c, claim)
	c.counted(t, pool, 6, 6)
}

// TestExhausted has more claims than addresses: the one that is left over waits until an address is free.
func TestExhausted(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "small", "addresses: [10.2.0.1-10.2.0.2]", "prefix: 24")
	first, second := c.claim(t, pool, namespace, "first"), c.claim(t, pool, namespace, "second")
	c.bound(t, first)
	freed := c.bound(t, second).Spec.Address
	third := c.claim(t, pool, namespace, "third")
	c.refused(t, third, "PoolExhausted", "free addresses: 0 of 2")
	require.Contains(t, third.Finalizers, api.ClaimFinalizer)
	c.counted(t, pool, 2, 0, 2)
	c.release(t, second)
	require.Equal(t, freed, c.bound(t, third).Spec.Address)
	require.Equal(t, metav1.ConditionTrue, third.Status.Conditions[0].Status)

	// So does a pool that grows.
	fourth := c.claim(t, pool, namespace, "fourth")
	c.refused(t, fourth, "PoolExhausted", "")
	c.setSpec(t, pool, "addresses", []any{"10.2.0.1-10.2.0.3"})
	require.Equal(t, "10.2.0.3", c.bound(t, fourth).Spec.Address)
}

// TestPoolComesLate has a claim whose pool comes after it, and claims on pools of other controllers.
func TestPoolComesLate(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := &unstructured.Unstructured{}
	pool.SetKind(clusterapi.KindNamespaced)
	pool.SetName("late")
	claim := c.claim(t, pool, namespace, "a")
	c.refused(t, claim, "PoolNotReady", "does not exist")
	foreign := newClaim(pool, namespace, "foreign")
	foreign.Spec.PoolRef.APIGroup = "ipam.example.com"
	require.NoError(t, c.Create(t.Context(), foreign))
	c.newPool(t, namespace, clusterapi.KindNamespaced, "late", "addresses: [10.2.1.0/29]", "prefix: 29")
	require.Equal(t, "10.2.1.1", c.bound(t, claim).Spec.Address)
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	require.Empty(t, foreign.Finalizers)
	require.Empty(t, foreign.Status.Conditions)
}

// TestScope has a pool of one namespace, which the claims of others do not reach, and one of all namespaces.
func TestScope(t *testing.T) {
	c, mine, other := sharedCluster(t), newNamespace(), newNamespace()
	pool := c.newPool(t, mine, clusterapi.KindNamespaced, "scoped", "addresses: [10.2.2.0/29]", "prefix: 29")
	stranger := c.claim(t, pool, other, "stranger")
	c.refused(t, stranger, "PoolNotReady", "")
	global := c.newPool(t, "", clusterapi.KindGlobal, "for-all-"+mine, "addresses: [10.2.3.0/29]", "prefix: 29")
	require.Equal(t, "10.2.3.1", c.bound(t, c.claim(t, global, mine, "a")).Spec.Address)
	require.Equal(t, "10.2.3.2", c.bound(t, c.claim(t, global, other, "a")).Spec.Address)
}

// TestPrefixes has pools of IPv6 prefixes.
func TestPrefixes(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindPrefix, "pods", "prefixes: ['2001:db8::/62']", "gateway: fe80::1",
		"excludedPrefixes: ['2001:db8:0:1::/64']")
	c.counted(t, pool, 3, 3)
	for _, want := range []string{"2001:db8::", "2001:db8:0:2::"} {
		address := c.bound(t, c.claim(t, pool, namespace, fmt.Sprint("n", len(want))))
		require.Equal(t, want, address.Spec.Address)
		require.EqualValues(t, 64, *address.Spec.Prefix)
		require.Equal(t, "fe80::1", address.Spec.Gateway)
	}
	c.counted(t, pool, 3, 1, 2)
	global := c.newPool(t, "", clusterapi.KindGlobalPrefix, "all-"+namespace, "prefixes: ['2001:db8:1::/48']",
		"allocationPrefixLength: 56")
	address := c.bound(t, c.claim(t, global, namespace, "big"))
	require.Equal(t, "2001:db8:1::", address.Spec.Address)
	require.EqualValues(t, 56, *address.Spec.Prefix)
	c.counted(t, global, 256, 255, 1)
}

// TestHuge has a pool with more addresses than a number in JSON should have.
func TestHuge(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "huge", "addresses: ['2001:db8::/48']", "prefix: 48")
	require.Equal(t, "2001:db8::1", c.bound(t, c.claim(t, pool, namespace, "a")).Spec.Address)
	const most = 1<<63 - 1
	c.counted(t, pool, most, most, 1)
}

// TestPause leaves alone what is paused: a claim, its cluster, its pool.
func TestPause(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "paused", "addresses: [10.3.0.0/28]", "prefix: 28")
	c.counted(t, pool, 14, 14)
	cluster := c.newCluster(t, namespace, "c1", "")
	other := c.newPool(t, namespace, clusterapi.KindNamespaced, "other", "addresses: [10.3.1.0/28]", "prefix: 28")
	c.patch(t, cluster, `{"spec":{"paused":true}}`)
	ofCluster, early := c.leftAlone(t, pool, other, "c1")
	unknown := newClaim(pool, namespace, "of-unknown")
	unknown.Labels = map[string]string{api.ClusterLabel: "c2"}
	require.NoError(t, c.Create(t.Context(), unknown))
	alone := newClaim(pool, namespace, "alone")
	alone.Annotations = map[string]string{api.PausedAnnotation: ""}
	require.NoError(t, c.Create(t.Context(), alone))
	// By the time that a later claim has its address, and has it no more, these could have theirs.
	c.release(t, c.boundClaim(t, pool, namespace, "later"))
	for _, claim := range []*ipamv1.IPAddressClaim{ofCluster, unknown, alone} {
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
		require.Empty(t, claim.Finalizers, claim.Name)
		require.Empty(t, claim.Status, claim.Name)
	}
	c.patch(t, cluster, `{"spec":{"paused":false}}`)
	c.bound(t, ofCluster)
	c.newCluster(t, namespace, "c2", "")
	c.bound(t, unknown)
	c.patch(t, alone, `{"metadata":{"annotations":{"cluster.x-k8s.io/paused":null}}}`)
	c.bound(t, alone)

	// Nor is what is paused released.
	c.patch(t, cluster, `{"spec":{"paused":true}}`)
	probe, more := c.leftAlone(t, pool, other, "c1")
	require.NoError(t, c.Delete(t.Context(), probe))
	require.NoError(t, c.Delete(t.Context(), ofCluster))
	c.patch(t, pool, `{"metadata":{"annotations":{"cluster.x-k8s.io/paused":"true"}}}`)
	waits, most := c.leftAlone(t, pool, other, "")
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(ofCluster), ofCluster))
	c.patch(t, pool, `{"metadata":{"annotations":{"cluster.x-k8s.io/paused":null}}}`)
	c.bound(t, waits)
	c.patch(t, cluster, `{"spec":{"paused":false}}`)
	awaitGone(t, c, ofCluster)
	held := int64(3 + early + more + most)
	c.counted(t, pool, 14, 14-held, held)
}

// leftAlone makes claims on the pool until one of them is left alone, and returns that, and how many have addresses: a
// claim may reach the controller sooner than what says that it is to be left alone.
func (c *cluster) leftAlone(
	t testing.TB, pool, other *unstructured.Unstructured, ofCluster string,
) (claim *ipamv1.IPAddressClaim, bound int) {
	t.Helper()
	for ; ; bound++ {
		claim = newClaim(pool, pool.GetNamespace(), "paused-"+strings.ToLower(rand.Text()[:8]))
		claim.Spec.ClusterName = ofCluster
		require.NoError(t, c.Create(t.Context(), claim))
		c.release(t, c.boundClaim(t, other, pool.GetNamespace(), claim.Name+"-later"))
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
		if len(claim.Finalizers) == 0 {
			return claim, bound
		}
		c.bound(t, claim)
	}
}

// TestCooldown withholds a released address for the grace period.
func TestCooldown(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "cool", "addresses: [10.4.0.1-10.4.0.2]", "prefix: 24",
		"addressReuseGracePeriodSeconds: 3600")
	first := c.boundClaim(t, pool, namespace, "first")
	c.release(t, first)
	c.counted(t, pool, 2, 1, 0, 0, 1)
	second := c.claim(t, pool, namespace, "second")
	require.Equal(t, "10.4.0.2", c.bound(t, second).Spec.Address)
	third := c.claim(t, pool, namespace, "third")
	c.refused(t, third, "PoolExhausted", "")

	short := c.newPool(t, namespace, clusterapi.KindNamespaced, "short", "addresses: [10.4.1.1]", "prefix: 24",
		"addressReuseGracePeriodSeconds: 1")
	c.release(t, c.boundClaim(t, short, namespace, "a"))
	require.Equal(t, "10.4.1.1", c.bound(t, c.claim(t, short, namespace, "b")).Spec.Address)
}

// TestExact asks for one address.
func TestExact(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "exact", "addresses: [10.5.0.0/24]", "prefix: 24")
	ask := func(name, addr string) *ipamv1.IPAddressClaim {
		claim := newClaim(pool, namespace, name)
		claim.Annotations = map[string]string{api.AddressAnnotation: addr}
		require.NoError(t, c.Create(t.Context(), claim))
		return claim
	}
	vip := ask("vip", "10.5.0.200")
	require.Equal(t, "10.5.0.200", c.bound(t, vip).Spec.Address)
	c.refused(t, ask("vip-again", "10.5.0.200"), "AllocationFailed", "taken")
	c.refused(t, ask("outside", "10.6.0.1"), "AllocationFailed", "not in the pool")
	c.refused(t, ask("nonsense", "x"), "AllocationFailed", "x")
}

// TestAdoptionAtFirst makes a pool of which addresses are in use already, by claims of another controller or another
// cluster, and by nobody's yet.
func TestAdoptionAtFirst(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := &unstructured.Unstructured{}
	pool.SetKind(clusterapi.KindNamespaced)
	pool.SetName("adopts")
	moved := c.claim(t, pool, namespace, "moved")
	c.newAddress(t, pool, moved, "moved", "10.7.0.1", true)
	byHand := c.newAddress(t, pool, newClaim(pool, namespace, "to-come"), "to-come", "10.7.0.2", false)
	c.newPool(t, namespace, clusterapi.KindNamespaced, "adopts", "addresses: [10.7.0.0/24]", "prefix: 24",
		"gateway: 10.7.0.254")
	require.Equal(t, "10.7.0.1", c.bound(t, moved).Spec.Address)
	require.Equal(t, "10.7.0.3", c.bound(t, c.claim(t, pool, namespace, "new")).Spec.Address)
	come := c.claim(t, pool, namespace, "to-come")
	address := c.bound(t, come)
	require.Equal(t, "10.7.0.2", address.Spec.Address)
	require.Equal(t, byHand.UID, address.UID)
	require.Equal(t, come.UID, metav1.GetControllerOf(address).UID)
	require.Contains(t, address.Finalizers, api.AddressFinalizer)
	c.release(t, come)
	awaitGone(t, c, byHand)
	require.Equal(t, "10.7.0.2", c.bound(t, c.claim(t, pool, namespace, "next")).Spec.Address)
}

// TestAdoptionLater brings addresses to a pool that serves already.
func TestAdoptionLater(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "serves", "addresses: [10.8.0.0/24]", "prefix: 24")
	c.counted(t, pool, 254, 254)
	c.newAddress(t, pool, newClaim(pool, namespace, "dhcp"), "dhcp", "10.8.0.9", false)
	// It is held without a claim: another claim cannot have it.
	thief := newClaim(pool, namespace, "thief")
	thief.Annotations = map[string]string{api.AddressAnnotation: "10.8.0.9"}
	require.Eventually(t, func() bool {
		handle := c.open(t, namespace+"/serves")
		_, err := handle.Get(t.Context(), heldAt("10.8.0.9"))
		return err == nil
	}, *patience, tick)
	require.NoError(t, c.Create(t.Context(), thief))
	c.refused(t, thief, "AllocationFailed", "")
	require.Equal(t, "10.8.0.9", c.bound(t, c.claim(t, pool, namespace, "dhcp")).Spec.Address)

	// A claim that was restored from a backup has another UID than the one that its address knows.
	lost := c.boundClaim(t, pool, namespace, "restored")
	held := c.address(t, namespace, "restored").Spec.Address
	c.patch(t, lost, `{"metadata":{"annotations":{"cluster.x-k8s.io/paused":""}}}`)
	require.NoError(t, c.Delete(t.Context(), lost))
	c.patch(t, lost, `{"metadata":{"finalizers":null}}`)
	again := c.boundClaim(t, pool, namespace, "restored")
	require.NotEqual(t, lost.UID, again.UID)
	require.Equal(t, held, c.address(t, namespace, "restored").Spec.Address)
	require.Equal(t, again.UID, metav1.GetControllerOf(c.address(t, namespace, "restored")).UID)
}

// TestLostClaim deletes a claim by force: its address goes too, and is free.
func TestLostClaim(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "lost", "addresses: [10.9.0.0/29]", "prefix: 29")
	claim := c.boundClaim(t, pool, namespace, "a")
	address := c.address(t, namespace, "a")
	c.patch(t, claim, `{"metadata":{"annotations":{"cluster.x-k8s.io/paused":""}}}`)
	require.NoError(t, c.Delete(t.Context(), claim))
	c.patch(t, claim, `{"metadata":{"finalizers":null}}`)
	awaitGone(t, c, claim)
	awaitGone(t, c, address)
	c.counted(t, pool, 6, 6)
}

// TestLostAddress removes an address by force: its claim gets it again.
func TestLostAddress(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "again", "addresses: [10.9.1.0/29]", "prefix: 29")
	c.boundClaim(t, pool, namespace, "a")
	c.boundClaim(t, pool, namespace, "b")
	address := c.address(t, namespace, "a")
	require.NoError(t, c.Delete(t.Context(), address))
	c.patch(t, address, `{"metadata":{"finalizers":null}}`)
	var back *ipamv1.IPAddress
	require.Eventually(t, func() bool {
		back = &ipamv1.IPAddress{}
		err := c.Get(t.Context(), client.ObjectKeyFromObject(address), back)
		return !apierrors.IsNotFound(err) && back.UID != address.UID
	}, *patience, tick)
	require.Equal(t, address.Spec, back.Spec)
}

// TestForeignFinalizer keeps an address from others as long as somebody else keeps its object.
func TestForeignFinalizer(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "kept", "addresses: [10.9.2.1]", "prefix: 24")
	claim := c.boundClaim(t, pool, namespace, "a")
	address := c.address(t, namespace, "a")
	c.patch(t, address, `{"metadata":{"finalizers":["ipam.cluster.x-k8s.io/ProtectAddress","example.com/dns"]}}`)
	require.NoError(t, c.Delete(t.Context(), claim))
	await(t, c, address, func(a *ipamv1.IPAddress) bool {
		return a.DeletionTimestamp != nil && slices.Equal(a.Finalizers, []string{"example.com/dns"})
	})
	waits := c.claim(t, pool, namespace, "b")
	c.refused(t, waits, "PoolExhausted", "")
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
	c.patch(t, address, `{"metadata":{"finalizers":null}}`)
	awaitGone(t, c, claim)
	require.Equal(t, "10.9.2.1", c.bound(t, waits).Spec.Address)
}
