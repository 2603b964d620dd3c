package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/pool"
)

// The model is what the package does, done naively: it looks at each address of a small universe, and keeps nothing but records. What a
// call does to a pool is a function from a model to the model after it, or to an error.

// world is all that is in a store.
type world struct {
	now     time.Time
	pools   map[string]*model
	foreign map[string][]netipx.IPRange // by network
}

// model is one of its pools.
type model struct {
	had      []pool.Family // instead of those of the spec, if not nil
	world    *world
	name     string
	spec     pool.Spec
	parent   parentRef
	universe map[pool.Family]netip.Prefix
	allowed  map[netip.Addr]bool // what the pool hands out
	records  []*record           // which are replaced, and never changed
	cursor   map[pool.Family]netip.Addr
}

// record is what an owner holds, or has held and is withheld.
type record struct {
	pool.Allocation
	cooling bool
	aside   bool      // it cools down, and its owner has claimed something else since
	missing time.Time // since when it is missing to Reconcile
}

// GoString is how a failed property shows it.
func (m *model) GoString() string {
	text, err := json.Marshal(m.spec)
	return fmt.Sprintf("%s %v", text, err)
}

func newWorld() *world {
	return &world{
		now: time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC), pools: map[string]*model{}, foreign: map[string][]netipx.IPRange{},
	}
}

// newModel is a pool by itself.
func newModel(universe map[pool.Family]netip.Prefix, spec pool.Spec) *model {
	m := &model{world: newWorld(), spec: spec, universe: universe}
	m.reset()
	return m
}

// reset forgets what is held.
func (m *model) reset() {
	m.records, m.cursor = nil, map[pool.Family]netip.Addr{}
	m.resolve()
}

// resolve finds out what may be handed out.
func (m *model) resolve() {
	m.allowed = map[netip.Addr]bool{}
	for _, f := range m.families() {
		for _, a := range addrsOf(m.universe[f]) {
			m.allowed[a] = inAny(m.spec.Ranges, a) && !inAny(m.spec.Exclude, a) && !m.withheld(f, a) && !m.isForeign(a)
		}
	}
}

func (m *model) isForeign(a netip.Addr) bool {
	return m.spec.Network != "" && inAny(m.world.foreign[m.spec.Network], a)
}

func (m *model) clone() *model {
	after := *m
	after.records, after.cursor = slices.Clone(m.records), maps.Clone(m.cursor)
	return &after
}

func (m *model) families() []pool.Family {
	if m.had != nil {
		return m.had
	}
	var families []pool.Family
	for _, r := range m.spec.Ranges {
		if f := pool.FamilyOf(r.From()); !slices.Contains(families, f) {
			families = append(families, f)
		}
	}
	return families
}

func (m *model) bits(f pool.Family) int {
	bits := m.spec.IPv6Bits
	if f == pool.IPv4 {
		bits = m.spec.IPv4Bits
	}
	if bits == 0 {
		return f.Width()
	}
	return bits
}

func inAny(rs []netipx.IPRange, a netip.Addr) bool {
	return slices.ContainsFunc(rs, func(r netipx.IPRange) bool { return r.Contains(a) })
}

// withheld tells whether a is a gateway or reserved.
func (m *model) withheld(f pool.Family, a netip.Addr) bool {
	var subnets []netip.Prefix
	for _, s := range m.spec.Subnets {
		if s.Prefix.Addr().BitLen() != f.Width() {
			continue
		}
		if s.Gateway == a {
			return true
		}
		subnets = append(subnets, s.Prefix)
	}
	if subnets == nil {
		for _, r := range m.spec.Ranges {
			part := slices.ContainsFunc(m.spec.Ranges, func(other netipx.IPRange) bool {
				return other != r && other.Contains(r.From()) && other.Contains(r.To())
			})
			if p, ok := r.Prefix(); ok && r.From().BitLen() == f.Width() && !part {
				subnets = append(subnets, p)
			}
		}
	}
	if m.spec.AllocateReserved || m.bits(f) != f.Width() {
		return false
	}
	for _, p := range subnets {
		if p.Bits() < f.Width()-1 && (a == p.Addr() || f == pool.IPv4 && a == netipx.PrefixLastIP(p)) {
			return true
		}
	}
	return false
}

// add puts a record in the place of another one, if that is not nil.
func (m *model) add(r, old *record) *record {
	m.remove(old)
	m.records = append(m.records, r)
	return r
}

func (m *model) remove(r *record) {
	m.records = slices.DeleteFunc(m.records, func(other *record) bool { return other == r })
}

// find returns what the owner holds or has held last; nil if that is nothing.
func (m *model) find(owner string) *record {
	for _, r := range m.records {
		if r.Owner == owner && !r.aside {
			return r
		}
	}
	return nil
}

// live returns what the owner holds; nil if that is nothing.
func (m *model) live(owner string) *record {
	if r := m.find(owner); r != nil && !r.cooling {
		return r
	}
	return nil
}

// held is all that owners hold.
func (m *model) held() map[string]pool.Allocation {
	held := map[string]pool.Allocation{}
	for _, r := range m.records {
		if !r.cooling {
			held[r.Owner] = r.Allocation
		}
	}
	return held
}

// taken has the record of each address that is not free.
func (m *model) taken() map[netip.Addr]*record {
	taken := map[netip.Addr]*record{}
	for _, r := range m.records {
		for _, a := range r.addrs() {
			taken[a] = r
		}
	}
	return taken
}

func (r *record) addrs() []netip.Addr {
	var all []netip.Addr
	for _, p := range r.Prefixes {
		all = append(all, addrsOf(p)...)
	}
	return all
}

// inPool tells whether the pool hands out all of these addresses.
func (m *model) inPool(addrs []netip.Addr) bool {
	return !slices.ContainsFunc(addrs, func(a netip.Addr) bool { return !m.allowed[a] })
}

// someInPool tells whether the pool hands out any of these addresses.
func (m *model) someInPool(addrs []netip.Addr) bool {
	return slices.ContainsFunc(addrs, func(a netip.Addr) bool { return m.allowed[a] })
}

// All that is handed out, until nothing is left, is exactly what may be: nothing withheld, and nothing held back.
func TestInvariant5NothingWithheldIsHandedOut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyModel().Draw(t, "pool")
		p, err := pool.New(m.spec, nil)
		require.NoError(t, err)
		got := map[netip.Addr]bool{}
		for _, f := range m.families() {
			for i := 0; ; i++ {
				c := pool.Claim{Owner: fmt.Sprint(f, i), Requests: []pool.Request{{Family: f, Bits: f.Width()}}}
				a, err := p.Allocate(context.Background(), c)
				if errors.Is(err, pool.ErrExhausted) {
					break
				}
				require.NoError(t, err)
				got[a.Addrs()[0]] = true
			}
		}
		for a, allowed := range m.allowed {
			require.Equal(t, allowed, got[a], "%v", a)
			if !allowed {
				_, err := p.Allocate(context.Background(), pool.Claim{Owner: "asks for it", Requests: []pool.Request{pool.ExactAddr(a)}})
				require.ErrorIs(t, err, pool.ErrNotInPool, "%v", a)
				require.ErrorContains(t, err, a.String())
			}
			delete(got, a)
		}
		require.Empty(t, got)
	})
}

func TestInvariant9SpecSurvivesItsText(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := anyModel().Draw(t, "pool").spec
		anyPolicies(t, &want)
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got pool.Spec
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want, got)
	})
}

// parentRef is what a pool was carved from, by the names of the pool and of the owner there.
type parentRef struct{ Pool, Owner string }
