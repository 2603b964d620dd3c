package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/etcd"
)

// late is a context whose deadline has passed, and that has not noticed yet.
type late struct{ context.Context }

func (late) Deadline() (time.Time, bool) { return time.Now().Add(-time.Microsecond), true }

// A server that is faster than the context to say that the time is over says so in words of its own.
func TestErrorOfALateContext(t *testing.T) {
	timedOut := errors.New("etcdserver: request timed out")
	err := etcd.Wrap(late{t.Context()}, timedOut)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, timedOut)
	require.NotErrorIs(t, etcd.Wrap(t.Context(), timedOut), context.DeadlineExceeded)
}
