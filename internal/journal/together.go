package journal

import (
	"fmt"
	"maps"
	"slices"
)

// checkTogether looks at the owners of which all calls are about the same parts: they hold something in each part, or
// in none, and in one place of each.
func (h *history) checkTogether() {
	owners := map[string][]*call{}
	for _, c := range h.calls {
		if c.Op != Respec {
			owners[c.Owner] = append(owners[c.Owner], c)
		}
	}
	for _, owner := range slices.Sorted(maps.Keys(owners)) {
		calls := owners[owner]
		parts := fmt.Sprint(calls[0].Parts)
		others := slices.ContainsFunc(calls, func(c *call) bool { return fmt.Sprint(c.Parts) != parts })
		if len(calls[0].Parts) > 1 && !others {
			h.checkWhole(owner, calls)
		}
	}
}

func (h *history) checkWhole(owner string, calls []*call) {
	parts := calls[0].Parts
	for _, c := range calls { // what was found, or freed, was so at one moment
		n := c.met()
		if c.Op == Free && c.Outcome == Done && n > 0 && n < len(parts) && !freedByAnother(c, calls) {
			h.report(Partial, []*call{c}, "%d of %d parts", n, len(parts))
		}
	}
	var held []Found
	met := 0
	for _, part := range parts {
		var here []Found
		for _, place := range part {
			here = append(here, h.found[slotKey{place, owner}]...)
		}
		if len(here) > 1 {
			h.report(Changed, nil, "%v, and %v: of alternatives it holds two in the end",
				here[0].Holding, here[1].Holding)
		}
		if len(here) > 0 {
			met++
		}
		held = append(held, here...)
	}
	if met == 0 || met == len(parts) {
		return
	}
	h.report(Partial, h.unsure(calls), "%q holds in the end %d of %d parts: %v", owner, met, len(parts), holdings(held))
}

// freedByAnother reports whether another release says too that it freed something that c says it did. One of which the
// answer was lost on the way from the store may say so of what it had planned to free, part by part, see slot.fences.
func freedByAnother(c *call, calls []*call) bool {
	return slices.ContainsFunc(calls, func(other *call) bool {
		return other != c && other.Op == Free && other.Outcome == Done &&
			slices.ContainsFunc(other.Held, func(theirs Holding) bool {
				mine := c.in(slotKey{theirs.Place, theirs.Owner})
				return mine != nil && mine.Generation == theirs.Generation
			})
	})
}

// met returns of how many parts the call has an answer.
func (c *call) met() int {
	n := 0
	for _, part := range c.Parts {
		if slices.ContainsFunc(part, func(place string) bool { return c.in(slotKey{place, c.Owner}) != nil }) {
			n++
		}
	}
	return n
}

// unsure returns the last of the calls of which one is in effect in part: those that came after the last one that was
// done.
func (h *history) unsure(calls []*call) []*call {
	const most = 4
	done := 0
	for i, c := range calls {
		if c.Outcome == Done {
			done = i
		}
	}
	return calls[max(done, len(calls)-most):]
}

func holdings(found []Found) []Holding {
	var all []Holding
	for _, f := range found {
		all = append(all, f.Holding)
	}
	return all
}
