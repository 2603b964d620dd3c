package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// lockWait is how long to wait for another run to be done with the file.
const lockWait = 10 * time.Second

// openStore opens what keeps the addresses: the file, or memory if there is none. A dry run gets a copy in memory.
func openStore(ctx context.Context, r request) (store.Store, error) {
	if r.db == "" {
		return store.NewMemory(), nil
	}
	s, err := bolt.Open(ctx, r.db, &bolt.Options{LockWait: lockWait, MustExist: r.dryRun})
	if !r.dryRun {
		return s, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return store.NewMemory(), nil
	}
	if err != nil {
		return nil, err
	}
	defer s.Close() // it was only read
	return copyOf(ctx, s)
}

// openExisting opens a file that is not to be created.
func openExisting(ctx context.Context, path string) (*bolt.Store, error) {
	s, err := bolt.Open(ctx, path, &bolt.Options{LockWait: lockWait, MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", path)
	}
	return s, err
}

// copyOf returns a store in memory with the same pools and networks.
func copyOf(ctx context.Context, from store.Store) (store.Store, error) {
	to := store.NewMemory()
	for info, err := range pool.List(ctx, from) {
		if err != nil {
			return nil, err
		}
		p, err := pool.Open(ctx, from, info.Name, nil)
		if err != nil {
			return nil, err
		}
		snapshot, err := p.Snapshot(ctx)
		if err != nil {
			return nil, err
		}
		if _, err := pool.Import(ctx, to, info.Name, snapshot, nil); err != nil {
			return nil, err
		}
	}
	for network, err := range pool.Networks(ctx, from) {
		if err != nil {
			return nil, err
		}
		if err := pool.SetExternal(ctx, to, network.Name, network.External, true, nil); err != nil {
			return nil, err
		}
	}
	return to, nil
}
