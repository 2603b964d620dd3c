package etcd

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/ipalloc/ipalloc/store"
)

// ErrCorrupt is returned when a key or a value under the store's prefix is not valid: something other than this package
// has written it.
var ErrCorrupt = errors.New("etcd: damaged record")

// wrap says what failed, and makes sure that the error of a store that was closed, or of a context that has ended, is
// found in it: the client may tell of both in the words of gRPC.
func (s *Store) wrap(ctx context.Context, what string, err error) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return fmt.Errorf("etcd: %s: %w: %w", what, store.ErrClosed, err)
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		return fmt.Errorf("etcd: %s: %w: %w", what, ctx.Err(), err)
	case status.Code(err) == codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("etcd: %s: %w: %w", what, context.DeadlineExceeded, err)
	default:
		return fmt.Errorf("etcd: %s: %w", what, err)
	}
}
