package mysql_test

import "testing"

func TestRoundTrips(t *testing.T) { tests.RoundTrips(t) }

func TestJoinRoundTrips(t *testing.T) { tests.JoinRoundTrips(t, func() {}) }
