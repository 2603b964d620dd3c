// Package backend opens the stores that durable work is measured on. A store that needs a server says how it is reached.
package backend

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// Backend is a place where a pool is kept. Any number of processes may open it, and then wait for each other where they must.
type Backend struct {
	Name string
	// Open opens a handle of its own.
	Open func(ctx context.Context) (store.Store, error)
	// OneAtATime tells that others wait while one has it open, so that whoever is done closes.
	OneAtATime bool
	// Size is how many bytes it takes on the disk; nil if that cannot be told.
	Size func() (int64, error)
}

// lockWait is how long a process waits for the file.
const lockWait = 5 * time.Minute

// Bolt is a file in the folder.
func Bolt(dir string) Backend {
	path := filepath.Join(dir, "ipalloc.db")
	return Backend{
		Name: "bolt", OneAtATime: true,
		Open: func(ctx context.Context) (store.Store, error) {
			return bolt.Open(ctx, path, &bolt.Options{LockWait: lockWait})
		},
		Size: func() (int64, error) {
			info, err := os.Stat(path)
			if err != nil {
				return 0, err
			}
			return info.Size(), nil
		},
	}
}
