package kubetest_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/request/bearertoken"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

var long = flag.Bool("long", false, "let tests of large pools and many calls have their full size")

// size returns full with the flag -long, else short.
func size(short, full int) int {
	if *long {
		return full
	}
	return short
}

// TestMain runs the tests, or what a test wants of a process of its own, and stops the server that the tests share.
func TestMain(m *testing.M) {
	if os.Getenv(envChild) != "" {
		os.Exit(child())
	}
	quiet := flag.NewFlagSet("klog", flag.PanicOnError)
	klog.InitFlags(quiet)
	quiet.Parse([]string{"-logtostderr=false", "-stderrthreshold=FATAL"})
	klog.SetOutput(discard{})
	code := m.Run()
	stopShared()
	os.Exit(code)
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// The users of the test servers: the token is the name. The groups are the ClusterRoles of the manifest that they are
// bound to.
const (
	admin  = "admin"
	writer = "ipalloc-writer"
	reader = "ipalloc-reader"
	nobody = "nobody"
)

// server is a real API server with an etcd of its own, in this process.
type server struct {
	etcd  *embed.Etcd
	dir   string
	addr  string // host:port; empty until it first ran
	ca    []byte
	rules *rules
	stop  func()

	installed bool // the manifest is applied
	inFlight  int  // how many requests that change something it does at once; 0 for the default
}

var shared struct {
	sync.Mutex
	server     *server
	namespaces atomic.Int64
}

// sharedServer returns the server that all tests share which do not break it.
func sharedServer(t testing.TB) *server {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.server == nil {
		dir, err := os.MkdirTemp("", "ipalloc-kube")
		require.NoError(t, err)
		shared.server = startServer(t, dir)
	}
	return shared.server
}

func stopShared() {
	if s := shared.server; s != nil {
		s.stop()
		s.etcd.Close()
		os.RemoveAll(s.dir)
	}
}

// ownServer returns a server that the test may break.
func ownServer(t testing.TB) *server {
	t.Helper()
	s := startServer(t, t.TempDir())
	t.Cleanup(s.end)
	return s
}

// end stops the server and its etcd.
func (s *server) end() {
	s.stop()
	s.etcd.Close()
}

func startServer(t testing.TB, dir string) *server {
	t.Helper()
	s := &server{dir: dir, rules: newRules(t)}
	s.run(t)
	return s
}

// run starts the server with an empty etcd, and applies the manifest.
func (s *server) run(t testing.TB) {
	t.Helper()
	s.startEtcd(t)
	s.start(t)
	s.install(t)
	s.installed = true
}

func (s *server) startEtcd(t testing.TB) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = filepath.Join(s.dir, "etcd"), "panic", []string{os.DevNull}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = []url.URL{freeURL(t)}, []url.URL{freeURL(t)}
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes = 4 << 30
	cfg.UnsafeNoFsync = true             // its data are gone with the test
	cfg.TickMs, cfg.ElectionMs = 10, 100 // there is no other member to wait for
	// The server sets this, but its package does not. 0 logs all requests.
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	var err error
	s.etcd, err = embed.StartEtcd(cfg)
	require.NoError(t, err)
	<-s.etcd.Server.ReadyNotify()
}

func freeURL(t testing.TB) url.URL {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return url.URL{Scheme: "http", Host: l.Addr().String()}
}

// start starts the API server, at the address that it had before, if it ran before.
func (s *server) start(t testing.TB) {
	t.Helper()
	o := options.NewCustomResourceDefinitionsServerOptions(discard{}, discard{})
	recommended := o.RecommendedOptions
	recommended.Etcd.StorageConfig.Transport.ServerList = []string{s.etcd.Config().ListenClientUrls[0].String()}
	recommended.Authentication, recommended.Authorization = nil, nil
	recommended.Features.EnablePriorityAndFairness = false
	recommended.Admission.DisablePlugins = []string{
		"NamespaceLifecycle", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ValidatingAdmissionPolicy",
		"MutatingAdmissionPolicy",
	}
	recommended.CoreAPI.CoreAPIKubeconfigPath = s.kubeconfig(t)
	recommended.SecureServing.ServerCert.CertDirectory = filepath.Join(s.dir, "certs")
	recommended.SecureServing.ServerCert.PairName = "server"
	recommended.SecureServing.BindAddress = net.ParseIP("127.0.0.1")
	addr := s.addr
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	s.addr = listener.Addr().String()
	recommended.SecureServing.Listener = listener
	recommended.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, o.Complete())
	require.NoError(t, o.Validate())
	config, err := o.Config()
	require.NoError(t, err)
	config.GenericConfig.Authentication.Authenticator = bearertoken.New(authenticator.TokenFunc(authenticate))
	config.GenericConfig.Authorization.Authorizer = s.rules
	config.GenericConfig.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(
		openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions),
		openapinamer.NewDefinitionNamer(extensionsapiserver.Scheme))
	if s.inFlight > 0 {
		config.GenericConfig.MaxMutatingRequestsInFlight = s.inFlight
	}
	made, err := config.Complete().New(genericapiserver.NewEmptyDelegate())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = made.GenericAPIServer.PrepareRun().RunWithContext(ctx)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	s.ca, err = os.ReadFile(filepath.Join(s.dir, "certs", "server.crt"))
	require.NoError(t, err)
	s.waitHealthy(t)
}

// kubeconfig returns the path of a file that leads nowhere. The server wants one for what it does not use here.
func (s *server) kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(s.dir, "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"http://127.1.2.3:1"}}],
		"users":[{"name":"u","user":{}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],
		"current-context":"x"}`
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// waitHealthy waits until the server says that it is ready.
func (s *server) waitHealthy(t testing.TB) {
	t.Helper()
	c, err := clientset.NewForConfig(s.config(admin))
	require.NoError(t, err)
	paths := []string{"/healthz"}
	if s.installed {
		for _, resource := range []string{"ippools", "ipallocations", "iprecords"} {
			paths = append(paths, fmt.Sprintf("/apis/%s/%s/namespaces/default/%s", kube.Group, kube.Version, resource))
		}
	}
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, path := range paths {
			require.NoError(t, c.ApiextensionsV1().RESTClient().Get().AbsPath(path).Do(context.Background()).Error())
		}
	}, time.Minute, 20*time.Millisecond)
}

// config returns how user reaches the server.
func (s *server) config(user string) *rest.Config {
	return &rest.Config{
		Host: "https://" + s.addr, BearerToken: user, TLSClientConfig: rest.TLSClientConfig{CAData: s.ca}, QPS: -1,
	}
}

// install applies the manifest, and waits until the server serves it.
func (s *server) install(t testing.TB) {
	t.Helper()
	c, err := clientset.NewForConfig(s.config(admin))
	require.NoError(t, err)
	ctx := context.Background()
	var crds []apiextensions.CustomResourceDefinition
	for _, text := range strings.Split(kube.CRDs(), "\n---\n")[1:] {
		var crd apiextensions.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &crd))
		_, err := c.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, &crd, metav1.CreateOptions{})
		require.NoError(t, err)
		crds = append(crds, crd)
	}
	for _, crd := range crds { // that the server takes in together
		path := fmt.Sprintf("/apis/%s/%s/namespaces/default/%s", crd.Spec.Group, kube.Version, crd.Spec.Names.Plural)
		require.Eventually(t, func() bool {
			made, err := c.ApiextensionsV1().CustomResourceDefinitions().Get(ctx, crd.Name, metav1.GetOptions{})
			require.NoError(t, err)
			established := false
			for _, condition := range made.Status.Conditions {
				require.NotEqual(t, apiextensions.NonStructuralSchema, condition.Type, condition.Message)
				established = established ||
					condition.Type == apiextensions.Established && condition.Status == apiextensions.ConditionTrue
			}
			return established && c.ApiextensionsV1().RESTClient().Get().AbsPath(path).Do(ctx).Error() == nil
		}, time.Minute, 20*time.Millisecond)
	}
}

func authenticate(_ context.Context, token string) (*authenticator.Response, bool, error) {
	if !slices.Contains([]string{admin, writer, reader, nobody}, token) {
		return nil, false, errors.New("unknown token")
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: token}}, true, nil
}

// rules is an authorizer that allows what the shipped manifest allows, in any namespace, and what a test has not
// forbidden.
type rules struct {
	roles  map[string][]rule
	forbid atomic.Pointer[func(authorizer.Attributes) bool]
}

type rule struct {
	APIGroups, Resources, Verbs []string
}

func newRules(t testing.TB) *rules {
	t.Helper()
	r := &rules{roles: make(map[string][]rule)}
	for _, text := range strings.Split(kube.RBAC(), "\n---\n")[1:] {
		var role struct {
			Metadata struct{ Name string }
			Rules    []rule
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &role))
		r.roles[role.Metadata.Name] = role.Rules
	}
	require.Len(t, r.roles, 2)
	return r
}

func (r *rules) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == admin || slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	if forbid := r.forbid.Load(); forbid != nil && (*forbid)(a) {
		return authorizer.DecisionDeny, "the test forbids it", nil
	}
	for _, rule := range r.roles[a.GetUser().GetName()] {
		if a.IsResourceRequest() && slices.Contains(rule.APIGroups, a.GetAPIGroup()) &&
			slices.Contains(rule.Resources, a.GetResource()) && a.GetSubresource() == "" &&
			slices.Contains(rule.Verbs, a.GetVerb()) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "no rule allows it", nil
}

// newNamespace returns the name of a namespace that nobody uses.
func newNamespace() string { return fmt.Sprint("ns-", shared.namespaces.Add(1)) }

// open opens a handle for the writer of the manifest, which is closed at the end of the test.
func open(t testing.TB, config *rest.Config, opts kube.Options) *kube.Store {
	t.Helper()
	s, err := kube.Open(t.Context(), config, &opts)
	require.NoError(t, err)
	t.Cleanup(func() { s.Close() })
	return s
}

func newBackend(t testing.TB) storetest.Backend {
	server, namespace := sharedServer(t), newNamespace()
	return storetest.Backend{
		Open: func(ctx context.Context) (store.Store, error) {
			return kube.Open(ctx, server.config(writer), &kube.Options{Namespace: namespace, PageSize: 50})
		},
		Damage: func(_ context.Context, key store.Key) error {
			server.patch(t, namespace, "ipallocations/"+key.Pool+"."+key.Name, `{"spec":{"prefixes":[":::/64"]}}`)
			return nil
		},
	}
}

func TestConformance(t *testing.T) { storetest.Run(t, newBackend) }

func BenchmarkStore(b *testing.B) { storetest.Benchmarks(b, newBackend) }
