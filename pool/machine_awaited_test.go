package pool_test

import (
	"context"
	"flag"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
)

// awaited is the switch for what the machine does and the package does not get right yet: the kinds that are let
// through, or "all".
//
//	networks  what a pool holds outside of its ranges keeps other pools of its network out
//	withheld  what a parent may not hand out any more, a child does not hand out either
//	imports   a child is imported into its grant only
//	blocks    a writer's blocks have several handles
//	names     blocks of parents and writers with slashes in their names
//	first     AllocateAll names the first claim that cannot be granted
//	stale     a handle that knows an earlier pool of the name only does not refuse to carve for what that was
//	trouble   contexts end, and stores fail, also amid calls that several heads belong to
var awaited = flag.String("awaited", "", "kinds of actions that package pool does not get right yet, or all")

// awaits reports whether the machine does what is of one of the kinds.
func awaits(kind string) bool {
	return *awaited == "all" || slices.Contains(strings.Split(*awaited, ","), kind)
}

// await skips an action if its kind is awaited, and not let through.
func await(t *rapid.T, kind string, concerned bool) {
	if concerned && !awaits(kind) {
		t.Skip("it is awaited")
	}
}

// poolPerWriter says that all blocks of a writer are one pool, so that an owner has one allocation in them also if it
// is made in that pool itself.
const poolPerWriter = false

// extendable is a pool that can be given further grants of its parent, and can give them back one by one.
type extendable interface {
	Extend(ctx context.Context, claim pool.Claim) error
	Retract(ctx context.Context, owner string) error
}

// setParent makes a snapshot that of a pool that was carved.
func setParent(s *pool.Snapshot, parent string, grants []string) {
	s.Parent = pool.Parent{}
	if parent != "" {
		s.Parent = pool.Parent{Pool: parent, Owner: grants[0]}
	}
}
