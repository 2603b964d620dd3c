package journal

import (
	"net/netip"
	"slices"
)

// checkEnd looks at what was found in the end by itself: whether anything is held twice, and whether pools and what
// was delegated to them belong together.
func (h *history) checkEnd() {
	var all []Found
	for _, p := range h.end.Pools {
		all = append(all, p.Held...)
	}
	for i, a := range all {
		for _, b := range all[:i] {
			if overlap(a.Prefixes, b.Prefixes) && !h.mayShare(a.Holding, b.Holding) {
				h.report(Shared, nil, "in the end, %v, and %v", b.Holding, a.Holding)
			}
			if a.Place == b.Place && a.Owner == b.Owner {
				h.report(Changed, nil, "it holds in the end %v, and %v", b.Holding, a.Holding)
			}
		}
	}
	h.checkDelegated(all)
}

func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool {
		return slices.ContainsFunc(b, p.Overlaps)
	})
}

// checkDelegated looks whether each pool that was delegated has a delegation, which has all that is held in the pool,
// and each delegation a pool.
func (h *history) checkDelegated(all []Found) {
	for _, p := range h.end.Pools {
		var granted []netip.Prefix
		for _, f := range all {
			if f.Delegates == p.Name {
				granted = append(granted, f.Prefixes...)
			}
		}
		if !p.Delegated {
			continue
		}
		if granted == nil {
			h.report(Partial, nil, "the pool %q is there in the end, but nothing is delegated to it", p.Name)
			continue
		}
		set := setOf(granted)
		for _, f := range p.Held {
			if !covers(set, f.Prefixes) {
				h.report(Outside, nil, "in the end, %v, and what is delegated to %q is %v", f.Holding, p.Name, granted)
			}
		}
	}
	for _, f := range all {
		if f.Delegates != "" && !slices.ContainsFunc(h.end.Pools, func(p Pool) bool { return p.Name == f.Delegates }) {
			h.report(Partial, nil, "in the end, %v is delegated to %q, which is not there", f.Holding, f.Delegates)
		}
	}
}
