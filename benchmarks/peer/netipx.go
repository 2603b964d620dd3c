package peer

import (
	"context"
	"errors"
	"net/netip"

	"go4.org/netipx"
)

var errExhausted = errors.New("exhausted")

// netipxByHand does what a controller with its own objects does: at each claim it subtracts what
// these hold from the pool.
func netipxByHand() Peer {
	return Peer{
		Name: "netipx by hand", Module: "go4.org/netipx",
		Package: "pool minus all that is held, at each claim", Order: Lowest,
		Note: "as controllers write it; no owners", NewSpace: newNetipxByHand,
	}
}

type netipxHeld struct {
	shape Shape
	held  map[netip.Prefix]struct{}
}

func newNetipxByHand(s Shape) (Space, error) {
	return &netipxHeld{s, map[netip.Prefix]struct{}{}}, nil
}

func (n *netipxHeld) Take(bits int) (netip.Prefix, error) {
	var b netipx.IPSetBuilder
	b.AddPrefix(n.shape.Prefix)
	for p := range n.held {
		b.RemovePrefix(p)
	}
	free, err := b.IPSet()
	if err != nil {
		return netip.Prefix{}, err
	}
	p, _, ok := free.RemoveFreePrefix(uint8(bits))
	if n.shape.Single() {
		p, ok = firstOf(free)
	}
	if !ok {
		return netip.Prefix{}, errExhausted
	}
	n.held[p] = struct{}{}
	return p, nil
}

func firstOf(free *netipx.IPSet) (netip.Prefix, bool) {
	ranges := free.Ranges()
	if len(ranges) == 0 {
		return netip.Prefix{}, false
	}
	first := ranges[0].From()
	return netip.PrefixFrom(first, first.BitLen()), true
}

func (n *netipxHeld) Release(p netip.Prefix) error {
	delete(n.held, p)
	return nil
}

func (n *netipxHeld) Fill(_ context.Context, held []netip.Prefix) error {
	for _, p := range held {
		n.held[p] = struct{}{}
	}
	return nil
}

// netipxSet keeps the set of what is free, and changes it at each claim.
func netipxSet() Peer {
	return Peer{
		Name: "netipx kept set", Module: "go4.org/netipx",
		Package: "IPSet.RemoveFreePrefix on the set of what is free", Order: Any,
		Note: "the smallest free range that fits; a new set at each change; no owners", NewSpace: newNetipxSet,
	}
}

type netipxFree struct{ free *netipx.IPSet }

func newNetipxSet(s Shape) (Space, error) {
	n := &netipxFree{}
	return n, n.change(func(b *netipx.IPSetBuilder) { b.AddPrefix(s.Prefix) })
}

// change makes a new set of the present one.
func (n *netipxFree) change(edit func(*netipx.IPSetBuilder)) error {
	var b netipx.IPSetBuilder
	b.AddSet(n.free)
	edit(&b)
	free, err := b.IPSet()
	n.free = free
	return err
}

func (n *netipxFree) Take(bits int) (netip.Prefix, error) {
	p, rest, ok := n.free.RemoveFreePrefix(uint8(bits))
	if !ok {
		return netip.Prefix{}, errExhausted
	}
	n.free = rest
	return p, nil
}

func (n *netipxFree) Release(p netip.Prefix) error {
	return n.change(func(b *netipx.IPSetBuilder) { b.AddPrefix(p) })
}

func (n *netipxFree) Fill(_ context.Context, held []netip.Prefix) error {
	return n.change(func(b *netipx.IPSetBuilder) {
		for _, p := range held {
			b.RemovePrefix(p)
		}
	})
}
