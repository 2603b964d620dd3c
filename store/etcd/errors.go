package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ipalloc/ipalloc/store"
)

// endOf is the error of a context that has ended, also if only its deadline has passed: the server knows the deadline,
// and may be faster to say so, in its own words, than the context.
func endOf(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && !time.Now().Before(deadline) { //nolint:forbidigo // as package context does
		return context.DeadlineExceeded
	}
	return nil
}

// ErrCorrupt is returned when a key or a value under the store's prefix is not valid: something other than this package
// has written it.
var ErrCorrupt = errors.New("etcd: damaged record")

// wrap says what failed, and makes sure that the error of a store that was closed, or of a context that has ended, is
// found in it: the client may tell of both in the words of gRPC.
func (s *Store) wrap(ctx context.Context, what string, err error) error {
	over := endOf(ctx)
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return fmt.Errorf("etcd: %s: %w: %w", what, store.ErrClosed, err)
	case over != nil && !errors.Is(err, over):
		return fmt.Errorf("etcd: %s: %w: %w", what, over, err)
	case status.Code(err) == codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("etcd: %s: %w: %w", what, context.DeadlineExceeded, err)
	default:
		return fmt.Errorf("etcd: %s: %w", what, err)
	}
}
