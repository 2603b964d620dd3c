package etcd_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

// A process that was stopped for so long that its ticket and an answer may have come and gone cannot tell.
func TestOverslept(t *testing.T) {
	require.NoError(t, etcd.Overslept(0))
	require.NoError(t, etcd.Overslept(9*time.Second))
	require.ErrorIs(t, etcd.Overslept(11*time.Second), store.ErrUnknown)
}
