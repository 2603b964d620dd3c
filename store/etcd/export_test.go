package etcd

import (
	"context"
	"time"
)

// What tests look at inside.
var (
	Escape   = escape
	Unescape = unescape
)

// Overslept returns the error of a turn whose ticket is gone without an answer, so long after it was written.
func Overslept(waited time.Duration) error {
	t := &turn{shared: shared{joined: true, since: time.Now().Add(-waited)}}
	err := t.overslept()
	if _, _, unknown := t.Answered(); err != unknown { //nolint:errorlint // it is the same one
		panic(unknown)
	}
	return err
}

// Wrap is what a store makes of an error of a call with the context.
func Wrap(ctx context.Context, err error) error { return new(Store).wrap(ctx, "get", err) }
