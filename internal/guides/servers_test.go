package guides_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"github.com/ipalloc/ipalloc/internal/servertest"
	"github.com/ipalloc/ipalloc/store/kube/kubetest/apiserver"
)

// servers are what pages may have. A page whose commands have the words has a server of its own, and the variable says
// where it is.
var servers = []struct {
	words, variable string
	start           func(t *testing.T) string
}{
	{"$ETCD_URL", "ETCD_URL", startEtcd},
	{"$POSTGRES_URL", "POSTGRES_URL", startPostgres},
	{"kubectl ", "KUBECONFIG", startKubernetes},
}

// startEtcd starts an etcd of one member and returns the URL of a store in it.
func startEtcd(t *testing.T) string {
	e := apiserver.StartEtcd(t, t.TempDir())
	t.Cleanup(e.Close)
	return "etcd://" + e.Config().ListenClientUrls[0].Host
}

// startPostgres starts a PostgreSQL server with a database addresses, and returns its URL.
func startPostgres(t *testing.T) string {
	s, err := servertest.New(servertest.Postgres(pingPostgres))
	servertest.Require(t, err)
	t.Cleanup(func() { require.NoError(t, s.Remove()) })
	require.NoError(t, s.Start())
	host, port, err := net.SplitHostPort(s.Addr)
	require.NoError(t, err)
	create, err := servertest.PostgresCommand("createdb", "-h", host, "-p", port, "-U", "postgres", "addresses")
	require.NoError(t, err)
	output, err := create.CombinedOutput()
	require.NoError(t, err, string(output))
	return fmt.Sprintf("postgres://postgres@%s/addresses?sslmode=disable", s.Addr)
}

func pingPostgres(ctx context.Context, s *servertest.Server) error {
	host, port, err := net.SplitHostPort(s.Addr)
	if err != nil {
		return err
	}
	folder, err := servertest.PostgresFolder()
	if err != nil {
		return err
	}
	return exec.CommandContext(ctx, filepath.Join(folder, "pg_isready"), "-h", host, "-p", port).Run()
}

// startKubernetes starts the part of a Kubernetes API server that serves custom resources, and returns the file with
// which clients reach it as an administrator.
func startKubernetes(t *testing.T) string {
	klog.SetLogger(logr.Discard())
	s := &apiserver.Server{Dir: t.TempDir()}
	s.Run(t)
	t.Cleanup(s.Close)
	transport, err := rest.TransportFor(s.Config(apiserver.Admin))
	require.NoError(t, err)
	front := httptest.NewServer(&groups{transport: transport, host: s.Addr, forward: &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(&url.URL{Scheme: "https", Host: s.Addr}) },
		Transport:     transport,
		FlushInterval: -1,
	}})
	t.Cleanup(front.Close)
	file := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "lab",
		"clusters": [{"name": "c", "cluster": {"server": %q}}],
		"contexts": [{"name": "lab", "context": {"cluster": "c"}}]}`, front.URL)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// groups answers which groups of resources there are, without which kubectl does nothing. In a cluster the aggregator
// does that, in front of the server that has the custom resources.
type groups struct {
	transport http.RoundTripper
	host      string
	forward   http.Handler
}

func (g *groups) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/api":
		answer(w, metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}})
	case "/apis":
		list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
		for _, name := range []string{"apiextensions.k8s.io", "ipalloc.github.io"} {
			if group, ok := g.group(r.Context(), name); ok {
				list.Groups = append(list.Groups, group)
			}
		}
		answer(w, list)
	default:
		g.forward.ServeHTTP(w, r)
	}
}

func (g *groups) group(ctx context.Context, name string) (group metav1.APIGroup, ok bool) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+g.host+"/apis/"+name, http.NoBody)
	if err != nil {
		return group, false
	}
	response, err := g.transport.RoundTrip(request)
	if err != nil {
		return group, false
	}
	defer response.Body.Close()
	ok = response.StatusCode == http.StatusOK && json.NewDecoder(response.Body).Decode(&group) == nil
	return group, ok
}

func answer(w http.ResponseWriter, what any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(what)
}
