package retry_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/retry"
)

func TestGiveWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for attempt := range 20 {
			waits := map[time.Duration]bool{}
			for range 50 {
				begin := time.Now()
				retry.GiveWay(t.Context(), attempt+1)
				waits[time.Since(begin)] = true
				require.Less(t, time.Since(begin), time.Duration(attempt+1)*time.Millisecond)
			}
			require.Greater(t, len(waits), 10, "those that fail together must not wait alike")
		}
		ended, end := context.WithCancel(t.Context())
		end()
		begin := time.Now()
		retry.GiveWay(ended, 1000)
		require.Zero(t, time.Since(begin))
	})
}
