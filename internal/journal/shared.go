package journal

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
)

// network returns the network of a place; of one without a network, the outermost place itself.
func (h *history) network(place string) string {
	for range len(h.parents) + 1 {
		if name := h.end.Places[place].Network; name != "" {
			return "network " + name
		}
		parent, delegated := h.parents[place]
		if !delegated {
			break
		}
		place = parent
	}
	return "place " + place
}

// below reports whether the place is made of what the other one grants, however far down, or is the other one.
func (h *history) below(place, other string) bool {
	for range len(h.parents) + 1 {
		if place == other {
			return true
		}
		parent, delegated := h.parents[place]
		if !delegated {
			return false
		}
		place = parent
	}
	return false
}

// mayShare reports whether two holdings may have an address in common: they are of one owner in one place, or in
// different networks, or one delegates it to where the other is.
func (h *history) mayShare(a, b Holding) bool {
	return a.Place == b.Place && a.Owner == b.Owner || h.network(a.Place) != h.network(b.Place) ||
		a.Child != "" && h.below(b.Place, a.Child) || b.Child != "" && h.below(a.Place, b.Child)
}

// checkShared looks for addresses of which two answers held for sure at one time.
func (h *history) checkShared() {
	byAddr := map[netip.Addr][]span{}
	for _, s := range h.slots {
		for _, a := range s.answers() {
			for _, p := range a.holding.Prefixes {
				for addr := p.Masked().Addr(); p.Contains(addr); addr = addr.Next() {
					byAddr[addr] = append(byAddr[addr], a)
				}
			}
		}
	}
	type pair struct{ a, b grant }
	reported := map[pair]bool{}
	for _, addr := range slices.SortedFunc(maps.Keys(byAddr), netip.Addr.Compare) {
		spans := byAddr[addr]
		slices.SortFunc(spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
		var open []span
		for _, b := range spans {
			open = slices.DeleteFunc(open, func(a span) bool { return a.to <= b.from })
			for _, a := range open {
				key := pair{grantOf(a), grantOf(b)}
				if reported[key] || h.mayShare(a.holding, b.holding) {
					continue
				}
				reported[key], reported[pair{key.b, key.a}] = true, true
				witnesses := append([]*call{a.call, b.call}, h.suspects(a, b)...)
				h.report(Shared, witnesses, "%v, and %v", a.holding, b.holding)
			}
			open = append(open, b)
		}
	}
}

// grant tells one grant from another.
type grant struct {
	slotKey
	generation int64
}

func grantOf(a span) grant { return grant{a.slot.slotKey, a.holding.Generation} }

// suspects are calls that failed and may have freed the first of two grants before the second was made: at most one
// is returned.
func (h *history) suspects(a, b span) []*call {
	for _, c := range slices.Backward(a.slot.calls) {
		if c.Op == Free && c.failed() && c.Begin < b.from && c.Return > a.call.Begin {
			return []*call{c}
		}
	}
	return nil
}
