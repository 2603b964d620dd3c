package etcdtest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

// TestCommand has the operator's command work on etcd.
func TestCommand(t *testing.T) {
	s := startServer(t)
	program, err := commandtest.Build(t.TempDir(), "../../..")
	require.NoError(t, err)
	program.ServerSession(t, "etcd://"+s.addr+"/here/", "etcd://"+s.addr+"/there/")
}
