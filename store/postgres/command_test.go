package postgres_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/commandtest"
)

// TestCommand has the operator's command work on PostgreSQL.
func TestCommand(t *testing.T) {
	server := sharedServer(t).url("postgres") + "&schema="
	program, err := commandtest.Build(t.TempDir(), "../..")
	require.NoError(t, err)
	program.ServerSession(t, server+url.QueryEscape(newSchema()), server+url.QueryEscape(newSchema()))
}
