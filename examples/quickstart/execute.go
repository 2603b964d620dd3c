package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
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
		return nil, fmt.Errorf("there is no folder %s for the file %s, want one that exists", filepath.Dir(c.db), filepath.Base(c.db))
	}
	return s, err
}

// openPool creates the pool, unless the command is to release what it holds; if it is there already, it opens it.
func (c command) openPool(ctx context.Context, s store.Store, d definition) (*pool.Pool, error) {
	if !c.release {
		p, err := pool.Create(ctx, s, d.name, d.spec, nil)
		if !errors.Is(err, pool.ErrExists) {
			return p, err
		}
	}
	p, err := pool.Open(ctx, s, d.name, nil)
	if err != nil {
		return nil, err
	}
	info, err := p.Info(ctx)
	if err != nil {
		return nil, err
	}
	return p, d.checkUnchanged(info.Spec)
}

// allocate gives each owner an address of each family, in their order, if there are enough for all. Nobody else can take
// them in between, since the store is locked.
func allocate(ctx context.Context, p *pool.Pool, owners []string) error {
	if err := checkFree(ctx, p, owners); err != nil {
		return err
	}
	for i, owner := range owners {
		if _, err := p.Allocate(ctx, pool.Claim{Owner: owner, Policy: pool.PreferDualStack}); err != nil {
			return halfWay(err, i, len(owners))
		}
	}
	return nil
}

// checkFree refuses to allocate if there is not enough for those of the owners who hold nothing yet.
func checkFree(ctx context.Context, p *pool.Pool, owners []string) error {
	needed := 0
	for _, owner := range owners {
		_, err := p.Get(ctx, owner)
		switch {
		case errors.Is(err, pool.ErrNotFound):
			needed++
		case err != nil:
			return err
		}
	}
	stats, err := p.Stats(ctx)
	if err != nil {
		return err
	}
	for _, s := range stats {
		if s.Free.Cmp(cidr.CountOf(uint64(needed))) < 0 {
			return exhausted(p.Name(), s.Family, s.Free, needed)
		}
	}
	return nil
}

// release releases what each owner holds, if each of them holds something.
func release(ctx context.Context, p *pool.Pool, owners []string) error {
	for _, owner := range owners {
		_, err := p.Get(ctx, owner)
		switch {
		case errors.Is(err, pool.ErrNotFound):
			return fmt.Errorf("the owner %q holds nothing in the pool %q; nothing was released", owner, p.Name())
		case err != nil:
			return err
		}
	}
	for i, owner := range owners {
		if _, err := p.Release(ctx, owner); err != nil {
			return halfWay(err, i, len(owners))
		}
	}
	return nil
}

// halfWay says how far a command came that was interrupted, or whose disk failed.
func halfWay(err error, done, owners int) error {
	return fmt.Errorf("%w; done for %d of %d owners, in their order", err, done, owners)
}
