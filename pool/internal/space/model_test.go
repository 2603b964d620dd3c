package space_test

import (
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// model is a space as slow and plain as can be: the addresses that may be handed out, and a list of what is held. All
// else follows from these.
type model struct {
	allowed map[netip.Addr]bool
	held    []held
	records [5]int
	owned   map[space.Whose][2]uint64
	cursors map[space.Family]netip.Addr
}

// held is one prefix that is held or cools down. It may be out of range, in part too.
type held struct {
	prefix netip.Prefix
	use    space.Use
}

// clone returns a copy that changes by itself. What may be handed out never changes.
func (m *model) clone() *model {
	return &model{m.allowed, slices.Clone(m.held), m.records, maps.Clone(m.owned), maps.Clone(m.cursors)}
}

// addrs are the addresses of a small range.
func addrs(r netipx.IPRange) []netip.Addr {
	var all []netip.Addr
	for a := r.From(); r.Contains(a); a = a.Next() {
		all = append(all, a)
	}
	return all
}

func addrsOf(p netip.Prefix) []netip.Addr { return addrs(netipx.RangeOfPrefix(p)) }

// taken are the addresses that are held, out of range or not.
func (m *model) taken() map[netip.Addr]bool {
	taken := map[netip.Addr]bool{}
	for _, h := range m.held {
		for _, a := range addrsOf(h.prefix) {
			taken[a] = true
		}
	}
	return taken
}

// of returns the addresses of a family that may be handed out, in order: those that are taken, or those that are free.
func (m *model) of(f space.Family, taken bool) []netip.Addr {
	var out []netip.Addr
	all := m.taken()
	for a := range m.allowed {
		if space.FamilyOf(a) == f && all[a] == taken {
			out = append(out, a)
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// count counts the addresses of a family that are taken, by use, and those of them that are out of range.
func (m *model) count(f space.Family) (uses [3]uint64, outOfRange uint64) {
	for _, h := range m.held {
		for _, a := range addrsOf(h.prefix) {
			switch {
			case space.FamilyOf(a) != f:
			case !m.allowed[a]:
				outOfRange++
			default:
				uses[h.use]++
			}
		}
	}
	return uses, outOfRange
}

// counts are what Space.Counts is to return, where reserved addresses of each family are never handed out.
func (m *model) counts(families []space.Family, reserved uint64) []space.Counts {
	var out []space.Counts
	for _, f := range families {
		uses, outOfRange := m.count(f)
		used, cooling, kept := uses[space.Held], uses[space.Cooling], uses[space.Kept]
		free := uint64(len(m.of(f, false)))
		out = append(out, space.Counts{
			Family: f, Total: cidr.CountOf(used + cooling + kept + free + reserved), Reserved: cidr.CountOf(reserved),
			Used: cidr.CountOf(used), Cooling: cidr.CountOf(cooling), Kept: cidr.CountOf(kept),
			Free: cidr.CountOf(free), OutOfRange: cidr.CountOf(outOfRange),
		})
	}
	for _, f := range []space.Family{space.V4, space.V6} {
		if _, outOfRange := m.count(f); outOfRange > 0 && !slices.Contains(families, f) {
			out = append(out, space.Counts{Family: f, OutOfRange: cidr.CountOf(outOfRange)})
		}
	}
	return out
}

// candidates are all free prefixes that the tier has for the want, in order.
func (m *model) candidates(w *space.Want, tier *space.Part) []netip.Prefix {
	var out []netip.Prefix
	free := m.of(w.Family, false)
	isFree := func(a netip.Addr) bool { return slices.Contains(free, a) }
	for _, a := range free {
		p := netip.PrefixFrom(a, w.Bits)
		if !p.IsValid() || p != p.Masked() || cidr.PrefixSize(p).Uint64() > uint64(len(free)) {
			continue
		}
		inTier := tier == nil || slices.ContainsFunc(tier.Ranges(), func(r netipx.IPRange) bool {
			return r.Contains(p.Addr()) && r.Contains(netipx.PrefixLastIP(p))
		})
		if inTier && !slices.ContainsFunc(addrsOf(p), func(a netip.Addr) bool { return !isFree(a) }) {
			out = append(out, p)
		}
	}
	return out
}

// choices are the prefixes that a want may get, by the strategy; none if it gets an error.
func (m *model) choices(w *space.Want, strategy space.Strategy) []netip.Prefix {
	if w.Exact.IsValid() {
		exact := space.Want{Family: w.Family, Bits: w.Exact.Bits()}
		if slices.Contains(m.candidates(&exact, nil), w.Exact) {
			return []netip.Prefix{w.Exact}
		}
		return nil
	}
	tiers := w.Tiers
	if tiers == nil {
		tiers = []*space.Part{nil}
	}
	for _, tier := range tiers {
		switch all := m.candidates(w, tier); {
		case len(all) == 0:
		case strategy == space.Spread:
			return []netip.Prefix{netip.PrefixFrom(m.largest(w, tier).Addr(), w.Bits)}
		case strategy == space.Best && tier == nil:
			return []netip.Prefix{netip.PrefixFrom(m.smallest(w).Addr(), w.Bits)}
		default:
			return m.pick(all, w.Family, strategy)
		}
	}
	return nil
}

// largest is the lowest of the largest free blocks that the tier has for the want.
func (m *model) largest(w *space.Want, tier *space.Part) netip.Prefix {
	for bits := range w.Bits + 1 {
		if all := m.candidates(&space.Want{Family: w.Family, Bits: bits}, tier); len(all) > 0 {
			return all[0]
		}
	}
	return netip.Prefix{}
}

// smallest is the lowest of the smallest free blocks that have room for the want, and are no part of larger ones.
func (m *model) smallest(w *space.Want) netip.Prefix {
	for bits := w.Bits; ; bits-- {
		larger := m.candidates(&space.Want{Family: w.Family, Bits: bits - 1}, nil)
		for _, p := range m.candidates(&space.Want{Family: w.Family, Bits: bits}, nil) {
			if !slices.Contains(larger, netip.PrefixFrom(p.Addr(), bits-1).Masked()) {
				return p
			}
		}
	}
}

func (m *model) pick(all []netip.Prefix, f space.Family, strategy space.Strategy) []netip.Prefix {
	cursor := m.cursors[f]
	switch {
	case strategy == space.Random:
		return all
	case strategy == space.Highest:
		return all[len(all)-1:]
	case strategy == space.Next && cursor.IsValid():
		for _, p := range all {
			if !p.Addr().Less(cursor) {
				return []netip.Prefix{p}
			}
		}
	}
	return all[:1]
}

// take notes that p was given for the want.
func (m *model) take(w *space.Want, p netip.Prefix, strategy space.Strategy) {
	m.held = append(m.held, held{prefix: p})
	if strategy == space.Next {
		m.cursors[w.Family] = netipx.PrefixLastIP(p).Next()
	}
}
