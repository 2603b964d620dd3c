package peer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"go4.org/netipx"
)

// Check hands out all of a small space. It returns an error if something is handed out twice, from elsewhere,
// misaligned, against the peer's order, or not again after its release. The shape must hold at most a few thousand.
func (p Peer) Check(s Shape) error {
	space, err := p.NewSpace(s)
	if err != nil {
		return err
	}
	all := min(s.Prefix.Addr().BitLen()-s.Prefix.Bits(), s.Bits-s.Prefix.Bits())
	seen, capacity := map[netip.Prefix]bool{}, 1<<all
	var last netip.Prefix
	for {
		got, err := space.Take(s.Bits)
		if err != nil {
			break
		}
		if err := p.plausible(s, seen, last, got); err != nil {
			return err
		}
		seen[got], last = true, got
	}
	// Network, broadcast and gateway may be kept back.
	if len(seen) < capacity-3 || len(seen) > capacity {
		return fmt.Errorf("%s: %d of %d were handed out", p.Name, len(seen), capacity)
	}
	return p.checkRelease(space, s, seen)
}

func (p Peer) plausible(s Shape, seen map[netip.Prefix]bool, last, got netip.Prefix) error {
	switch {
	case got.Bits() != s.Bits || got != got.Masked() || !s.Prefix.Contains(got.Addr()):
		return fmt.Errorf("%s: %v was handed out, which is no /%d of %v", p.Name, got, s.Bits, s.Prefix)
	case seen[got]:
		return fmt.Errorf("%s: %v was handed out twice", p.Name, got)
	case (p.Order == Lowest || p.Order == Next) && last.IsValid() && got.Addr().Less(last.Addr()):
		return fmt.Errorf("%s: %v was handed out after %v, but the order is %s", p.Name, got, last, p.Order)
	}
	return nil
}

// checkRelease releases a few from a space of which all is taken, and takes them again.
func (p Peer) checkRelease(space Space, s Shape, seen map[netip.Prefix]bool) error {
	free := map[netip.Prefix]bool{}
	for held := range seen {
		if len(free) == 3 {
			break
		}
		if err := space.Release(held); err != nil {
			return fmt.Errorf("%s: release %v: %w", p.Name, held, err)
		}
		free[held] = true
	}
	for range len(free) {
		got, err := space.Take(s.Bits)
		if err != nil {
			return fmt.Errorf("%s: %d were released, and not all can be taken: %w", p.Name, len(free), err)
		}
		if !free[got] {
			return fmt.Errorf("%s: %v was handed out, which is held", p.Name, got)
		}
		delete(free, got)
	}
	if got, err := space.Take(s.Bits); err == nil {
		return fmt.Errorf("%s: %v was handed out when all was held", p.Name, got)
	}
	return nil
}

// CheckFilled takes and releases once in a space that is to be measured. It returns an error if the result is already
// held, lies outside, or is not the lowest although the peer's order says so.
func (p Peer) CheckFilled(space Space, s Shape, held []netip.Prefix, bits int) error {
	oracle, err := allocator.New(cidr.SetOf(netipx.RangeOfPrefix(s.Prefix)))
	if err != nil {
		return err
	}
	for _, h := range held {
		if err := oracle.Take(h); err != nil {
			return err
		}
	}
	got, err := space.Take(bits)
	if err != nil {
		return err
	}
	if got.Bits() != bits || !oracle.IsFree(got) {
		return fmt.Errorf("%s: %v was handed out, which is not a free /%d of %v", p.Name, got, bits, s.Prefix)
	}
	if err := p.checkLowest(oracle, s, got); err != nil {
		return err
	}
	return space.Release(got)
}

// checkLowest lets a peer pass over the network address.
func (p Peer) checkLowest(oracle *allocator.Allocator, s Shape, got netip.Prefix) error {
	if p.Order != Lowest {
		return nil
	}
	want, err := oracle.TakeFirst(got.Bits())
	if err == nil && want.Addr() == s.Prefix.Addr() && got != want {
		want, err = oracle.TakeFirst(got.Bits())
	}
	if err == nil && got != want {
		err = fmt.Errorf("%s: %v was handed out, but %v is free", p.Name, got, want)
	}
	return err
}

// errWrong says that a peer's answer to an owner is wrong.
var errWrong = errors.New("wrong")

// CheckOwners allocates for a few owners and releases them.
func CheckOwners(ctx context.Context, name string, pool Owners, prefix netip.Prefix) error {
	held := map[netip.Addr]string{}
	for _, owner := range []string{"check-1", "check-2", "check-3"} {
		addr, err := pool.Allocate(ctx, owner)
		if err != nil {
			return err
		}
		if held[addr] != "" || !prefix.Contains(addr) {
			return fmt.Errorf("%s: %w: %s got %v, which is held by %q or not in %v",
				name, errWrong, owner, addr, held[addr], prefix)
		}
		held[addr] = owner
	}
	for _, owner := range held {
		if err := pool.Release(ctx, owner); err != nil {
			return err
		}
	}
	return nil
}
