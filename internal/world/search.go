package world

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// Which addresses a claim gets.

// take finds a free prefix for each of the wants: first exact ones, then those within a set or a band, then the rest;
// of each the larger ones first.
// What some of the wants prefer has been found before.
func (m *Pool) take(wants []pool.Request, preferred map[int]netip.Prefix, seen Sight) ([]netip.Prefix, error) {
	order := make([]int, len(wants))
	for i := range wants {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int {
		return cmp.Or(cmp.Compare(choice(wants[i]), choice(wants[j])), cmp.Compare(length(wants[i]), length(wants[j])))
	})
	taken, cursor, got := m.Taken(), map[pool.Family]netip.Addr{}, make([]netip.Prefix, len(wants))
	for _, f := range []pool.Family{pool.IPv4, pool.IPv6} {
		cursor[f] = m.Cursor[f]
	}
	for i, p := range preferred {
		got[i] = p
		for _, a := range AddrsOf(p) {
			taken[a] = &Record{}
		}
	}
	for _, i := range order {
		if got[i].IsValid() {
			continue
		}
		w := wants[i]
		var free []netip.Prefix
		if w.Exact.IsValid() {
			if !m.allows(AddrsOf(w.Exact)) {
				return nil, pool.ErrNotInPool
			}
			if free = m.free(w, taken, everywhere); len(free) == 0 {
				return nil, pool.ErrTaken
			}
		}
		in := everywhere
		for _, tier := range m.tiers(w) {
			if len(free) == 0 {
				free, in = m.free(w, taken, tier), tier
			}
		}
		if len(free) == 0 {
			return nil, pool.ErrExhausted
		}
		got[i] = free[0]
		switch {
		case w.Exact.IsValid():
		case m.Spec.Strategy == pool.RandomFree && i < len(seen.Prefixes) && slices.Contains(free, seen.Prefixes[i]):
			got[i] = seen.Prefixes[i]
		case m.Spec.Strategy == pool.NextFree:
			behind := func(p netip.Prefix) bool { return !p.Addr().Less(cursor[w.Family]) }
			if next := slices.IndexFunc(free, behind); next > 0 {
				got[i] = free[next]
			}
		case m.Spec.Strategy == pool.HighestFree:
			got[i] = free[len(free)-1]
		case m.Spec.Strategy == pool.SpreadFree:
			got[i] = netip.PrefixFrom(m.largest(w, taken, in).Addr(), w.Bits)
		case m.Spec.Strategy == pool.BestFit && w.Within == nil && !m.hasBands(w.Family):
			got[i] = netip.PrefixFrom(m.smallest(w, taken).Addr(), w.Bits)
		}
		m.moveCursor(cursor, got[i])
		for _, a := range AddrsOf(got[i]) {
			taken[a] = &Record{}
		}
	}
	m.Cursor = cursor
	return got, nil
}

// takePreferred is take with what the wants prefer as far as it can be had, one after the other; nil if none can, or if
// the others cannot be met then. What a lease that has ended holds may be had, but its owner may be asking as well.
func (m *Pool) takePreferred(now time.Time, owner string, wants []pool.Request, seen Sight) []netip.Prefix {
	after, preferred, taken := m.clone(), map[int]netip.Prefix{}, m.Taken()
	for i, w := range wants {
		if !w.Prefer.IsValid() {
			continue
		}
		p := netip.PrefixFrom(w.Prefer, w.Bits).Masked()
		if w.Within != nil && !w.Within.ContainsPrefix(p) {
			continue
		}
		tiers := m.tiers(w)
		if !slices.ContainsFunc(tiers, func(tier func(netip.Addr) bool) bool { return all(p, tier) }) {
			continue
		}
		r := taken[w.Prefer]
		over := r != nil && r.Expired(now) && !r.Reserved && r.Child == "" && r.Share == ""
		if over && r.Owner != owner && i < len(seen.Prefixes) && seen.Prefixes[i] == p {
			after.remove(r)
			for _, a := range r.addrs() {
				delete(taken, a)
			}
		}
		if m.isFree(p, taken, everywhere) {
			preferred[i] = p
			m.moveCursor(after.Cursor, p)
			for _, a := range AddrsOf(p) {
				taken[a] = &Record{}
			}
		}
	}
	if len(preferred) == 0 {
		return nil
	}
	got, err := after.take(wants, preferred, seen)
	if err != nil {
		return nil
	}
	*m = *after
	return got
}

// moveCursor moves that of a family behind what was granted.
func (m *Pool) moveCursor(cursor map[pool.Family]netip.Addr, granted netip.Prefix) {
	if m.Spec.Strategy == pool.NextFree {
		cursor[pool.FamilyOf(granted.Addr())] = netipx.PrefixLastIP(granted).Next()
	}
}

func all(p netip.Prefix, allowed func(netip.Addr) bool) bool {
	return !slices.ContainsFunc(AddrsOf(p), func(a netip.Addr) bool { return !allowed(a) })
}

func choice(w pool.Request) int {
	switch {
	case w.Exact.IsValid():
		return 0
	case w.Within != nil || w.Band != "":
		return 1
	}
	return 2
}

func length(w pool.Request) int {
	if w.Exact.IsValid() {
		return 0 // these stay in the order of the claim
	}
	return w.Bits
}

func everywhere(netip.Addr) bool { return true }

// tiers are the parts of the pool that a request tries, one after the other.
func (m *Pool) tiers(w pool.Request) []func(netip.Addr) bool {
	var bands, exclusive []netipx.IPRange
	for _, b := range m.Spec.Bands {
		bands = append(bands, b.Ranges...)
		if b.Exclusive {
			exclusive = append(exclusive, b.Ranges...)
		}
	}
	return []func(netip.Addr) bool{
		func(a netip.Addr) bool { return w.Band != "" && inAny(m.band(w.Band).Ranges, a) },
		func(a netip.Addr) bool { return !inAny(bands, a) },
		func(a netip.Addr) bool { return !inAny(exclusive, a) },
	}
}

func (m *Pool) band(name string) *pool.Band {
	for _, b := range m.Spec.Bands {
		if b.Name == name {
			return &b
		}
	}
	return nil
}

// free lists the prefixes that would do for a want in a part of the pool, the lowest first.
func (m *Pool) free(w pool.Request, taken map[netip.Addr]*Record, tier func(netip.Addr) bool) []netip.Prefix {
	if w.Exact.IsValid() && m.isFree(w.Exact, taken, tier) {
		return []netip.Prefix{w.Exact}
	}
	if w.Exact.IsValid() || w.Bits < m.Universe[w.Family].Bits() {
		return nil
	}
	var free []netip.Prefix
	for _, a := range AddrsOf(m.Universe[w.Family]) {
		p := netip.PrefixFrom(a, w.Bits)
		if p == p.Masked() && (w.Within == nil || w.Within.ContainsPrefix(p)) && m.isFree(p, taken, tier) {
			free = append(free, p)
		}
	}
	return free
}

// largest is the lowest of the largest free blocks for a want, of which there is one, in a part of the pool.
func (m *Pool) largest(w pool.Request, taken map[netip.Addr]*Record, tier func(netip.Addr) bool) netip.Prefix {
	for w.Bits = m.Universe[w.Family].Bits(); ; w.Bits++ {
		if blocks := m.free(w, taken, tier); len(blocks) > 0 {
			return blocks[0]
		}
	}
}

// hasBands reports whether any band has addresses of the family.
func (m *Pool) hasBands(f pool.Family) bool {
	return slices.ContainsFunc(m.Spec.Bands, func(b pool.Band) bool {
		return slices.ContainsFunc(b.Ranges, func(r netipx.IPRange) bool { return pool.FamilyOf(r.From()) == f })
	})
}

// smallest is the lowest of the smallest free blocks that have room for a want, of which there is one. They are no
// parts of larger ones.
func (m *Pool) smallest(w pool.Request, taken map[netip.Addr]*Record) netip.Prefix {
	for ; ; w.Bits-- {
		larger := w
		larger.Bits--
		halves := m.free(larger, taken, everywhere)
		for _, p := range m.free(w, taken, everywhere) {
			if !slices.Contains(halves, netip.PrefixFrom(p.Addr(), larger.Bits).Masked()) {
				return p
			}
		}
	}
}

func (m *Pool) isFree(p netip.Prefix, taken map[netip.Addr]*Record, tier func(netip.Addr) bool) bool {
	return !slices.ContainsFunc(AddrsOf(p), func(a netip.Addr) bool {
		return !m.Allowed[a] || taken[a] != nil || !tier(a)
	})
}
