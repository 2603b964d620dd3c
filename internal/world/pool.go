package world

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

// Pool is one of the pools of a world. It is replaced, and never changed once it is in a world.
type Pool struct {
	Name   string
	Spec   pool.Spec
	Parent string   // the pool that this one was delegated from; empty if it was not
	Grants []string // the owners in the parent of what this one was delegated from
	Writer string   // the parent and the writer of whose blocks it is, if it is; see [Blocks]
	// Universe are the addresses of each family that the model looks at.
	Universe map[pool.Family]netip.Prefix
	Allowed  map[netip.Addr]bool // what the pool may hand out
	Records  []*Record
	Cursor   map[pool.Family]netip.Addr // where NextFree looks first
	Moving   pool.Renumbering           // zero unless the pool is being renumbered

	had []pool.Family // instead of those of the spec, if not nil
}

// Record is what an owner holds, or has held and is withheld. It is replaced, and never changed, but for a Generation
// that is not known yet.
type Record struct {
	pool.Allocation           // Generation is 0 as long as it is not known
	Cooling         bool      // it was released
	Aside           bool      // it cools down, and its owner has claimed something else since
	Missing         time.Time // since when it is missing to Reconcile
	Since           time.Time // since when it has its prefixes, if it was renumbered after the grant
}

// NewPool returns an empty pool by itself, in a world of its own.
func NewPool(name string, universe map[pool.Family]netip.Prefix, spec pool.Spec) *Pool {
	m := &Pool{Name: name, Spec: spec, Universe: universe, Cursor: map[pool.Family]netip.Addr{}}
	alone := (&World{}).with(m)
	alone.resolve(name)
	return alone.Pools[name]
}

// GoString is how a failed property shows it.
func (m *Pool) GoString() string {
	text, err := json.Marshal(m.Spec)
	return fmt.Sprintf("%s %v", text, err)
}

func (m *Pool) clone() *Pool {
	after := *m
	after.Grants, after.Records, after.Cursor = slices.Clone(m.Grants), slices.Clone(m.Records), maps.Clone(m.Cursor)
	return &after
}

// IsChild reports whether the pool was delegated from another.
func (m *Pool) IsChild() bool { return m.Parent != "" }

// Ranges are those of a spec, or if there are none all of its subnets.
func Ranges(spec pool.Spec) []netipx.IPRange {
	if len(spec.Ranges) > 0 {
		return spec.Ranges
	}
	var ranges []netipx.IPRange
	for _, s := range spec.Subnets {
		ranges = append(ranges, netipx.RangeOfPrefix(s.Prefix))
	}
	return ranges
}

// Families are those of the pool, the primary one first.
func (m *Pool) Families() []pool.Family {
	if m.had != nil {
		return m.had
	}
	if len(m.Spec.Families) > 0 {
		return slices.Clone(m.Spec.Families)
	}
	var families []pool.Family
	for _, r := range Ranges(m.Spec) {
		if f := pool.FamilyOf(r.From()); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}

// lengths are what the spec says of a family.
func (m *Pool) lengths(f pool.Family) pool.FamilySpec {
	if f == pool.IPv4 {
		return m.Spec.IPv4
	}
	return m.Spec.IPv6
}

func (m *Pool) bits(f pool.Family) int { return cmp.Or(m.lengths(f).Bits, f.Width()) }

// grants reports whether claims may ask for the length.
func (m *Pool) grants(f pool.Family, bits int) bool {
	return bits >= m.lengths(f).MinBits && bits <= cmp.Or(m.lengths(f).MaxBits, f.Width())
}

// withheld reports whether a is a gateway or reserved.
func (m *Pool) withheld(f pool.Family, a netip.Addr) bool {
	var subnets []netip.Prefix
	for _, s := range m.Spec.Subnets {
		if s.Prefix.Addr().BitLen() != f.Width() {
			continue
		}
		if s.Gateway == a {
			return true
		}
		subnets = append(subnets, s.Prefix)
	}
	if subnets == nil {
		subnets = m.wholeRanges(f)
	}
	if m.lengths(f).AllocateReserved || m.bits(f) != f.Width() {
		return false
	}
	for _, p := range subnets {
		if p.Bits() < f.Width()-1 && (a == p.Addr() || f == pool.IPv4 && a == netipx.PrefixLastIP(p)) {
			return true
		}
	}
	return false
}

// wholeRanges are the ranges that are exactly a prefix, and no part of another range.
func (m *Pool) wholeRanges(f pool.Family) (subnets []netip.Prefix) {
	for _, r := range m.Spec.Ranges {
		part := slices.ContainsFunc(m.Spec.Ranges, func(other netipx.IPRange) bool {
			return other != r && other.Contains(r.From()) && other.Contains(r.To())
		})
		if p, ok := r.Prefix(); ok && r.From().BitLen() == f.Width() && !part {
			subnets = append(subnets, p)
		}
	}
	return subnets
}

// add puts a record in the place of another one, if that is not nil.
func (m *Pool) add(r, old *Record) *Record {
	m.remove(old)
	r.Beside = m.beside(r)
	m.Records = append(m.Records, r)
	return r
}

func (m *Pool) remove(r *Record) {
	m.Records = slices.DeleteFunc(m.Records, func(other *Record) bool { return other == r })
}

// Find returns what the owner holds or has held last; nil if that is nothing.
func (m *Pool) Find(owner string) *Record {
	for _, r := range m.Records {
		if r.Owner == owner && !r.Aside {
			return r
		}
	}
	return nil
}

// sharing are the records of the owners that hold something together by a share key.
func (m *Pool) sharing(scope, key string) (sharers []*Record) {
	for _, r := range m.Records {
		if key != "" && r.Scope == scope && r.Share == key {
			sharers = append(sharers, r)
		}
	}
	return sharers
}

// Holders is what [pool.Pool.Holders] returns, in the order of the owners.
func (m *Pool) Holders(a netip.Addr) (holders []pool.Allocation) {
	for _, r := range m.Records {
		if !r.Cooling && slices.Contains(addrsOfAll(r.sides()), a) {
			holders = append(holders, r.Allocation)
		}
	}
	slices.SortFunc(holders, ByAddr)
	return holders
}

// Live returns what the owner holds; nil if that is nothing.
func (m *Pool) Live(owner string) *Record {
	if r := m.Find(owner); r != nil && !r.Cooling {
		return r
	}
	return nil
}

// Held is all that owners hold.
func (m *Pool) Held() map[string]pool.Allocation {
	held := map[string]pool.Allocation{}
	for _, r := range m.Records {
		if !r.Cooling {
			held[r.Owner] = r.Allocation
		}
	}
	return held
}

// Taken has the record of each address that is not free.
func (m *Pool) Taken() map[netip.Addr]*Record {
	taken := map[netip.Addr]*Record{}
	for _, r := range m.Records {
		for _, a := range r.addrs() {
			taken[a] = r
		}
	}
	return taken
}

// delegated reports whether a pool was delegated from it, there or not.
func (r *Record) delegated() bool { return r.Child != "" }

func (r *Record) addrs() []netip.Addr {
	return addrsOfAll(r.Prefixes)
}

func addrsOfAll(prefixes []netip.Prefix) (all []netip.Addr) {
	for _, p := range prefixes {
		all = append(all, AddrsOf(p)...)
	}
	return all
}

// allows reports whether the pool may hand out all of these addresses.
func (m *Pool) allows(addrs []netip.Addr) bool {
	return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !m.Allowed[a] })
}

// allowsSome reports whether the pool may hand out any of these addresses.
func (m *Pool) allowsSome(addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return m.Allowed[a] })
}

// HasRoom reports whether each family that has ranges has something that may be handed out, taken or not.
func (m *Pool) HasRoom() bool {
	return !slices.ContainsFunc(Ranges(m.Spec), func(r netipx.IPRange) bool {
		return !m.allowsSome(AddrsOf(m.Universe[pool.FamilyOf(r.From())]))
	})
}
