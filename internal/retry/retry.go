// Package retry is for drivers whose commits may be kept by others from being carried out.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// GiveWay waits before the next attempt, for a while that is longer after each one, and differs from that of others:
// those that fail because of one another would do so again. It ends with the context.
func GiveWay(ctx context.Context, attempt int) {
	wait := time.NewTimer(rand.N(time.Duration(attempt) * time.Millisecond))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
	}
}
