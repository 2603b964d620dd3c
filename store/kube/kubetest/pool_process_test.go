package kubetest_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
)

// envPool has what a process of TestPoolKilled or TestPoolProcesses must know of its server, as JSON.
const envPool = "IPALLOC_KUBE_POOL"

// child is the environment of a process that reaches its store by w.
func (w way) child(t *testing.T) []string {
	t.Helper()
	text, err := json.Marshal(w)
	require.NoError(t, err)
	return []string{envPool + "=" + string(text)}
}

// ownWay returns the way of this process, if it was started by a test.
func ownWay(t *testing.T) (w way, ok bool) {
	t.Helper()
	text := os.Getenv(envPool)
	if text == "" {
		return way{}, false
	}
	require.NoError(t, json.Unmarshal([]byte(text), &w))
	return w, true
}

// newWay is the way to a namespace of its own.
func newWay(t *testing.T) way {
	t.Helper()
	server := sharedServer(t)
	return way{"https://" + server.Addr, server.CA, newNamespace()}
}

// TestPoolKilled kills a child whose workers allocate and release.
func TestPoolKilled(t *testing.T) {
	if w, ok := ownWay(t); ok {
		s, err := w.open(t.Context())
		pooltest.Work(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	w := newWay(t)
	pooltest.Killing{
		Open:    w.open,
		Child:   w.child(t),
		Recover: func() error { return pooltest.Fence(t.Context(), w.open) },
		Rounds:  3, Calls: 40,
	}.Run(t)
}

// TestPoolProcesses has many processes allocate from one pool at once.
func TestPoolProcesses(t *testing.T) {
	if w, ok := ownWay(t); ok {
		s, err := w.open(t.Context())
		pooltest.Race(t, s, err)
		return
	}
	if testing.Short() {
		t.Skip("starts processes")
	}
	w := newWay(t)
	pooltest.Racing{Open: w.open, Child: w.child(t)}.Run(t)
}
