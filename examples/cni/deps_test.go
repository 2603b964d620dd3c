package cni_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A container runtime starts the plugin for each container, several times. What packages do at the start of a program
// counts each time, even if nothing uses them: so the plugin for files has none of those that take long.
func TestFilePluginIsLean(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "./cmd/ipalloc").Output()
	require.NoError(t, err)
	deps := strings.Fields(string(out))
	require.Contains(t, deps, "go.etcd.io/bbolt")
	for _, dep := range deps {
		for _, heavy := range []string{
			"yaml", "crypto/", "net/http", "k8s.io", "google.golang.org", "etcd/client", "pgx", "prometheus",
		} {
			require.NotContains(t, dep, heavy)
		}
	}
}
