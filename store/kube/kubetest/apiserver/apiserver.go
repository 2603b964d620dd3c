// Package apiserver runs a Kubernetes API server for custom resources, with an etcd of its own, in the process of a
// test. It is the server that every Kubernetes API server has in it, so what it says of a custom resource is what a
// cluster says. It has no other resources: no namespaces, no secrets, no events.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/internal/freeport"
)

// Admin is a user that every server knows.
const Admin = "admin"

// Server is a server and its etcd. Set the options before [Server.Run]; the zero Server needs Dir. A Server must not be
// copied, and is for one goroutine, except Config.
type Server struct {
	// Dir is the folder for the data of etcd and for the certificate.
	Dir string
	// Users are the users that the server knows beside Admin. The token of a user is its name.
	Users []string
	// Authorizer says what the users may do. The default, nil, allows everything.
	Authorizer authorizer.Authorizer
	// MaxInFlight is how many requests that change something the server does at once; 0 for its default.
	MaxInFlight int

	// Addr is the host and port of the server, which stay the same when it is started again. CA is its certificate.
	Addr string
	CA   []byte

	etcd   *embed.Etcd
	stop   func()
	served []string // the paths that it has served
}

// Run starts the server with an empty etcd, and installs the custom resource definitions in streams of YAML documents.
func (s *Server) Run(t testing.TB, crds ...string) {
	t.Helper()
	s.etcd = StartEtcd(t, filepath.Join(s.Dir, "etcd"))
	s.Start(t)
	s.Install(t, crds...)
}

// Close stops the server and its etcd.
func (s *Server) Close() {
	s.Stop()
	s.etcd.Close()
}

// Stop stops the server, but not its etcd.
func (s *Server) Stop() { s.stop() }

// StartEtcd starts an etcd of one member with its data in a folder, and waits until it is ready. The caller closes it.
func StartEtcd(t testing.TB, dir string) *embed.Etcd {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir, cfg.LogLevel, cfg.LogOutputs = dir, "panic", []string{os.DevNull}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = []url.URL{freeURL(t)}, []url.URL{freeURL(t)}
	cfg.AdvertiseClientUrls, cfg.AdvertisePeerUrls = cfg.ListenClientUrls, cfg.ListenPeerUrls
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	cfg.QuotaBackendBytes = 4 << 30
	cfg.UnsafeNoFsync = true             // its data are gone with the test
	cfg.TickMs, cfg.ElectionMs = 10, 100 // there is no other member to wait for
	// The server sets this, but its package does not. 0 logs all requests.
	cfg.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	started, err := embed.StartEtcd(cfg)
	require.NoError(t, err)
	<-started.Server.ReadyNotify()
	return started
}

func freeURL(t testing.TB) url.URL {
	t.Helper()
	addr, err := freeport.Addr()
	require.NoError(t, err)
	return url.URL{Scheme: "http", Host: addr}
}

// Start starts the server after a Stop.
func (s *Server) Start(t testing.TB) {
	t.Helper()
	listener := &listener{Listener: s.listen(t)}
	made, err := s.config(t, listener).Complete().New(genericapiserver.NewEmptyDelegate())
	require.NoError(t, err)
	made.GenericAPIServer.ShutdownTimeout = time.Second // it does not wait longer for clients that watch
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = made.GenericAPIServer.PrepareRun().RunWithContext(ctx)
	}()
	s.stop = sync.OnceFunc(func() {
		cancel()
		<-done
		listener.cut()
	})
	s.CA, err = os.ReadFile(filepath.Join(s.Dir, "certs", "server.crt"))
	require.NoError(t, err)
	s.waitHealthy(t)
}

// listen listens at the address that the server had before, if it ran before.
func (s *Server) listen(t testing.TB) net.Listener {
	t.Helper()
	var err error
	if s.Addr == "" {
		s.Addr, err = freeport.Addr()
		require.NoError(t, err)
	}
	listener, err := net.Listen("tcp", s.Addr)
	require.NoError(t, err)
	return listener
}

// listener knows the connections that it has accepted. A server that stops leaves open those that are in use, and would
// go on to read from them what it no longer answers; the end of a process closes them.
type listener struct {
	net.Listener

	mu    sync.Mutex
	conns []net.Conn
}

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.conns = append(l.conns, conn)
	}
	return conn, err
}

// cut closes all connections. The listener is closed already.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, conn := range l.conns {
		_ = conn.Close()
	}
}

func (s *Server) config(t testing.TB, listener net.Listener) *extensionsapiserver.Config {
	t.Helper()
	o := options.NewCustomResourceDefinitionsServerOptions(io.Discard, io.Discard)
	recommended := o.RecommendedOptions
	recommended.Etcd.StorageConfig.Transport.ServerList = []string{s.etcd.Config().ListenClientUrls[0].String()}
	recommended.Authentication, recommended.Authorization = nil, nil
	recommended.Features.EnablePriorityAndFairness = false
	recommended.Admission.DisablePlugins = []string{
		"NamespaceLifecycle", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook", "ValidatingAdmissionPolicy",
		"MutatingAdmissionPolicy",
	}
	recommended.CoreAPI.CoreAPIKubeconfigPath = s.kubeconfig(t)
	recommended.SecureServing.ServerCert.CertDirectory = filepath.Join(s.Dir, "certs")
	recommended.SecureServing.ServerCert.PairName = "server"
	recommended.SecureServing.BindAddress = net.ParseIP("127.0.0.1")
	recommended.SecureServing.Listener = listener
	recommended.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	require.NoError(t, o.Complete())
	require.NoError(t, o.Validate())
	config, err := o.Config()
	require.NoError(t, err)
	generic := config.GenericConfig
	generic.Authentication.Authenticator = bearertoken.New(authenticator.TokenFunc(s.authenticate))
	generic.Authorization.Authorizer = s.Authorizer
	if s.Authorizer == nil {
		generic.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	}
	generic.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(
		openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions),
		openapinamer.NewDefinitionNamer(extensionsapiserver.Scheme))
	if s.MaxInFlight > 0 {
		generic.MaxMutatingRequestsInFlight = s.MaxInFlight
	}
	return config
}

// kubeconfig returns the path of a file that leads nowhere. The server wants one for what it does not use here.
func (s *Server) kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(s.Dir, "kubeconfig")
	text := `{"apiVersion":"v1","kind":"Config","clusters":[{"name":"c","cluster":{"server":"http://127.1.2.3:1"}}],
		"users":[{"name":"u","user":{}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}],
		"current-context":"x"}`
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// waitHealthy waits until the server says that it is ready, and serves what it served before.
func (s *Server) waitHealthy(t testing.TB) {
	t.Helper()
	c, err := clientset.NewForConfig(s.Config(Admin))
	require.NoError(t, err)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		for _, path := range append([]string{"/healthz"}, s.served...) {
			require.NoError(t, c.ApiextensionsV1().RESTClient().Get().AbsPath(path).Do(context.Background()).Error())
		}
	}, time.Minute, 20*time.Millisecond)
}

// Config returns how the user reaches the server. It has no rate limit.
func (s *Server) Config(user string) *rest.Config {
	return &rest.Config{
		Host: "https://" + s.Addr, BearerToken: user, TLSClientConfig: rest.TLSClientConfig{CAData: s.CA}, QPS: -1,
	}
}

// Install creates the custom resource definitions in streams of YAML documents, and waits until all are served. It
// skips documents of other kinds.
func (s *Server) Install(t testing.TB, streams ...string) {
	t.Helper()
	c, err := clientset.NewForConfig(s.Config(Admin))
	require.NoError(t, err)
	var crds []apiextensions.CustomResourceDefinition
	for _, text := range strings.Split(strings.Join(streams, "\n---\n"), "\n---\n") {
		var kind metav1.TypeMeta
		require.NoError(t, yaml.Unmarshal([]byte(text), &kind))
		if kind.Kind != "CustomResourceDefinition" {
			continue
		}
		var crd apiextensions.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &crd))
		_, err := c.ApiextensionsV1().CustomResourceDefinitions().Create(context.Background(), &crd, metav1.CreateOptions{})
		require.NoError(t, err)
		crds = append(crds, crd)
	}
	for _, crd := range crds { // that the server takes in together
		s.waitServed(t, c, crd)
	}
}

// waitServed waits until the server has established a definition, and serves all its versions.
func (s *Server) waitServed(t testing.TB, c *clientset.Clientset, crd apiextensions.CustomResourceDefinition) {
	t.Helper()
	var paths []string
	for _, version := range crd.Spec.Versions {
		if version.Served {
			paths = append(paths, resourcePath(crd, version.Name))
		}
	}
	require.Eventually(t, func() bool {
		made, err := c.ApiextensionsV1().CustomResourceDefinitions().Get(context.Background(), crd.Name, metav1.GetOptions{})
		require.NoError(t, err)
		established := false
		for _, condition := range made.Status.Conditions {
			require.NotEqual(t, apiextensions.NonStructuralSchema, condition.Type, condition.Message)
			established = established ||
				condition.Type == apiextensions.Established && condition.Status == apiextensions.ConditionTrue
		}
		return established && !slices.ContainsFunc(paths, func(path string) bool {
			return c.ApiextensionsV1().RESTClient().Get().AbsPath(path).Do(context.Background()).Error() != nil
		})
	}, time.Minute, 20*time.Millisecond)
	s.served = append(s.served, paths...)
}

func resourcePath(crd apiextensions.CustomResourceDefinition, version string) string {
	path := fmt.Sprintf("/apis/%s/%s/", crd.Spec.Group, version)
	if crd.Spec.Scope == apiextensions.NamespaceScoped {
		path += "namespaces/default/"
	}
	return path + crd.Spec.Names.Plural
}

func (s *Server) authenticate(_ context.Context, token string) (*authenticator.Response, bool, error) {
	if token != Admin && !slices.Contains(s.Users, token) {
		return nil, false, errors.New("unknown token")
	}
	return &authenticator.Response{User: &user.DefaultInfo{Name: token}}, true, nil
}
