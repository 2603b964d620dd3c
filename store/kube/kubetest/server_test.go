package kubetest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/kube/kubetest/apiserver"
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
	admin  = apiserver.Admin
	writer = "ipalloc-writer"
	reader = "ipalloc-reader"
	nobody = "nobody"
)

// server is a real API server with an etcd of its own, in this process, whose users have what the manifest gives them.
type server struct {
	*apiserver.Server
	rules *rules
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
		s.Close()
		os.RemoveAll(s.Dir)
	}
}

// ownServer returns a server that the test may break.
func ownServer(t testing.TB) *server {
	t.Helper()
	s := startServer(t, t.TempDir())
	t.Cleanup(s.Close)
	return s
}

func startServer(t testing.TB, dir string) *server {
	t.Helper()
	s := newServer(t, dir)
	s.Run(t, kube.CRDs())
	return s
}

// newServer returns a server that does not run yet.
func newServer(t testing.TB, dir string) *server {
	t.Helper()
	r := newRules(t)
	return &server{
		Server: &apiserver.Server{
			Dir: dir, Users: []string{writer, reader, nobody}, Authorizer: authorizer.AuthorizerFunc(r.authorize),
		},
		rules: r,
	}
}

// config returns how user reaches the server.
func (s *server) config(user string) *rest.Config { return s.Config(user) }

// rules allows what the shipped manifest allows, in any namespace, and what a test has not
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

func (r *rules) authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == admin || slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	if forbid := r.forbid.Load(); forbid != nil && (*forbid)(a) {
		return authorizer.DecisionDeny, "the test forbids it", nil
	}
	if a.GetPath() == "/version" { // as every cluster allows everybody, by system:public-info-viewer
		return authorizer.DecisionAllow, "", nil
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
