package main_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
)

// TestMetricsAndEvents reads what Prometheus and people get to see.
func TestMetricsAndEvents(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "seen", "addresses: [10.28.0.1]", "prefix: 24")
	c.boundClaim(t, pool, namespace, "a")
	c.refused(t, c.claim(t, pool, namespace, "b"), "PoolExhausted", "")
	answer, err := http.Get("http://" + c.metrics + "/metrics")
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Contains(t, string(text), `ipalloc_addresses{family="IPv4",pool="`+namespace+`/seen",state="used"} 1`)
	require.Contains(t, string(text), `ipalloc_calls_total{call="allocate",pool="`+namespace+`/seen",result="ok"}`)
	require.Contains(t, string(text), `controller_runtime_reconcile_total{controller="ipaddressclaim"`)

	require.Eventually(t, func() bool {
		events := &unstructured.UnstructuredList{}
		events.SetAPIVersion("events.k8s.io/v1")
		events.SetKind("EventList")
		require.NoError(t, c.List(t.Context(), events, client.InNamespace(namespace)))
		for _, event := range events.Items {
			name, _, _ := unstructured.NestedString(event.Object, "regarding", "name")
			if event.Object["reason"] == "PoolExhausted" && name == "b" {
				return true
			}
		}
		return false
	}, *patience, tick)
}
