package world

import (
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// Where package pool and the model differ in how they put the same thing.

// ownersOf are the owners in the parent of what a pool was delegated from.
func ownersOf(grants []pool.Grant) (owners []string) {
	for _, grant := range grants {
		owners = append(owners, grant.Owner)
	}
	return owners
}

// GrantsOf are what the parent of a pool has granted to it, in the terms of [pool.Info].
func (w *World) GrantsOf(m *Pool) (grants []pool.Grant) {
	for _, owner := range m.Grants {
		grants = append(grants, pool.Grant{Owner: owner, Prefixes: w.Pools[m.Parent].Find(owner).Prefixes})
	}
	return grants
}

// name begins the owners in the parent of a writer's blocks, before a slash and a number.
func (b Blocks) name() string {
	escape := strings.NewReplacer("%", "%25", "/", "%2F").Replace
	return escape(b.Parent) + "/" + escape(b.Writer)
}

// poolOf is the pool of the block that the parent holds for an owner.
func (b Blocks) poolOf(string) string { return b.name() }
