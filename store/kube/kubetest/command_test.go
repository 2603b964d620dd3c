package kubetest_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

// TestCommand has the operator's command work on the Kubernetes API. It knows the store by its two kinds of URLs.
func TestCommand(t *testing.T) {
	s := sharedServer(t)
	file := "kubeconfig=" + url.QueryEscape(kubeconfig(t, s, s.Addr))
	program, err := commandtest.Build(t.TempDir(), "../../..")
	require.NoError(t, err)
	program.ServerSession(t, "kube://"+newNamespace()+"?"+file, "kube:x?namespace="+newNamespace()+"&"+file)
}
