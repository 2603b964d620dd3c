package mysql_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

// TestCommand has the operator's command work on MariaDB.
func TestCommand(t *testing.T) {
	program, err := commandtest.Build(t.TempDir(), "../..")
	require.NoError(t, err)
	program.ServerSession(t, serverURL(t, newSchema()).String(), serverURL(t, newSchema()).String())
}
