package world

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Check returns an error that names the first rule that the world breaks, or nil. It looks at ranges and prefixes only,
// so the pools may be of any size, and a world that [Read] has read can be checked too. The rules:
//
//   - No address is held by two owners, unless they share it by a key: of one pool, of a pool and those delegated from
//     it, or of all pools of one network, in range or out of range, also while it cools down. What a pool was delegated
//     from is held by who holds it in that.
//   - An owner holds one allocation in a pool, and one in all blocks of a writer.
//   - The ranges of a root pool, and what it holds outside of them, are none of another root pool of its network.
//   - A pool that was delegated from another lies, with all that it holds, in what that holds for it, and is in its
//     network.
func (w *World) Check() error {
	for _, name := range w.Names() {
		m := w.Pools[name]
		for _, check := range []func(*Pool) error{w.checkOwners, w.checkChild, w.checkNetwork} {
			if err := check(m); err != nil {
				return fmt.Errorf("pool %q: %w", name, err)
			}
		}
	}
	return w.checkHolders()
}

// checkOwners finds an owner with two allocations.
func (w *World) checkOwners(m *Pool) error {
	seen := map[string]bool{}
	for _, name := range w.Names() {
		other := w.Pools[name]
		if other != m && (m.Writer == "" || other.Writer != m.Writer) {
			continue
		}
		for _, r := range other.Records {
			if !r.Cooling && seen[r.Owner] {
				return fmt.Errorf("the owner %q has two allocations in it, or in blocks of one writer", r.Owner)
			}
			seen[r.Owner] = seen[r.Owner] || !r.Cooling
		}
	}
	return nil
}

// checkChild finds what a pool that was delegated has and its parent did not grant.
func (w *World) checkChild(m *Pool) error {
	if !m.IsChild() {
		return nil
	}
	parent := w.Pools[m.Parent]
	if parent == nil {
		return fmt.Errorf("its parent %q is not there", m.Parent)
	}
	if parent.Spec.Network != m.Spec.Network {
		return fmt.Errorf("it is in the network %q, its parent in %q", m.Spec.Network, parent.Spec.Network)
	}
	for _, owner := range m.Grants {
		if len(w.grant(m, owner)) == 0 {
			return fmt.Errorf("its parent %q holds nothing for it as %q", m.Parent, owner)
		}
	}
	if !covers(w.Granted(m), m.claimed().Ranges()) {
		return fmt.Errorf("it has or holds %v, and was granted %v", cidr.FormatSet(m.claimed()), w.Granted(m))
	}
	return nil
}

// checkNetwork finds another root pool of the network with an address of this one.
func (w *World) checkNetwork(m *Pool) error {
	for _, other := range w.neighbours(m) {
		if common := cidr.Intersection(m.claimed(), other.claimed()); len(common.Ranges()) > 0 {
			return fmt.Errorf("%v are of the pool %q too", cidr.FormatSet(common), other.Name)
		}
	}
	return nil
}

// holder is a prefix and who holds it.
type holder struct {
	prefix netip.Prefix
	who    string
}

// checkHolders finds an address with two holders.
func (w *World) checkHolders() error {
	domains := map[string][]holder{}
	for _, name := range w.Names() {
		m := w.Pools[name]
		domain, shared := w.domain(m), map[[2]string][]netip.Prefix{}
		for _, r := range m.Records {
			if w.ChildOf(name, r) != nil {
				continue // it is for that child to hold
			}
			if key := [2]string{r.Scope, r.Share}; r.Share != "" {
				if slices.Equal(shared[key], r.Prefixes) {
					continue // several owners hold it together
				}
				shared[key] = r.Prefixes
			}
			for _, p := range m.bothSides(r.Prefixes) {
				domains[domain] = append(domains[domain], holder{p, fmt.Sprintf("%q in the pool %q", r.Owner, name)})
			}
		}
	}
	for _, holders := range domains {
		slices.SortFunc(holders, func(a, b holder) int {
			return cmp.Or(a.prefix.Addr().Compare(b.prefix.Addr()), a.prefix.Bits()-b.prefix.Bits())
		})
		for i := 1; i < len(holders); i++ {
			if a, b := holders[i-1], holders[i]; a.prefix.Overlaps(b.prefix) {
				return fmt.Errorf("%v is held by %s, and %v by %s", a.prefix, a.who, b.prefix, b.who)
			}
		}
	}
	return nil
}

// domain names where no address may be held twice: the network, or the root that the pool comes from.
func (w *World) domain(m *Pool) string {
	if m.Spec.Network != "" {
		return "network " + m.Spec.Network
	}
	root := m
	for depth := 0; root.IsChild() && w.Pools[root.Parent] != nil && depth < len(w.Pools); depth++ {
		root = w.Pools[root.Parent]
	}
	return "pool " + root.Name
}

// allowedSet is what a pool of any size may hand out of a family: its own set, less what is external, or in what its
// parent may hand out and has granted.
func (w *World) allowedSet(m *Pool, f pool.Family) *netipx.IPSet {
	own := m.Spec.Set(f)
	if !m.IsChild() {
		return w.movable(m, f, cidr.Difference(own, cidr.SetOf(w.External[m.Spec.Network]...)))
	}
	granted := cidr.Intersection(own, cidr.SetOf(rangesOf(w.Granted(m))...))
	return cidr.Intersection(granted, w.allowedSet(w.Pools[m.Parent], f))
}

// freeSet is what of that is free.
func (w *World) freeSet(m *Pool, f pool.Family) *netipx.IPSet {
	var held []netipx.IPRange
	for _, r := range m.Records {
		held = append(held, rangesOf(r.Prefixes)...)
	}
	return cidr.Difference(w.allowedSet(m, f), cidr.SetOf(held...))
}
