package main_test

import (
	"bytes"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/store/kube"
)

var (
	heldSizes = flag.String("held", "0,100", "how many addresses the pools of TestHeld hold, such as 0,1000,10000,60000")
	heldAtOne = flag.Int("held-claims", 10, "how many claims TestHeld makes one after the other, and then at once")
)

// TestHeld makes claims on pools that hold so many addresses already, which the pools adopt. Each claim gets the lowest
// free address. It logs what a claim costs.
func TestHeld(t *testing.T) {
	c := newCluster(t, t.TempDir(), versions{"v1beta1": true})
	t.Cleanup(c.close)
	replica := c.start(t, arguments{Port: c.port, Certs: c.certs})
	pid := replica.Process.Pid
	for i, text := range strings.Split(*heldSizes, ",") {
		size, err := strconv.Atoi(text)
		require.NoError(t, err)
		namespace := fmt.Sprint("held-", size)
		began := time.Now()
		c.fill(t, namespace, i, size)
		filled := time.Since(began)
		pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "pool", fmt.Sprintf("addresses: [10.%d.0.0/16]", i+1),
			"prefix: 16")
		await(t, c, pool, func(p *unstructured.Unstructured) bool { return counts(p)[2] == int64(size) })
		adopted := time.Since(began) - filled
		c.awaitSettled(t, namespace+"/pool")
		one, used := c.oneByOne(t, pid, pool, namespace, size)
		burst := c.atOnce(t, pool, namespace)
		t.Logf("%6d held: one claim takes %v (median) and %v of the replica's processor; %.0f claims/s at once; "+
			"%d MiB resident; created in %v, adopted in %v", size, one, used, burst, resident(t, pid)>>20,
			filled.Round(time.Second), adopted.Round(time.Second/10))
	}
}

// awaitSettled waits until the store is done with what the adoption has left it to do beside the next commits.
func (c *cluster) awaitSettled(t testing.TB, name string) {
	t.Helper()
	require.Eventually(t, func() bool {
		list := &unstructured.UnstructuredList{}
		list.SetAPIVersion(kube.Group + "/" + kube.Version)
		list.SetKind("IPPoolList")
		require.NoError(t, c.List(t.Context(), list))
		return slices.ContainsFunc(list.Items, func(head unstructured.Unstructured) bool {
			of, _, _ := unstructured.NestedString(head.Object, "key", "pool")
			log, _, _ := unstructured.NestedSlice(head.Object, "log")
			return of == name && len(log) == 0
		})
	}, *patience, tick)
}

// fill creates addresses, and claims that are paused, as many as the pool is to hold.
func (c *cluster) fill(t testing.TB, namespace string, pool, size int) {
	t.Helper()
	const clients = 16
	ref := &unstructured.Unstructured{}
	ref.SetKind(clusterapi.KindNamespaced)
	ref.SetName("pool")
	var wait sync.WaitGroup
	for k := range clients {
		wait.Go(func() {
			for i := k; i < size; i += clients {
				claim := newClaim(ref, namespace, fmt.Sprint("held-", i))
				claim.Annotations = map[string]string{api.PausedAnnotation: ""}
				claim.Finalizers = []string{api.ClaimFinalizer}
				if err := c.Create(t.Context(), claim); err != nil {
					t.Errorf("claim %d: %v", i, err)
					return
				}
				addr := netip.AddrFrom4([4]byte{10, byte(pool + 1), byte((i + 1) >> 8), byte(i + 1)})
				c.newAddress(t, ref, claim, claim.Name, addr.String(), true)
			}
		})
	}
	wait.Wait()
}

// oneByOne is how long a claim takes when it is alone, and how much of the replica's processor.
func (c *cluster) oneByOne(
	t testing.TB, pid int, pool *unstructured.Unstructured, namespace string, size int,
) (took, used time.Duration) {
	t.Helper()
	var all []time.Duration
	before := processor(t, pid)
	want := netip.AddrFrom4([4]byte{10, 0, byte((size + 1) >> 8), byte(size + 1)}).As4()
	for i := range *heldAtOne {
		claim := newClaim(pool, namespace, fmt.Sprint("one-", i))
		began := time.Now()
		require.NoError(t, c.Create(t.Context(), claim))
		got := netip.MustParseAddr(c.bound(t, claim).Spec.Address).As4()
		all = append(all, time.Since(began))
		require.Equal(t, want[2:], got[2:])
		want = netip.AddrFrom4(want).Next().As4()
	}
	slices.Sort(all)
	return all[len(all)/2].Round(time.Millisecond / 10),
		((processor(t, pid) - before) / time.Duration(len(all))).Round(time.Millisecond / 10)
}

// atOnce is how many claims a second get their addresses if they come at once.
func (c *cluster) atOnce(t testing.TB, pool *unstructured.Unstructured, namespace string) float64 {
	t.Helper()
	began := time.Now()
	var wait sync.WaitGroup
	for k := range 8 {
		wait.Go(func() {
			for i := k; i < *heldAtOne; i += 8 {
				if err := c.Create(t.Context(), newClaim(pool, namespace, fmt.Sprint("burst-", i))); err != nil {
					t.Errorf("claim %d: %v", i, err)
				}
			}
		})
	}
	wait.Wait()
	for i := range *heldAtOne {
		claim := &ipamv1.IPAddressClaim{}
		claim.Namespace, claim.Name = namespace, fmt.Sprint("burst-", i)
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(claim), claim))
		c.bound(t, claim)
	}
	return float64(*heldAtOne) / time.Since(began).Seconds()
}

// processor is how much processor time a process has used; 0 where the system does not say.
func processor(t testing.TB, pid int) time.Duration {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	var ticks int64
	for _, field := range fields[11:13] { // utime and stime
		n, err := strconv.ParseInt(string(field), 10, 64)
		require.NoError(t, err)
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

// resident is the memory of a process in bytes; 0 where the system does not say.
func resident(t testing.TB, pid int) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	pages, err := strconv.ParseInt(string(bytes.Fields(text)[1]), 10, 64)
	require.NoError(t, err)
	return pages * int64(os.Getpagesize())
}
