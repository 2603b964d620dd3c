package world

import (
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Where package pool and the model differ in how they put the same thing.

// parentIn is the parent that a pool has, and the owners in it of what the pool was delegated from.
func parentIn(p pool.Parent) (parent string, grants []string) {
	for _, grant := range p.Grants {
		grants = append(grants, grant.Owner)
	}
	return p.Pool, grants
}

// ParentOf is the parent of a pool in the terms of [pool.Info].
func (w *World) ParentOf(m *Pool) pool.Parent {
	if !m.IsChild() {
		return pool.Parent{}
	}
	parent := pool.Parent{Pool: m.Parent}
	for _, owner := range m.Grants {
		parent.Grants = append(parent.Grants, pool.Grant{Owner: owner, Prefixes: w.Pools[m.Parent].Find(owner).Prefixes})
	}
	return parent
}

// name begins the owners in the parent of a writer's blocks, before a slash and a number.
func (b Blocks) name() string {
	escape := strings.NewReplacer("%", "%25", "/", "%2F").Replace
	return escape(b.Parent) + "/" + escape(b.Writer)
}

// poolOf is the pool of the block that the parent holds for an owner.
func (b Blocks) poolOf(string) string { return b.name() }
