package simulation

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// check returns an error that names the first rule that is broken, or nil:
//
//   - No address is held twice in a pool, in range or out of range, also while it cools down.
//   - What a root pool has in its ranges, or holds outside of them, no other root pool of its network has or holds.
//   - A pool that was delegated from another is in its network, and has and holds only what that holds for it.
//   - What is newly granted is what the pool may hand out: no gateway, nothing excluded, nothing external, and nothing
//     that its parent may not hand out.
//   - An owner in a writer's blocks holds something in one pool at most, which was delegated from the parent of the
//     blocks.
//   - A share lists just the owners that hold by its key what it has.
//   - What ends in a pool that has a history is recorded in the same commit, and what is forgotten is the oldest.
//
// Cost: O(records).
func (l *ledger) check() error {
	if !l.written {
		return nil
	}
	defer l.checked()
	for _, rule := range []func() error{
		l.checkHolders, l.checkNetworks, l.checkChildren, l.checkFresh, l.checkTenants, l.checkShares,
		l.checkHistory,
	} {
		if err := rule(); err != nil {
			return err
		}
	}
	return nil
}

// checked begins the next commit.
func (l *ledger) checked() {
	l.fresh, l.written = l.fresh[:0], false
	l.ended, l.recorded = l.ended[:0], l.recorded[:0]
	l.pages = slices.DeleteFunc(l.pages, func(p *page) bool { return p.missing && len(p.entries)+len(p.past) == 0 })
	for _, p := range l.pages {
		p.created = false
	}
}

func (l *ledger) checkHolders() error {
	for _, p := range l.pages {
		if p.missing && len(p.entries) > 0 {
			return fmt.Errorf("the pool %q is gone, and %v is held in it", p.name, p.entries[0].key)
		}
		var all addresses
		for i := range p.entries {
			e := &p.entries[i]
			if twice := all & e.held; twice != 0 {
				return fmt.Errorf("%v of %v is held by another owner of the pool too", twice, e.key)
			}
			all |= e.held
		}
	}
	return nil
}

func (l *ledger) checkNetworks() error {
	for i, p := range l.pages {
		if p.parent != "" || p.network == "" {
			continue
		}
		for _, other := range l.pages[:i] {
			if other.parent != "" || other.network != p.network {
				continue
			}
			if common := (p.ranges | p.held()) & (other.ranges | other.held()); common != 0 {
				return fmt.Errorf("%v of the network %q are of both pools %q and %q: these have the ranges %v and %v, "+
					"and hold %v and %v", common, p.network, p.name, other.name, p.ranges, other.ranges, p.held(), other.held())
			}
		}
	}
	return nil
}

func (l *ledger) checkChildren() error {
	for _, p := range l.pages {
		if p.parent == "" {
			continue
		}
		parent := l.find(p.parent)
		switch {
		case parent == nil:
			return fmt.Errorf("the pool %q was delegated from %q, which is gone", p.name, p.parent)
		case parent.network != p.network:
			return fmt.Errorf("the pool %q is in %q, and its parent %q in %q", p.name, p.network, p.parent, parent.network)
		case parent.grantedTo(p.name) != p.granted:
			return fmt.Errorf("the pool %q was granted %v, and its parent %q holds %v for it", p.name, p.granted, p.parent,
				parent.grantedTo(p.name))
		case (p.ranges|p.held())&^p.granted != 0:
			return fmt.Errorf("the pool %q has %v and holds %v, and was granted %v", p.name, p.ranges, p.held(), p.granted)
		}
	}
	for _, p := range l.pages {
		for i := range p.entries {
			e := &p.entries[i]
			if e.child == "" {
				continue
			}
			if child := l.find(e.child); child == nil || child.parent != p.name {
				return fmt.Errorf("%v is held for the pool %q, which was not delegated from that", e.key, e.child)
			}
		}
	}
	return nil
}

func (l *ledger) checkFresh() error {
	for _, g := range l.fresh {
		if g.page.missing || g.page.created {
			continue // it was imported with what it has
		}
		if never := g.held &^ l.allowed(g.page); never != 0 {
			return fmt.Errorf("%v was granted %v, of which the pool must not hand out %v", g.key, g.held, never)
		}
	}
	return nil
}

// checkTenants checks owners in the blocks of writers.
func (l *ledger) checkTenants() error {
	pools := map[string]string{}
	for _, p := range l.pages {
		for i := range p.entries {
			e := &p.entries[i]
			parent, isTenant := parentOf(e.key.Name)
			if !isTenant || !e.live {
				continue
			}
			if p.parent != parent {
				return fmt.Errorf("%v is held in blocks of %q, want %q", e.key, p.parent, parent)
			}
			if other, twice := pools[e.key.Name]; twice {
				return fmt.Errorf("%v holds something in the pool %q too", e.key, other)
			}
			pools[e.key.Name] = p.name
		}
	}
	return nil
}

// tenant is an owner in the blocks of a writer.
func tenant(parent, writer string, number int) string {
	return fmt.Sprintf("%s|%s|%d", parent, writer, number)
}

// parentOf returns from which pool the blocks are taken in which an owner holds something, if it is a tenant.
func parentOf(owner string) (string, bool) {
	parent, _, isTenant := strings.Cut(owner, "|")
	return parent, isTenant
}

// checkShares checks what owners share. All claims in the simulation are of one scope.
func (l *ledger) checkShares() error {
	for _, p := range l.pages {
		listed, named := map[string][]string{}, map[string][]string{}
		for i := range p.entries {
			switch e := &p.entries[i]; {
			case e.isShare():
				listed[e.share+" "+e.prefixes] = slices.Sorted(slices.Values(e.sharers))
			case e.share != "":
				named[e.share+" "+e.prefixes] = append(named[e.share+" "+e.prefixes], e.key.Name)
			}
		}
		if !maps.EqualFunc(listed, named, slices.Equal[[]string]) {
			return fmt.Errorf("in the pool %q, shares list %v, and owners share %v", p.name, listed, named)
		}
	}
	return nil
}
