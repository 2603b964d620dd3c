package pool_test

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// refusals are the errors of which a call may return any; none means that it succeeds.
type refusals []error

// with is the pool with another spec, and whom that strands who holds something at the time now.
func (m *model) with(spec pool.Spec, now time.Time) (after *model, stranded []string) {
	after = m.clone()
	after.spec = spec
	after.resolve()
	for f := range m.universe {
		if !slices.Contains(after.families(), f) {
			delete(after.cursor, f)
		}
	}
	for _, r := range m.records {
		out := slices.ContainsFunc(r.addrs(), func(a netip.Addr) bool { return m.allowed[a] && !after.allowed[a] })
		if out && !r.cooling && !r.Expired(now) {
			stranded = append(stranded, r.Owner)
		}
	}
	slices.Sort(stranded)
	return after, stranded
}

// hasRoom tells whether each family has something to hand out.
func (m *model) hasRoom() bool {
	return !slices.ContainsFunc(m.families(), func(f pool.Family) bool { return !m.someInPool(addrsOf(m.universe[f])) })
}

// update is what Update and Drain do with a spec that is valid.
func (m *model) update(spec pool.Spec, drain bool) (after *model, stranded []string, no refusals) {
	after, stranded = m.with(spec, m.world.now)
	switch {
	case m.parent != (parentRef{}):
		block := m.world.pools[m.parent.Pool].live(m.parent.Owner)
		if spec.Network != m.spec.Network || slices.ContainsFunc(after.addrs(), func(a netip.Addr) bool { return !inAny(rangesOf(block.Prefixes), a) }) {
			no = append(no, pool.ErrInvalid)
		}
	case spec.Network != m.spec.Network && slices.ContainsFunc(m.records, func(r *record) bool { return r.Child != "" }):
		no = append(no, pool.ErrInUse)
	}
	if after.overlaps() {
		no = append(no, pool.ErrOverlap)
	}
	if !after.hasRoom() {
		no = append(no, pool.ErrInvalid)
	}
	if len(stranded) > 0 && !drain {
		no = append(no, pool.ErrStranded)
	}
	return after, stranded, no
}

// addrs are those in the ranges.
func (m *model) addrs() []netip.Addr {
	var all []netip.Addr
	for _, f := range m.families() {
		all = append(all, slices.DeleteFunc(addrsOf(m.universe[f]), func(a netip.Addr) bool { return !inAny(m.spec.Ranges, a) })...)
	}
	return all
}

func rangesOf(prefixes []netip.Prefix) []netipx.IPRange {
	var ranges []netipx.IPRange
	for _, p := range prefixes {
		ranges = append(ranges, netipx.RangeOfPrefix(p))
	}
	return ranges
}

// overlaps tells whether a pool that was not carved has an address of another such one in its network.
func (m *model) overlaps() bool {
	for name, other := range m.world.pools {
		if m.spec.Network == "" || other.spec.Network != m.spec.Network || name == m.name || other.parent != m.parent || m.parent != (parentRef{}) {
			continue
		}
		if slices.ContainsFunc(m.addrs(), func(a netip.Addr) bool { return inAny(other.spec.Ranges, a) }) {
			return true
		}
	}
	return false
}

// create is what Create does with a spec that is valid.
func (w *world) create(m *model) (no refusals) {
	if w.pools[m.name] != nil {
		no = append(no, pool.ErrExists)
	}
	m.world = w
	m.resolve()
	if m.overlaps() {
		no = append(no, pool.ErrOverlap)
	}
	if !m.hasRoom() {
		no = append(no, pool.ErrInvalid)
	}
	return no
}

// declare is what SetForeign does: the pools after it. It goes by the real time, which is long before the machine's.
func (w *world) declare(network string, foreign []netipx.IPRange, drain bool) (after map[string]*model, stranded map[string][]string, no refusals) {
	before := w.foreign[network]
	defer func() { w.foreign[network] = before }()
	w.foreign[network] = foreign
	after, stranded = map[string]*model{}, map[string][]string{}
	for name, m := range w.pools {
		if m.spec.Network != network {
			continue
		}
		after[name], stranded[name] = m.with(m.spec, time.Now())
		if !after[name].hasRoom() {
			no = append(no, pool.ErrInvalid)
		}
		if len(stranded[name]) > 0 && !drain {
			no = append(no, pool.ErrStranded)
		}
	}
	return after, stranded, no
}

// childOf returns the pool that was carved out of what r holds; nil if that is none.
func (m *model) childOf(r *record) *model {
	if child := m.world.pools[r.Child]; child != nil && child.parent == (parentRef{Pool: m.name, Owner: r.Owner}) {
		return child
	}
	return nil
}

// copyTo is the pool as Import makes it. Generations are not known.
func (m *model) copyTo(w *world, name string) *model {
	imported := &model{world: w, name: name, spec: m.spec, universe: m.universe, cursor: m.clone().cursor}
	imported.resolve()
	for _, r := range m.records {
		again := *r
		again.Generation, again.missing = 0, time.Time{}
		// What the owner released last, or what it holds, is what it has; the rest is aside.
		again.aside = r.cooling && slices.ContainsFunc(m.records, func(other *record) bool {
			return other.Owner == r.Owner && other != r &&
				(!other.cooling || cmp.Or(cmp.Compare(other.Generation, r.Generation), other.Expires.Compare(r.Expires)) > 0)
		})
		imported.records = append(imported.records, &again)
	}
	return imported
}

// byAddr is the order of a snapshot.
func byAddr(a, b pool.Allocation) int {
	return cmp.Or(slices.CompareFunc(a.Addrs(), b.Addrs(), netip.Addr.Compare), strings.Compare(a.Owner, b.Owner))
}
