//go:build !linux

package sqlite

import (
	"context"
	"os"

	"github.com/ipalloc/ipalloc/store"
)

// line orders the callers of this Store. There is no order between processes here: they find the file locked by one
// another, and try again.
type line struct{ turns store.Turns }

func openLine(string, os.FileInfo) (*line, error) { return &line{}, nil }

// wait returns when the caller has its turn, with what ends that. An error is the context's.
func (l *line) wait(ctx context.Context) (end func(), err error) {
	return l.turns.Wait(ctx, store.Key{Kind: "line", Pool: "line"})
}

func (l *line) close() {}
