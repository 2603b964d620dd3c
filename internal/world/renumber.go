package world

import (
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// A pool that moves to another prefix. Records have the old prefixes until it is finished, and then the new ones.

// Renumber is what [pool.Pool.Renumber] does: the world after it, who is in the way, and why it is refused.
func (w *World) Renumber(
	name string, from, to netip.Prefix,
) (after *World, stranded map[string][]string, no Refusals) {
	m, n := w.Pools[name].clone(), pool.Renumbering{From: from, To: to}
	if m.Moving == n {
		return w, nil, nil
	}
	if _, err := m.Spec.Renumbered(from, to); err != nil || m.IsChild() {
		no = append(no, pool.ErrInvalid)
	}
	if m.Moving != (pool.Renumbering{}) || slices.ContainsFunc(m.Records, (*Record).delegated) {
		no = append(no, pool.ErrInUse)
	}
	if len(no) > 0 {
		return nil, nil, no
	}
	m.Moving = n
	m.settle(w.Now)
	after = w.with(m)
	after.resolve(name)
	stranded = w.Stranded(after, []string{name})
	for _, r := range m.Records {
		if after.Pools[name].isInTheWay(r) && !slices.Contains(stranded[name], r.Owner) {
			stranded[name] = append(stranded[name], r.Owner)
		}
	}
	if len(stranded[name]) > 0 {
		no = append(no, pool.ErrOutOfRange)
	}
	if after.Overlaps(name) {
		no = append(no, pool.ErrOverlap)
	}
	if !after.Pools[name].HasRoom() {
		no = append(no, pool.ErrInvalid)
	}
	return after, stranded, no
}

// isInTheWay reports whether a record keeps the pool from being renumbered: it is where the pool is to move, or does
// not move as a whole to what the pool may hand out.
func (m *Pool) isInTheWay(r *Record) bool {
	return slices.ContainsFunc(r.Prefixes, func(p netip.Prefix) bool {
		_, moves := m.Moving.New(p)
		return p.Overlaps(image(m.Moving)) || p.Overlaps(m.Moving.From) && (!moves || !m.allows(AddrsOf(p)))
	})
}

// GiveUp is what [pool.Pool.FinishRenumber] does first: all that moves is in the new prefix only. With cancel it is
// what [pool.Pool.CancelRenumber] does first, and all stays where it was.
func (w *World) GiveUp(name string, cancel bool) *World {
	m := w.Pools[name].clone()
	n := m.Moving
	if n == (pool.Renumbering{}) || n.Finishing {
		return w
	}
	m.Moving = pool.Renumbering{From: n.From, To: n.To, Finishing: true}
	if cancel {
		m.Moving = pool.Renumbering{From: image(n), To: n.From, Finishing: true, Cancelled: true}
	} else {
		m.Spec, _ = m.Spec.Renumbered(n.From, n.To)
	}
	m.settle(w.Now)
	after := w.with(m)
	after.resolve(name)
	return after
}

// FinishRenumber is what [pool.Pool.FinishRenumber] does.
func (w *World) FinishRenumber(name string) *World { return w.GiveUp(name, false).settled(name) }

// CancelRenumber is what [pool.Pool.CancelRenumber] does, and why it is refused.
func (w *World) CancelRenumber(name string) (after *World, no Refusals) {
	if n := w.Pools[name].Moving; n.Finishing && !n.Cancelled {
		return nil, Refusals{pool.ErrInUse}
	}
	return w.GiveUp(name, true).settled(name), nil
}

// settled is the world in which a pool is not being renumbered any more.
func (w *World) settled(name string) *World {
	m := w.Pools[name].clone()
	m.Moving = pool.Renumbering{}
	after := w.with(m)
	after.resolve(name)
	return after
}

// settle gives all records what they are to have.
func (m *Pool) settle(now time.Time) {
	for i, r := range m.Records {
		settled := *r
		if m.Moving.Finishing {
			settled.Prefixes = m.newOf(r.Prefixes)
		}
		settled.Beside = m.beside(&settled)
		if !r.Cooling && !slices.Equal(settled.sides(), r.sides()) {
			settled.Since = r.next(now)
		}
		m.Records[i] = &settled
	}
}

// sides are the prefixes of a record, and what is beside them.
func (r *Record) sides() []netip.Prefix { return slices.Concat(r.Prefixes, r.Beside) }

// next is when a record is renumbered at a time: after it has been as it was for a microsecond at least.
func (r *Record) next(now time.Time) time.Time {
	if earliest := r.began().Add(time.Microsecond); now.Before(earliest) {
		return earliest
	}
	return now.Truncate(time.Microsecond)
}

// began is since when the owner has what the record says.
func (r *Record) began() time.Time {
	if r.Since.IsZero() {
		return r.Created
	}
	return r.Since
}

// beside are the new prefixes of what is held, for as long as the old ones are held too.
func (m *Pool) beside(r *Record) (beside []netip.Prefix) {
	if r.Cooling || m.Moving.Finishing {
		return nil
	}
	for _, p := range r.Prefixes {
		if moved, ok := m.Moving.New(p); ok {
			beside = append(beside, moved)
		}
	}
	return beside
}

// newOf are the prefixes after the renumbering.
func (m *Pool) newOf(prefixes []netip.Prefix) []netip.Prefix {
	moved := slices.Clone(prefixes)
	for i, p := range prefixes {
		if to, ok := m.Moving.New(p); ok {
			moved[i] = to
		}
	}
	return moved
}

// bothSides are the prefixes, and what comes beside them.
func (m *Pool) bothSides(prefixes []netip.Prefix) []netip.Prefix {
	both := slices.Clone(prefixes)
	for _, p := range prefixes {
		if to, ok := m.Moving.New(p); ok {
			both = append(both, to)
		}
	}
	return both
}

// tracked is the old address of one that has come beside it.
func (m *Pool) tracked(a netip.Addr) netip.Addr {
	if a.IsValid() && !m.Moving.Finishing {
		if old, ok := m.Moving.Old(netip.PrefixFrom(a.WithZone(""), a.BitLen())); ok {
			return old.Addr()
		}
	}
	return a
}

// own reports whether the pool's own spec has an address to hand out.
func (m *Pool) own(f pool.Family, a netip.Addr) bool {
	return inAny(Ranges(m.Spec), a) && !inAny(m.Spec.Exclude, a) && !m.withheld(f, a)
}

// mayMove reports whether a renumbering leaves an address to be handed out: none that is given up, and of those that
// move only those that may be handed out where they come.
func (w *World) mayMove(m *Pool, f pool.Family, a netip.Addr) bool {
	n := m.Moving
	if !n.From.IsValid() || !n.From.Contains(a) || n.Finishing {
		return !n.Finishing || !n.From.Contains(a)
	}
	to, _ := n.New(netip.PrefixFrom(a, a.BitLen()))
	there := m.clone()
	there.Spec, _ = m.Spec.Renumbered(n.From, n.To)
	return there.own(f, to.Addr()) && !w.isExternal(m, to.Addr())
}

// canMove reports whether a pool that is being renumbered still can be, by its spec.
func (m *Pool) canMove() bool {
	if m.Moving == (pool.Renumbering{}) || m.Moving.Finishing {
		return true
	}
	_, err := m.Spec.Renumbered(m.Moving.From, m.Moving.To)
	return err == nil
}

// image is the part of the new prefix that the old one becomes.
func image(n pool.Renumbering) netip.Prefix {
	if !n.From.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(n.To.Addr(), n.From.Bits())
}

// allRanges are those of the pool, and what belongs to them on the other side of a renumbering.
func (m *Pool) allRanges() []netipx.IPRange {
	ranges, n := slices.Clone(Ranges(m.Spec)), m.Moving
	if n.Finishing {
		n.From, n.To = image(n), n.From
	}
	if !n.From.IsValid() {
		return ranges
	}
	moving := cidr.Intersection(cidr.SetOf(ranges...), cidr.SetOf(netipx.RangeOfPrefix(n.From)))
	for _, p := range moving.Prefixes() {
		if to, ok := n.New(p); ok {
			ranges = append(ranges, netipx.RangeOfPrefix(to))
		}
	}
	return ranges
}

// movable is what a renumbering leaves of what a pool of any size may hand out; see [World.mayMove].
func (w *World) movable(m *Pool, f pool.Family, allowed *netipx.IPSet) *netipx.IPSet {
	n := m.Moving
	if !n.From.IsValid() || pool.FamilyOf(n.From.Addr()) != f {
		return allowed
	}
	rest := cidr.Difference(allowed, cidr.SetOf(netipx.RangeOfPrefix(n.From)))
	spec, err := m.Spec.Renumbered(n.From, n.To)
	if n.Finishing || err != nil {
		return rest
	}
	there := cidr.Difference(spec.Set(f), cidr.SetOf(w.External[m.Spec.Network]...))
	var pairs []netipx.IPRange
	for _, p := range cidr.Intersection(there, cidr.SetOf(netipx.RangeOfPrefix(image(n)))).Prefixes() {
		old, _ := n.Old(p)
		pairs = append(pairs, netipx.RangeOfPrefix(old))
	}
	both := cidr.Intersection(allowed, cidr.SetOf(pairs...))
	return cidr.SetOf(slices.Concat(rest.Ranges(), both.Ranges())...)
}
