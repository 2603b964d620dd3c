package kubetest_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/cnitest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// TestCNI has the CNI plugin of two nodes share a Kubernetes API server, also while the server restarts.
func TestCNI(t *testing.T) {
	s := ownServer(t)
	cnitest.Cluster{
		Program: "ipalloc-kube", Modules: "../../..", Server: s.Addr,
		URL: func(t *testing.T, addr string) string {
			return "kube://cni?kubeconfig=" + url.QueryEscape(kubeconfig(t, s, addr))
		},
		Restart: func() {
			s.Stop()
			s.Start(t)
		},
		Open: func(ctx context.Context) (store.Store, error) {
			return kube.Open(ctx, s.config(writer), &kube.Options{Namespace: "cni"})
		},
	}.Run(t)
}

// kubeconfig returns a file by which a program reaches the server at an address, as the user writer.
func kubeconfig(t *testing.T, s *server, addr string) string {
	t.Helper()
	dir := t.TempDir()
	ca, file := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "kubeconfig")
	require.NoError(t, os.WriteFile(ca, s.CA, 0o600))
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"x",
		"clusters":[{"name":"c","cluster":{"server":"https://%s","certificate-authority":%q}}],
		"users":[{"name":"u","user":{"token":%q}}],"contexts":[{"name":"x","context":{"cluster":"c","user":"u"}}]}`,
		addr, ca, writer)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}
