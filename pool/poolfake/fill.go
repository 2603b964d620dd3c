package poolfake

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// filler is what the names of the owners begin with that hold what [Fake.Fill] has taken.
const filler = "poolfake "

// Fill takes every address of a pool that is free, and all that ended leases and cooldowns had, so that the pool is
// full until [Fake.Empty], or until somebody releases something. The owners that hold them have names that begin with
// "poolfake ". Addresses that cool down stay for their last owners. Calls that allocate meanwhile may get some.
//
// If the pool is cordoned, or bounds the lengths of prefixes, its spec changes for a moment.
//
// Errors: those of [pool.Open], [pool.Pool.Drain] and [pool.Pool.Allocate].
func (f *Fake) Fill(ctx context.Context, name string) error {
	p, err := f.open(ctx, name)
	if err == nil {
		_, err = p.Expire(ctx)
	}
	if err != nil {
		return err
	}
	return fill(ctx, p)
}

// Empty releases what [Fake.Fill] has taken. None of it cools down: if the pool has a cooldown, its spec changes for a
// moment.
//
// Errors: those of [pool.Open], [pool.Pool.Drain] and [pool.Pool.Release].
func (f *Fake) Empty(ctx context.Context, name string) error {
	p, err := f.open(ctx, name)
	if err != nil {
		return err
	}
	return with(ctx, p, func(s *pool.Spec) { s.Cooldown = 0 }, func() error {
		for a, err := range p.Allocations(ctx) {
			if err == nil && strings.HasPrefix(a.Owner, filler) {
				_, err = p.Release(ctx, pool.Held{Owner: a.Owner, Optional: true})
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// open returns a handle that nothing disturbs.
func (f *Fake) open(ctx context.Context, name string) (*pool.Pool, error) {
	return pool.Open(ctx, f.memory, name, &pool.Options{Clock: f.Now})
}

// with calls do while the pool has a spec that change has changed.
func with(ctx context.Context, p *pool.Pool, change func(*pool.Spec), do func() error) error {
	info, err := p.Info(ctx)
	if err != nil {
		return err
	}
	changed := info.Spec
	change(&changed)
	if changed.Equal(info.Spec) {
		return do()
	}
	if err := p.Drain(ctx, changed); err != nil { // what is out of range already stays so
		return err
	}
	err = do()
	return errors.Join(err, p.Drain(ctx, info.Spec))
}

// fill takes all that is free.
func fill(ctx context.Context, p *pool.Pool) error {
	open := func(s *pool.Spec) {
		s.Cordoned = false
		s.IPv4.MinBits, s.IPv4.MaxBits, s.IPv6.MinBits, s.IPv6.MaxBits = 0, 0, 0, 0
	}
	return with(ctx, p, open, func() error {
		info, err := p.Info(ctx)
		if err != nil {
			return err
		}
		for _, family := range info.Spec.AllFamilies() {
			if err := fillFamily(ctx, p, family, info.Spec.Scope); err != nil {
				return err
			}
		}
		return nil
	})
}

func fillFamily(ctx context.Context, p *pool.Pool, family pool.Family, scope string) error {
	for {
		free, err := p.FreeSet(ctx, family)
		if err != nil || len(free.Ranges()) == 0 {
			return err
		}
		for prefixes := range slices.Chunk(free.Prefixes(), pool.MaxRequests) {
			claim := pool.Claim{Owner: fmt.Sprint(filler, prefixes[0]), Scope: scope}
			for _, prefix := range prefixes {
				claim.Requests = append(claim.Requests, pool.Request{Exact: prefix})
			}
			_, err := p.Allocate(ctx, claim)
			if err != nil && !errors.Is(err, pool.ErrTaken) { // else another call was faster
				return err
			}
		}
	}
}

// fullAnswer returns the error with which the pool would refuse the claim if all of its addresses were held by others;
// nil if it would not. The error has no Op: the pool adds that.
func (f *Fake) fullAnswer(ctx context.Context, name string, claim pool.Claim) *pool.Error {
	p, err := f.open(ctx, name)
	if err != nil {
		return nil //nolint:nilerr // the call itself meets the error
	}
	if _, err := p.Get(ctx, pool.Held{Owner: claim.Owner}); !errors.Is(err, pool.ErrNotFound) {
		return nil
	}
	full, err := f.fullCopy(ctx, p)
	if err == nil {
		_, err = full.Allocate(ctx, claim)
	}
	var refusal *pool.Error
	if !errors.As(err, &refusal) {
		return nil
	}
	return &pool.Error{Prefix: refusal.Prefix, Err: refusal.Err}
}

// fullCopy returns a pool in memory of which nothing is free, with the rules of p.
func (f *Fake) fullCopy(ctx context.Context, p *pool.Pool) (*pool.Pool, error) {
	info, err := p.Info(ctx)
	if err != nil {
		return nil, err
	}
	spec := info.Spec
	spec.Network, spec.Cordoned = "", false
	spec.Exclude = append(slices.Clone(spec.Exclude), withheldOf(info)...)
	full, err := pool.New(spec, &pool.Options{Clock: f.Now})
	if err != nil {
		return nil, err
	}
	return full, fill(ctx, full)
}

// withheldOf returns the withheld addresses of the families of the pool.
func withheldOf(info pool.Info) []netipx.IPRange {
	families := info.Spec.AllFamilies()
	return slices.DeleteFunc(slices.Clone(info.Withheld), func(r netipx.IPRange) bool {
		return !slices.Contains(families, pool.FamilyOf(r.From()))
	})
}
