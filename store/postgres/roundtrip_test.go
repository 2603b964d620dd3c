package postgres_test

import (
	"testing"
	"time"
)

func TestRoundTrips(t *testing.T) { tests.RoundTrips(t) }

func TestJoinRoundTrips(t *testing.T) {
	tests.JoinRoundTrips(t, func() { time.Sleep(50 * time.Millisecond) })
}
