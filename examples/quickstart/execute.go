package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// lockWait is how long to wait for another quickstart to be done with the file.
const lockWait = time.Second

// execute does what the command asks, and returns what to print.
func (c command) execute(ctx context.Context) (string, error) {
	d, err := readDefinition(c.poolFile)
	if err != nil {
		return "", err
	}
	if err := d.checkSize(len(c.owners)); err != nil {
		return "", err
	}
	s, err := c.openStore(ctx)
	if err != nil {
		return "", err
	}
	defer s.Close() // what is committed is on the disk already
	p, err := c.openPool(ctx, s, d)
	if err != nil {
		return "", err
	}
	if c.release {
		err = release(ctx, p, c.owners)
	} else {
		err = allocate(ctx, p, c.owners)
	}
	if err != nil {
		return "", err
	}
	return report(ctx, p)
}

// openStore opens the file, or creates it unless the command is to release what must be in it already.
func (c command) openStore(ctx context.Context) (*bolt.Store, error) {
	s, err := bolt.Open(ctx, c.db, &bolt.Options{LockWait: lockWait, MustExist: c.release})
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.release:
		return nil, fmt.Errorf("there is no file %s to release from", c.db)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("there is no folder %s for the file %s, want one that exists",
			filepath.Dir(c.db), filepath.Base(c.db))
	}
	return s, err
}

// openPool opens the pool. Unless the command releases, it creates a missing pool, and updates one
// whose definition has changed.
func (c command) openPool(ctx context.Context, s store.Store, d definition) (*pool.Pool, error) {
	if c.release {
		return pool.Open(ctx, s, d.name, nil)
	}
	return pool.Ensure(ctx, s, d.name, d.spec, pool.Update, nil)
}

// allocate gives each owner an address of each family, in their order, or nothing to any.
func allocate(ctx context.Context, p *pool.Pool, owners []string) error {
	steps := make([]pool.Step, len(owners))
	for i, owner := range owners {
		steps[i] = pool.Allocate(pool.Claim{Owner: owner, Policy: pool.PreferDualStack})
	}
	if _, err := p.All(ctx, steps...); err != nil {
		return fmt.Errorf("%w; nothing was allocated", err)
	}
	return nil
}

// release releases what the owners hold, or nothing if one of them holds nothing.
func release(ctx context.Context, p *pool.Pool, owners []string) error {
	steps := make([]pool.Step, len(owners))
	for i, owner := range owners {
		steps[i] = pool.Release(pool.Held{Owner: owner})
	}
	_, err := p.All(ctx, steps...)
	switch {
	case errors.Is(err, pool.ErrNotFound):
		return fmt.Errorf("%w: this owner holds nothing; nothing was released", err)
	case err != nil:
		return fmt.Errorf("%w; nothing was released", err)
	}
	return nil
}
