package world

import (
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// Where package pool and the model differ in how they put the same thing.

// parentIn is the parent that a pool has, and the owners in it of what the pool was carved from.
func parentIn(p pool.Parent) (parent string, grants []string) {
	if p == (pool.Parent{}) {
		return "", nil
	}
	return p.Pool, []string{p.Owner}
}

// ParentOf is the parent of a pool in the terms of [pool.Info].
func (w *World) ParentOf(m *Pool) pool.Parent {
	if !m.IsChild() {
		return pool.Parent{}
	}
	return pool.Parent{Pool: m.Parent, Owner: m.Grants[0]}
}

// HeldIn is what the record of a network has as held out of range, by pool. It is false if networks do not say so.
func HeldIn(pool.Network) (held map[string][]netipx.IPRange, known bool) { return nil, false }

// name begins the owners in the parent of a writer's blocks, before a slash and a number.
func (b Blocks) name() string { return b.Parent + "/" + b.Writer }

// poolOf is the pool of the block that the parent holds for an owner.
func (b Blocks) poolOf(owner string) string { return owner }
