package main_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	"k8s.io/klog/v2"
	ipamv1beta1 "sigs.k8s.io/cluster-api/api/ipam/v1beta1" //nolint:staticcheck // is still served, so it is tested
	ipamv1 "sigs.k8s.io/cluster-api/api/ipam/v1beta2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/controller"
	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/kube/kubetest/apiserver"
)

var (
	patience = flag.Duration("patience", 2*time.Minute, "how long to wait for what must come, on a slow machine too")
	logs     = flag.Bool("logs", false, "show what the replica in this process logs")
)

// TestMain runs the tests, or a replica of the controller that a test wants in a process of its own.
func TestMain(m *testing.M) {
	klog.SetLogger(logr.Discard())
	ctrl.SetLogger(logr.Discard())
	log.SetOutput(io.Discard)
	if text := os.Getenv(envReplica); text != "" {
		os.Exit(replica(text))
	}
	code := m.Run()
	if c := shared.cluster; c != nil {
		c.close()
		os.RemoveAll(c.server.Dir)
	}
	os.Exit(code)
}

// cluster is an API server with everything installed, and a replica of the controller in this process.
type cluster struct {
	wrap func(http.RoundTripper) http.RoundTripper // the requests of the replica in this process; nil for not
	client.Client
	server *apiserver.Server
	hooks  *httptest.Server // converts what is Cluster API's own
	port   int              // of the replica's webhook
	certs  string           // the folder with its certificate
	// metrics is where the replica serves its metrics.
	metrics string
	stop    context.CancelFunc
	done    chan error
}

var shared struct {
	sync.Mutex
	cluster    *cluster
	namespaces atomic.Int64
}

// sharedCluster returns the cluster that all tests share which do not break it.
func sharedCluster(t testing.TB) *cluster {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.cluster == nil {
		dir, err := os.MkdirTemp("", "ipalloc-capi")
		require.NoError(t, err)
		c := newCluster(t, dir, versions{})
		c.run(t, controller.Options{Settle: time.Millisecond, Retry: 300 * time.Millisecond})
		shared.cluster = c
	}
	return shared.cluster
}

// newNamespace returns the name of a namespace that nobody uses.
func newNamespace() string { return fmt.Sprint("team-", shared.namespaces.Add(1)) }

// versions are the versions of Cluster API that are not served.
type versions map[string]bool

// newCluster starts a server, and installs what the controller needs, without the versions.
func newCluster(t testing.TB, dir string, without versions) *cluster {
	t.Helper()
	c := &cluster{
		server: &apiserver.Server{
			Dir: dir, Users: []string{controllerUser}, Authorizer: authorizer.AuthorizerFunc(newRoles(t).authorize),
		},
		port:  freePort(t),
		certs: filepath.Join(dir, "hook"), hooks: httptest.NewTLSServer(http.HandlerFunc(convertClaims)),
	}
	certificate, key, err := cert.GenerateSelfSignedCertKey("127.0.0.1", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	require.NoError(t, err)
	require.NoError(t, os.MkdirAll(c.certs, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(c.certs, "tls.crt"), certificate, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(c.certs, "tls.key"), key, 0o600))
	c.server.Run(t, kube.CRDs(), c.definitions(t, "manifests/crds.yaml", c.own(certificate), nil),
		c.definitions(t, "testdata/ipam.yaml", c.capi(), without),
		c.definitions(t, "testdata/other.yaml", nil, without))
	scheme := runtime.NewScheme()
	require.NoError(t, ipamv1.AddToScheme(scheme))
	require.NoError(t, ipamv1beta1.AddToScheme(scheme))
	c.Client, err = client.New(c.server.Config(apiserver.Admin), client.Options{Scheme: scheme, Mapper: mapper()})
	require.NoError(t, err)
	return c
}

// mapper knows the resources. A server that has nothing but custom resources does not list their groups.
func mapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for kind, scope := range map[string]meta.RESTScope{
		"InClusterIPPool": meta.RESTScopeNamespace, "GlobalInClusterIPPool": meta.RESTScopeRoot,
		"InClusterPrefixPool": meta.RESTScopeNamespace, "GlobalInClusterPrefixPool": meta.RESTScopeRoot,
		"IPAddressClaim": meta.RESTScopeNamespace, "IPAddress": meta.RESTScopeNamespace,
	} {
		for _, version := range []string{"v1alpha1", "v1alpha2", "v1beta1", "v1beta2"} {
			m.Add(schema.GroupVersionKind{Group: api.Group, Version: version, Kind: kind}, scope)
		}
	}
	for _, version := range api.Versions {
		m.Add(schema.GroupVersionKind{Group: api.ClusterGroup, Version: version, Kind: "Cluster"}, meta.RESTScopeNamespace)
	}
	m.Add(schema.GroupVersionKind{Group: kube.Group, Version: kube.Version, Kind: "IPPool"}, meta.RESTScopeNamespace)
	m.Add(schema.GroupVersionKind{Group: "events.k8s.io", Version: "v1", Kind: "Event"}, meta.RESTScopeNamespace)
	return m
}

func freePort(t testing.TB) int {
	t.Helper()
	addr, err := freeport.Addr()
	require.NoError(t, err)
	return int(netip.MustParseAddrPort(addr).Port())
}

// own is how the server reaches the conversion of the replica in this process.
func (c *cluster) own(certificate []byte) *apiextensions.CustomResourceConversion {
	return conversion(fmt.Sprintf("https://127.0.0.1:%d/convert", c.port), certificate)
}

// capi is how the server reaches the conversion of Cluster API.
func (c *cluster) capi() *apiextensions.CustomResourceConversion {
	ca := pemOf(c.hooks.Certificate().Raw)
	return conversion(c.hooks.URL, ca)
}

func conversion(url string, ca []byte) *apiextensions.CustomResourceConversion {
	return &apiextensions.CustomResourceConversion{
		Strategy: apiextensions.WebhookConverter,
		Webhook: &apiextensions.WebhookConversion{
			ConversionReviewVersions: []string{"v1"},
			ClientConfig:             &apiextensions.WebhookClientConfig{URL: &url, CABundle: ca},
		},
	}
}

// definitions are the definitions in a file, as they would be in a cluster, but for where the conversion is.
func (c *cluster) definitions(
	t testing.TB, file string, convert *apiextensions.CustomResourceConversion, without versions,
) string {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	var out []string
	for _, document := range strings.Split(string(text), "\n---\n") {
		var crd apiextensions.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict([]byte(document), &crd))
		if convert != nil && (crd.Spec.Conversion != nil || strings.Contains(file, "testdata")) {
			crd.Spec.Conversion = convert
		}
		var served []apiextensions.CustomResourceDefinitionVersion
		for _, version := range crd.Spec.Versions {
			if !without[version.Name] {
				served = append(served, version)
			}
		}
		if len(served) == 1 {
			served[0].Storage = true
		}
		crd.Spec.Versions = served
		made, err := yaml.Marshal(crd)
		require.NoError(t, err)
		out = append(out, string(made))
	}
	return strings.Join(out, "\n---\n")
}

// convertClaims converts claims and addresses with Cluster API's own functions.
func convertClaims(w http.ResponseWriter, r *http.Request) {
	var review apiextensions.ConversionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	response := &apiextensions.ConversionResponse{
		UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess},
	}
	for _, raw := range review.Request.Objects {
		converted, err := convertClaim(raw.Raw, review.Request.DesiredAPIVersion)
		if err != nil {
			response.Result = metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
			break
		}
		response.ConvertedObjects = append(response.ConvertedObjects, runtime.RawExtension{Object: converted})
	}
	review.Request, review.Response = nil, response
	json.NewEncoder(w).Encode(review)
}

func convertClaim(raw []byte, version string) (runtime.Object, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, err
	}
	down := version == ipamv1beta1.GroupVersion.String()
	gvk := schema.FromAPIVersionAndKind(version, kind.Kind)
	var out runtime.Object
	var err error
	switch {
	case kind.Kind == "IPAddress" && down:
		var from ipamv1.IPAddress
		to := &ipamv1beta1.IPAddress{}
		if err = json.Unmarshal(raw, &from); err == nil {
			err = ipamv1beta1.Convert_v1beta2_IPAddress_To_v1beta1_IPAddress(&from, to, nil)
		}
		out = to
	case kind.Kind == "IPAddress":
		var from ipamv1beta1.IPAddress
		to := &ipamv1.IPAddress{}
		if err = json.Unmarshal(raw, &from); err == nil {
			err = ipamv1beta1.Convert_v1beta1_IPAddress_To_v1beta2_IPAddress(&from, to, nil)
		}
		out = to
	case down:
		var from ipamv1.IPAddressClaim
		to := &ipamv1beta1.IPAddressClaim{}
		if err = json.Unmarshal(raw, &from); err == nil {
			err = ipamv1beta1.Convert_v1beta2_IPAddressClaim_To_v1beta1_IPAddressClaim(&from, to, nil)
		}
		out = to
	default:
		var from ipamv1beta1.IPAddressClaim
		to := &ipamv1.IPAddressClaim{}
		if err = json.Unmarshal(raw, &from); err == nil {
			err = ipamv1beta1.Convert_v1beta1_IPAddressClaim_To_v1beta2_IPAddressClaim(&from, to, nil)
		}
		out = to
	}
	out.GetObjectKind().SetGroupVersionKind(gvk)
	return out, err
}

// run runs a replica in this process, with the rights of the manifest and with a webhook.
func (c *cluster) run(t testing.TB, options controller.Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c.stop, c.done = cancel, make(chan error, 1)
	options.Webhook = &webhook.Options{Host: "127.0.0.1", Port: c.port, CertDir: c.certs}
	options.HealthAddress = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c.metrics = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	options.MetricsAddress = c.metrics
	if *logs {
		options.Logger = zap.New(zap.UseDevMode(true))
	}
	config := c.config()
	if c.wrap != nil {
		config.Wrap(c.wrap)
	}
	go func() {
		err := controller.Run(ctx, config, options)
		if ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the replica has ended:", err)
			os.Exit(1)
		}
		c.done <- err
	}()
	awaitReady(t, options.HealthAddress)
	require.Eventually(t, c.listens, *patience, 10*time.Millisecond)
}

// listens reports whether the webhook accepts connections.
func (c *cluster) listens() bool {
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", c.port))
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func (c *cluster) close() {
	if c.stop != nil {
		c.stop()
		<-c.done
	}
	c.server.Close()
	c.hooks.Close()
}

// config is how the controller's user reaches the server.
func (c *cluster) config() *rest.Config { return c.server.Config(controllerUser) }

// apply creates what a text of YAML describes, in the namespace unless the text names one, and returns the last of it.
func (c *cluster) apply(t testing.TB, namespace, text string) *unstructured.Unstructured {
	t.Helper()
	var last *unstructured.Unstructured
	for _, document := range strings.Split(text, "\n---\n") {
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(document), object))
		if object.GetNamespace() == "" && !strings.HasPrefix(object.GetKind(), "Global") {
			object.SetNamespace(namespace)
		}
		require.NoError(t, c.Create(t.Context(), object))
		last = object
	}
	return last
}

// newPool creates a pool with the lines in its spec.
func (c *cluster) newPool(t testing.TB, namespace, kind, name string, spec ...string) *unstructured.Unstructured {
	t.Helper()
	text := fmt.Sprintf("apiVersion: ipam.cluster.x-k8s.io/v1alpha2\nkind: %s\nmetadata: {name: %s}\nspec:\n  ",
		kind, name)
	return c.apply(t, namespace, text+strings.Join(spec, "\n  "))
}

// claim creates a claim on a pool.
func (c *cluster) claim(t testing.TB, pool *unstructured.Unstructured, namespace, name string) *ipamv1.IPAddressClaim {
	t.Helper()
	claim := newClaim(pool, namespace, name)
	require.NoError(t, c.Create(t.Context(), claim))
	return claim
}

func newClaim(pool *unstructured.Unstructured, namespace, name string) *ipamv1.IPAddressClaim {
	return &ipamv1.IPAddressClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: ipamv1.IPAddressClaimSpec{
			PoolRef: ipamv1.IPPoolReference{APIGroup: api.Group, Kind: pool.GetKind(), Name: pool.GetName()},
		},
	}
}

// await waits until an object, read anew each time, is as the test wants it.
func await[T client.Object](t testing.TB, c *cluster, object T, is func(T) bool) T {
	t.Helper()
	require.Eventually(t, func() bool {
		require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(object), object))
		return is(object)
	}, *patience, tick, "not so: %v", lazily{object})
	return object
}

// lazily prints an object as it is when the test fails.
type lazily struct{ client.Object }

// String returns the object in JSON.
func (l lazily) String() string {
	text, err := json.Marshal(l.Object)
	return fmt.Sprint(string(text), err)
}

// awaitGone waits until an object is gone.
func awaitGone(t testing.TB, c *cluster, object client.Object) {
	t.Helper()
	require.Eventually(t, func() bool {
		return apierrors.IsNotFound(c.Get(t.Context(), client.ObjectKeyFromObject(object), object))
	}, *patience, tick, "is still there: %v", lazily{object})
}

// bound waits until the claim has an address, and returns that.
func (c *cluster) bound(t testing.TB, claim *ipamv1.IPAddressClaim) *ipamv1.IPAddress {
	t.Helper()
	await(t, c, claim, func(claim *ipamv1.IPAddressClaim) bool { return claim.Status.AddressRef.Name != "" })
	return c.address(t, claim.Namespace, claim.Status.AddressRef.Name)
}

func (c *cluster) address(t testing.TB, namespace, name string) *ipamv1.IPAddress {
	t.Helper()
	address := &ipamv1.IPAddress{}
	require.NoError(t, c.Get(t.Context(), types.NamespacedName{Namespace: namespace, Name: name}, address))
	return address
}

// refused waits until the claim says why it has no address, with the reason and the text in the message.
func (c *cluster) refused(t testing.TB, claim *ipamv1.IPAddressClaim, reason, text string) {
	t.Helper()
	await(t, c, claim, func(claim *ipamv1.IPAddressClaim) bool {
		for _, condition := range claim.Status.Conditions {
			if condition.Type == "Ready" && condition.Status == metav1.ConditionFalse && condition.Reason == reason {
				return strings.Contains(condition.Message, text)
			}
		}
		return false
	})
	require.Empty(t, claim.Status.AddressRef.Name)
}

// release deletes a claim, and waits until it is gone.
func (c *cluster) release(t testing.TB, claim *ipamv1.IPAddressClaim) {
	t.Helper()
	require.NoError(t, c.Delete(t.Context(), claim))
	awaitGone(t, c, claim)
}

// counts are the counts in the status of a pool: total, free, used, out of range, cooling.
func counts(pool *unstructured.Unstructured) [5]int64 {
	var all [5]int64
	for i, name := range []string{"total", "free", "used", "outOfRange", "cooling"} {
		n, found, _ := unstructured.NestedInt64(pool.Object, "status", "ipAddresses", name)
		if all[i] = n; !found {
			all[i] = -1
		}
	}
	return all
}

// counted waits until the status of a pool has the counts.
func (c *cluster) counted(t testing.TB, pool *unstructured.Unstructured, want ...int64) {
	t.Helper()
	all := [5]int64{}
	copy(all[:], want)
	await(t, c, pool, func(pool *unstructured.Unstructured) bool { return counts(pool) == all })
}

// reasonOf is the reason of a pool's condition.
func reasonOf(pool *unstructured.Unstructured) string {
	list, _, _ := unstructured.NestedSlice(pool.Object, "status", "conditions")
	if len(list) == 0 {
		return ""
	}
	return fmt.Sprint(list[0].(map[string]any)["reason"])
}

// awaitReady waits until a replica says that it is ready.
func awaitReady(t testing.TB, address string) {
	t.Helper()
	require.Eventually(t, func() bool {
		answer, err := http.Get("http://" + address + "/readyz")
		if err != nil {
			return false
		}
		answer.Body.Close()
		return answer.StatusCode == http.StatusOK
	}, *patience, 10*time.Millisecond)
}

// startCluster returns a cluster of the test's own, with a replica in this process.
func startCluster(t testing.TB, without versions) *cluster {
	t.Helper()
	c := newCluster(t, t.TempDir(), without)
	c.run(t, controller.Options{
		Settle: time.Millisecond, Sweep: 100 * time.Millisecond, Registry: prometheus.NewRegistry(),
	})
	t.Cleanup(c.close)
	return c
}

// newCluster creates a Cluster, whose control plane is at the endpoint if that is not empty.
func (c *cluster) newCluster(t testing.TB, namespace, name, endpoint string) *unstructured.Unstructured {
	t.Helper()
	return c.apply(t, namespace, fmt.Sprintf(`{"apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Cluster",
		"metadata": {"name": %q}, "spec": {"controlPlaneEndpoint": {"host": %q}}}`, name, endpoint))
}

// newAddress creates an address by hand, of which the claim may be the owner.
func (c *cluster) newAddress(
	t testing.TB, pool *unstructured.Unstructured, claim *ipamv1.IPAddressClaim, name, addr string, owned bool,
) *ipamv1.IPAddress {
	t.Helper()
	address := &ipamv1.IPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: claim.Namespace, Name: name},
		Spec: ipamv1.IPAddressSpec{
			ClaimRef: ipamv1.IPAddressClaimReference{Name: claim.Name}, Address: addr, Prefix: new(int32(24)),
			PoolRef: ipamv1.IPPoolReference{APIGroup: api.Group, Kind: pool.GetKind(), Name: pool.GetName()},
		},
	}
	if owned {
		address.OwnerReferences = []metav1.OwnerReference{{
			APIVersion: ipamv1.GroupVersion.String(), Kind: "IPAddressClaim", Name: claim.Name, UID: claim.UID,
			Controller: new(true),
		}}
	}
	require.NoError(t, c.Create(t.Context(), address))
	return address
}

// boundClaim creates a claim that has its address.
func (c *cluster) boundClaim(
	t testing.TB, pool *unstructured.Unstructured, namespace, name string,
) *ipamv1.IPAddressClaim {
	t.Helper()
	claim := c.claim(t, pool, namespace, name)
	c.bound(t, claim)
	return claim
}

// patch changes an object.
func (c *cluster) patch(t testing.TB, object client.Object, patch string) {
	t.Helper()
	require.NoError(t, c.Patch(t.Context(), object, client.RawPatch(types.MergePatchType, []byte(patch))))
}

// setSpec sets a field in the spec of a pool.
func (c *cluster) setSpec(t testing.TB, pool *unstructured.Unstructured, name string, value any) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"spec": map[string]any{name: value}})
	require.NoError(t, err)
	c.patch(t, pool, string(patch))
}

// open opens a pool in the store of the controller.
func (c *cluster) open(t testing.TB, name string) *pool.Pool {
	t.Helper()
	s, err := kube.Open(t.Context(), c.config(), nil)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	opened, err := pool.Open(t.Context(), s, name, nil)
	require.NoError(t, err)
	return opened
}

func heldAt(addr string) pool.Held { return pool.Held{Addr: netip.MustParseAddr(addr)} }

// tick is how often a test looks.
const tick = 5 * time.Millisecond
