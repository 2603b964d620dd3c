package main_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
)

// ask asks the webhook of the replica as an API server does, over HTTPS.
func (c *cluster) ask(
	t testing.TB, operation admissionv1.Operation, object, old *unstructured.Unstructured,
) *admissionv1.AdmissionResponse {
	t.Helper()
	subject := object
	if subject == nil {
		subject = old
	}
	kind := subject.GroupVersionKind()
	review := admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "1", Operation: operation, Name: subject.GetName(), Namespace: subject.GetNamespace(),
			Kind:   metav1.GroupVersionKind{Group: kind.Group, Version: kind.Version, Kind: kind.Kind},
			Object: raw(t, object), OldObject: raw(t, old),
		},
	}
	text, err := json.Marshal(review)
	require.NoError(t, err)
	ca, err := os.ReadFile(filepath.Join(c.certs, "tls.crt"))
	require.NoError(t, err)
	roots := x509.NewCertPool()
	require.True(t, roots.AppendCertsFromPEM(ca))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Post(
		fmt.Sprintf("https://127.0.0.1:%d/validate-pools", c.port), "application/json", bytes.NewReader(text))
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	var got admissionv1.AdmissionReview
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&got))
	return got.Response
}

func raw(t testing.TB, object *unstructured.Unstructured) runtime.RawExtension {
	t.Helper()
	if object == nil {
		return runtime.RawExtension{}
	}
	text, err := json.Marshal(object)
	require.NoError(t, err)
	return runtime.RawExtension{Raw: text}
}

// poolOf is a pool with the fields in its spec, which the server does not know.
func poolOf(namespace, kind, name string, spec map[string]any) *unstructured.Unstructured {
	object := &unstructured.Unstructured{Object: map[string]any{"spec": spec}}
	object.SetAPIVersion("ipam.cluster.x-k8s.io/v1alpha2")
	object.SetKind(kind)
	object.SetName(name)
	object.SetNamespace(namespace)
	return object
}

// causes are the fields and messages of an answer.
func causes(answer *admissionv1.AdmissionResponse) string {
	var all []string
	if answer.Result != nil && answer.Result.Details != nil {
		for _, cause := range answer.Result.Details.Causes {
			all = append(all, cause.Field+": "+cause.Message)
		}
	}
	return strings.Join(all, "\n")
}

// TestValidation has each fault that a pool may have. All faults of a pool are told at once.
func TestValidation(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	for _, f := range []struct {
		name string
		kind string
		spec map[string]any
		want []string // parts of the causes, in any order; none if the pool is right
	}{
		{"right", clusterapi.KindNamespaced, fields("addresses", "10.0.0.0/24", "prefix", 24), nil},
		{"no addresses", clusterapi.KindNamespaced, fields("addresses", nil, "prefix", 24),
			[]string{"spec.addresses", "no addresses"}},
		{"unparsable", clusterapi.KindNamespaced, fields("addresses", "10.0.0.300,x-y", "prefix", 24),
			[]string{"spec.addresses[0]", "spec.addresses[1]"}},
		{"mixed addresses", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1,2001:db8::1", "prefix", 24),
			[]string{"spec.addresses[1]", "IPv6"}},
		{"mixed gateway", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1", "prefix", 24, "gateway", "2001:db8::1"),
			[]string{"spec.gateway", "IPv6"}},
		{"mixed exclusions", clusterapi.KindNamespaced,
			fields("addresses", "10.0.0.1", "prefix", 24, "excludedAddresses", "2001:db8::1"),
			[]string{"spec.excludedAddresses[0]", "IPv6"}},
		{"no prefix", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1"), []string{"spec.prefix", "missing"}},
		{"bad prefix", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1", "prefix", 33),
			[]string{"spec.prefix", "1 to 32"}},
		{"other subnet", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1,10.0.1.1", "prefix", 24),
			[]string{"spec.addresses[1]", "is not in the subnet of the first address"}},
		{"negative grace period", clusterapi.KindNamespaced,
			fields("addresses", "10.0.0.1", "prefix", 24, "addressReuseGracePeriodSeconds", -1),
			[]string{"spec.addressReuseGracePeriodSeconds", "out of range"}},
		{"several at once", clusterapi.KindNamespaced,
			fields("addresses", "10.0.0.1,x", "prefix", 99, "gateway", "y", "excludedAddresses", "z",
				"addressReuseGracePeriodSeconds", -5, "network", 7),
			[]string{"spec.addresses[1]", "spec.prefix", "spec.gateway", "spec.excludedAddresses[0]",
				"spec.addressReuseGracePeriodSeconds", "spec.network"}},
		{"global", clusterapi.KindGlobal, fields("addresses", "x", "prefix", 24), []string{"spec.addresses[0]"}},
		{"no prefixes", clusterapi.KindPrefix, fields("prefixes", nil), []string{"spec.prefixes"}},
		{"prefix of IPv4", clusterapi.KindGlobalPrefix, fields("prefixes", "10.0.0.0/8"),
			[]string{"spec.prefixes[0]", "IPv4"}},
		{"prefix too small", clusterapi.KindPrefix, fields("prefixes", "2001:db8::/72"),
			[]string{"spec.prefixes[0]", "smaller"}},
		{"itself", clusterapi.KindNamespaced, fields("addresses", "10.0.0.1", "prefix", 24, "dualStackPool", "subject"),
			[]string{"spec.dualStackPool", "itself"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			in := namespace
			if strings.HasPrefix(f.kind, "Global") {
				in = ""
			}
			answer := c.ask(t, admissionv1.Create, poolOf(in, f.kind, "subject", f.spec), nil)
			require.Equal(t, f.want == nil, answer.Allowed, "%v", answer)
			for _, want := range f.want {
				require.Contains(t, causes(answer), want)
			}
		})
	}
}

// fields are those of a spec: lists from texts with commas.
func fields(all ...any) map[string]any {
	spec := map[string]any{}
	for i := 0; i < len(all); i += 2 {
		name, value := all[i].(string), all[i+1]
		switch text, isText := value.(string); {
		case isText && (strings.HasSuffix(name, "ddresses") || strings.HasSuffix(name, "refixes")):
			var list []any
			for _, one := range strings.Split(text, ",") {
				list = append(list, one)
			}
			value = list
		case value == nil:
			value = []any{}
		}
		spec[name] = value
	}
	return spec
}

// TestValidationInUse asks about changes of pools that are in use.
func TestValidationInUse(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	pool := c.newPool(t, namespace, clusterapi.KindNamespaced, "used", "addresses: [10.24.0.1-10.24.0.9]", "prefix: 24",
		"network: "+namespace)
	claim := c.boundClaim(t, pool, namespace, "a")
	c.counted(t, pool, 9, 8, 1)
	changed := func(spec map[string]any) *unstructured.Unstructured {
		other := pool.DeepCopy()
		other.Object["spec"] = spec
		return other
	}
	fewer := changed(fields("addresses", "10.24.0.1-10.24.0.5", "prefix", 24))
	require.True(t, c.ask(t, admissionv1.Update, fewer, pool).Allowed)
	for _, spec := range []map[string]any{
		fields("addresses", "10.24.0.2-10.24.0.9", "prefix", 24),
		fields("addresses", "10.24.0.1-10.24.0.9", "prefix", 24, "excludedAddresses", "10.24.0.1"),
		fields("addresses", "10.24.0.1-10.24.0.9", "prefix", 24, "externalAddresses", "10.24.0.1"),
		fields("addresses", "10.24.0.1-10.24.0.9", "prefix", 24, "gateway", "10.24.0.1"),
	} {
		answer := c.ask(t, admissionv1.Update, changed(spec), pool)
		require.False(t, answer.Allowed)
		require.Contains(t, causes(answer), "10.24.0.1/32")
		require.Contains(t, causes(answer), namespace+"/a has it")
		spec["drain"] = true
		require.True(t, c.ask(t, admissionv1.Update, changed(spec), pool).Allowed)
	}
	clash := poolOf(namespace, clusterapi.KindNamespaced, "clash",
		fields("addresses", "10.24.0.9-10.24.0.12", "prefix", 24, "network", namespace))
	require.Contains(t, causes(c.ask(t, admissionv1.Create, clash, nil)),
		"overlap with those of InClusterIPPool "+namespace+"/used")
	same := poolOf(namespace, clusterapi.KindNamespaced, "same",
		fields("addresses", "10.25.0.1", "prefix", 24, "dualStackPool", "used"))
	require.Contains(t, causes(c.ask(t, admissionv1.Create, same, nil)), "same family")

	answer := c.ask(t, admissionv1.Delete, nil, pool)
	require.False(t, answer.Allowed)
	require.Contains(t, causes(answer), "1 addresses in use")
	moved := pool.DeepCopy()
	moved.SetAnnotations(map[string]string{api.SkipDeleteAnnotation: ""})
	require.True(t, c.ask(t, admissionv1.Delete, nil, moved).Allowed)
	c.release(t, claim)
	require.Eventually(t, func() bool { return c.ask(t, admissionv1.Delete, nil, pool).Allowed }, *patience, tick)
}

// TestConversion writes and reads pools in both versions: nothing is lost, and each says the same.
func TestConversion(t *testing.T) {
	c, namespace := sharedCluster(t), newNamespace()
	for _, f := range []struct {
		name, spec string
		addresses  []any
		prefix     int64
	}{
		{"bounds", `subnet: 10.26.0.0/24, gateway: 10.26.0.1, start: 10.26.0.7, end: 10.26.0.9`,
			[]any{"10.26.0.7-10.26.0.9"}, 24},
		{"subnet", `subnet: 10.26.0.0/24`, []any{"10.26.0.1-10.26.0.254"}, 24},
		{"no-end", `subnet: 10.26.0.0/24, start: 10.26.0.250`, []any{"10.26.0.250-10.26.0.254"}, 24},
		{"slash-31", `subnet: 10.26.0.0/31`, []any{"10.26.0.0-10.26.0.1"}, 31},
		{"slash-32", `subnet: 10.26.0.5/32`, []any{"10.26.0.5"}, 32},
		{"own-prefix", `subnet: 10.26.0.0/24, start: 10.26.0.7, end: 10.26.0.9, prefix: 16`,
			[]any{"10.26.0.7-10.26.0.9"}, 16},
	} {
		t.Run(f.name, func(t *testing.T) {
			pool := c.apply(t, namespace, fmt.Sprintf(
				"apiVersion: ipam.cluster.x-k8s.io/v1alpha1\nkind: InClusterIPPool\nmetadata: {name: %s}\nspec: {%s}",
				f.name, f.spec))
			written := pool.Object["spec"]
			up := poolOf(namespace, clusterapi.KindNamespaced, f.name, nil)
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(pool), up))
			addresses, _, _ := unstructured.NestedSlice(up.Object, "spec", "addresses")
			require.Equal(t, f.addresses, addresses)
			prefix, _, _ := unstructured.NestedInt64(up.Object, "spec", "prefix")
			require.Equal(t, f.prefix, prefix)
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(pool), pool))
			require.Equal(t, written, pool.Object["spec"])
			c.bound(t, c.claim(t, pool, namespace, f.name))
		})
	}

	rich := c.newPool(t, namespace, clusterapi.KindNamespaced, "rich", "addresses: [10.27.0.0/24]", "prefix: 24",
		"excludedAddresses: [10.27.0.1]", "network: "+namespace, "addressReuseGracePeriodSeconds: 60", "drain: true")
	c.counted(t, rich, 253, 253) // the controller changes nothing more
	down := rich.DeepCopy()
	down.SetAPIVersion("ipam.cluster.x-k8s.io/v1alpha1")
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(rich), down))
	require.Equal(t, map[string]any{"addresses": []any{"10.27.0.0/24"}, "prefix": int64(24)}, down.Object["spec"])
	down.SetLabels(map[string]string{"touched": "yes"})
	require.NoError(t, c.Update(t.Context(), down))
	spec := rich.Object["spec"]
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(rich), rich))
	require.Equal(t, spec, rich.Object["spec"])
	require.Equal(t, "yes", rich.GetLabels()["touched"])
	c.setSpec(t, down, "addresses", []any{"10.27.0.0/25"})
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(rich), rich))
	spec.(map[string]any)["addresses"] = []any{"10.27.0.0-10.27.0.127"}
	require.Equal(t, spec, rich.Object["spec"])

	wrong := poolOf(namespace, clusterapi.KindNamespaced, "wrong",
		map[string]any{"subnet": "nonsense", "prefix": int64(-1)})
	wrong.SetAPIVersion("ipam.cluster.x-k8s.io/v1alpha1")
	err := c.Create(t.Context(), wrong)
	require.ErrorContains(t, err, "spec.subnet")
	require.ErrorContains(t, err, "spec.prefix")
}
