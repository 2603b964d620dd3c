package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// poolPrefix is what durable pools hand out.
const poolPrefix = "10.0.0.0/16"

// place is a durable pool in a place of its own.
type place struct {
	durable.Pool // nil while it is closed
	kind         *durable.Kind
	address      string
	dir          string
	finish       func() error
	holds        content
	// runs counts the processes that have claimed in it, whose owners must differ.
	runs int
}

// content is what a place holds: so many owners, and of those only every nth.
type content struct{ held, nth int }

// newPlace makes a place and an empty pool in it.
func newPlace(ctx context.Context, s subject) (*place, error) {
	k := s.kind
	dir, err := os.MkdirTemp("", "ipalloc-report-")
	if err != nil {
		return nil, err
	}
	p := &place{kind: k, dir: dir, holds: content{0, 1}}
	if p.address, p.finish, err = k.Prepare(ctx, s.servers, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	if err := p.open(ctx); err != nil {
		return nil, errors.Join(err, p.finish(), os.RemoveAll(dir))
	}
	return p, nil
}

// open opens the pool if it is closed.
func (p *place) open(ctx context.Context) (err error) {
	if p.Pool == nil {
		p.Pool, err = p.kind.Open(ctx, p.address, netip.MustParsePrefix(poolPrefix))
	}
	return err
}

// close closes the pool if it is open.
func (p *place) close() error {
	if p.Pool == nil {
		return nil
	}
	err := p.Close()
	p.Pool = nil
	return err
}

// end closes the pool, and removes the place.
func (p *place) end() error { return errors.Join(p.close(), p.finish(), os.RemoveAll(p.dir)) }

// places are what rows leave to the rows after them: for each kind the last place, and what could not be made.
type places struct {
	last     map[string]*place
	failed   map[string]error
	programs string // the folder of the plugins that were built; empty if none was
}

func newPlaces() *places { return &places{last: map[string]*place{}, failed: map[string]error{}} }

// of returns a place of the kind with that content, which is checked when the place is made. It
// belongs to the caller until it is given back.
func (all *places) of(ctx context.Context, s subject, want content) (*place, error) {
	name := s.kind.Name
	key := fmt.Sprint(name, want)
	for _, needed := range []string{key, fmt.Sprint(name, content{want.held, 1})} {
		if err := all.failed[needed]; err != nil {
			return nil, err
		}
	}
	p := all.last[name]
	delete(all.last, name)
	var err error
	if p != nil && !p.canBecome(want) {
		err, p = p.end(), nil
	}
	if p == nil && err == nil {
		p, err = filledPlace(ctx, s, want.held)
	}
	if err == nil {
		if err = p.become(ctx, want); err != nil {
			err = errors.Join(err, p.end())
		}
	}
	if err != nil {
		err = errors.Join(ctx.Err(), err) // which the peer may have hidden
		all.failed[key] = err
		return nil, err
	}
	return p, nil
}

// canBecome reports whether nothing must be taken away but by thinning out.
func (p *place) canBecome(want content) bool {
	whole := p.holds.nth == 1
	return p.holds == want || whole && p.holds.held == want.held || whole && p.kind.Grows && p.holds.held < want.held
}

// become opens the pool, adds owners, and thins out what it holds.
func (p *place) become(ctx context.Context, want content) error {
	if err := p.open(ctx); err != nil || p.holds == want {
		return err
	}
	if p.holds.held < want.held {
		if err := p.Fill(ctx, owners(want.held)[p.holds.held:]); err != nil {
			return err
		}
	}
	p.holds = want
	return thin(ctx, p, want.held, want.nth)
}

// giveBack leaves a place, as it was taken, to the next row.
func (all *places) giveBack(p *place) { all.last[p.kind.Name] = p }

// drop ends the place of the kind, of which there may be one only.
func (all *places) drop(kind string) error {
	p := all.last[kind]
	if p == nil {
		return nil
	}
	delete(all.last, kind)
	return p.end()
}

// end ends all places, and removes the programs.
func (all *places) end() error {
	var err error
	if all.programs != "" {
		err = os.RemoveAll(all.programs)
	}
	for kind := range all.last {
		err = errors.Join(err, all.drop(kind))
	}
	return err
}

// filledPlace is a place where so many owners hold an address. What it gives is checked.
func filledPlace(ctx context.Context, s subject, held int) (*place, error) {
	p, err := newPlace(ctx, s)
	if err != nil {
		return nil, err
	}
	p.holds.held = held
	if err := p.Fill(ctx, owners(held)); err != nil {
		return nil, errors.Join(err, p.end())
	}
	if err := peer.CheckOwners(ctx, s.kind.Name, p, netip.MustParsePrefix(poolPrefix)); err != nil {
		return nil, errors.Join(err, p.end())
	}
	return p, nil
}
