package pool_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// model is a pool done naively: it looks at each address of a small universe.
type model struct {
	spec     pool.Spec
	universe map[pool.Family]netip.Prefix
	allowed  map[netip.Addr]bool
	taken    map[netip.Addr]string
	held     map[string]pool.Allocation
}

// GoString is how a failed property shows it.
func (m *model) GoString() string {
	text, err := json.Marshal(m.spec)
	return fmt.Sprintf("%s %v", text, err)
}

// worlds are the universes: at both ends of the address space, and in the middle.
var worlds = map[pool.Family][]netip.Prefix{
	pool.IPv4: {prefix("10.0.0.0/26"), prefix("0.0.0.0/27"), prefix("255.255.255.192/26")},
	pool.IPv6: {prefix("2001:db8::/122"), prefix("::/123"), prefix("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffc0/122")},
}

func nthOf(p netip.Prefix, n int) netip.Addr {
	a, ok := cidr.Nth(cidr.SetOf(netipx.RangeOfPrefix(p)), cidr.CountOf(uint64(n)))
	if !ok {
		panic(fmt.Sprintf("%v has no address %d", p, n))
	}
	return a
}

func addrsOf(p netip.Prefix) []netip.Addr {
	var out []netip.Addr
	for a := p.Masked().Addr(); p.Contains(a); a = a.Next() {
		out = append(out, a)
	}
	return out
}

func anyAddr(universe netip.Prefix) *rapid.Generator[netip.Addr] {
	return rapid.Custom(func(t *rapid.T) netip.Addr {
		return nthOf(universe, rapid.IntRange(0, 1<<(universe.Addr().BitLen()-universe.Bits())-1).Draw(t, "n"))
	})
}

func anyPrefix(universe netip.Prefix) *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		bits := rapid.IntRange(universe.Bits(), universe.Addr().BitLen()).Draw(t, "bits")
		return netip.PrefixFrom(anyAddr(universe).Draw(t, "addr"), bits).Masked()
	})
}

func anyRange(universe netip.Prefix) *rapid.Generator[netipx.IPRange] {
	return rapid.Custom(func(t *rapid.T) netipx.IPRange {
		if rapid.Bool().Draw(t, "prefix") {
			return netipx.RangeOfPrefix(anyPrefix(universe).Draw(t, "prefix"))
		}
		a, b := anyAddr(universe).Draw(t, "a"), anyAddr(universe).Draw(t, "b")
		if b.Less(a) {
			a, b = b, a
		}
		return netipx.IPRangeFrom(a, b)
	})
}

// anyModel draws a model of an empty pool whose spec is valid.
func anyModel() *rapid.Generator[*model] {
	return rapid.Custom(func(t *rapid.T) *model {
		m := &model{universe: map[pool.Family]netip.Prefix{}}
		m.spec.AllocateReserved = rapid.Bool().Draw(t, "allocate reserved")
		families := rapid.SampledFrom([][]pool.Family{
			{pool.IPv4}, {pool.IPv6}, {pool.IPv4, pool.IPv6}, {pool.IPv6, pool.IPv4},
		}).Draw(t, "families")
		for _, f := range families {
			m.addFamily(t, f)
		}
		m.reset()
		for _, f := range families {
			bits := m.bits(f)
			if _, ok := m.lowest(f, bits, nil); !ok {
				t.Skip("nothing to hand out")
			}
		}
		return m
	})
}

func (m *model) addFamily(t *rapid.T, f pool.Family) {
	universe := rapid.SampledFrom(worlds[f]).Draw(t, "universe")
	m.universe[f] = universe
	within := []netip.Prefix{universe}
	if rapid.Bool().Draw(t, "subnets") {
		// Either one subnet of any size, or the halves of the universe.
		within = []netip.Prefix{anyPrefix(universe).Draw(t, "subnet")}
		if rapid.Bool().Draw(t, "halves") {
			half := universe.Bits() + 1
			within = []netip.Prefix{
				netip.PrefixFrom(universe.Addr(), half), netip.PrefixFrom(netipx.PrefixLastIP(universe), half).Masked(),
			}
		}
		for _, p := range within {
			subnet := pool.Subnet{Prefix: p}
			if rapid.Bool().Draw(t, "gateway") {
				subnet.Gateway = anyAddr(p).Draw(t, "gateway")
			}
			m.spec.Subnets = append(m.spec.Subnets, subnet)
		}
	}
	for range rapid.IntRange(1, 3).Draw(t, "ranges") {
		m.spec.Ranges = append(m.spec.Ranges, anyRange(rapid.SampledFrom(within).Draw(t, "in")).Draw(t, "range"))
	}
	for range rapid.IntRange(0, 2).Draw(t, "exclusions") {
		m.spec.Exclude = append(m.spec.Exclude, anyRange(universe).Draw(t, "exclusion"))
	}
	if rapid.IntRange(0, 2).Draw(t, "kind of lengths") == 0 {
		bits := rapid.IntRange(f.Width()-3, f.Width()).Draw(t, "bits")
		if f == pool.IPv4 {
			m.spec.IPv4Bits = bits
		} else {
			m.spec.IPv6Bits = bits
		}
	}
}

func (m *model) families() []pool.Family {
	if m.spec.Ranges[0].From().Is4() {
		return slices.DeleteFunc([]pool.Family{pool.IPv4, pool.IPv6}, func(f pool.Family) bool { return !m.universe[f].IsValid() })
	}
	return slices.DeleteFunc([]pool.Family{pool.IPv6, pool.IPv4}, func(f pool.Family) bool { return !m.universe[f].IsValid() })
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

// reset forgets what is held, and finds out what may be.
func (m *model) reset() {
	m.taken, m.held, m.allowed = map[netip.Addr]string{}, map[string]pool.Allocation{}, map[netip.Addr]bool{}
	for f, universe := range m.universe {
		for _, a := range addrsOf(universe) {
			m.allowed[a] = inAny(m.spec.Ranges, a) && !inAny(m.spec.Exclude, a) && !m.withheld(f, a)
		}
	}
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

// fits tells whether p may be handed out as far as the spec goes, and whether it is free as well.
func (m *model) fits(p netip.Prefix) (inPool, free bool) {
	inPool, free = true, true
	for _, a := range addrsOf(p) {
		inPool = inPool && m.allowed[a]
		free = free && m.taken[a] == ""
	}
	return inPool, inPool && free
}

func (m *model) lowest(f pool.Family, bits int, within *netipx.IPSet) (netip.Prefix, bool) {
	if bits < m.universe[f].Bits() {
		return netip.Prefix{}, false
	}
	for _, a := range addrsOf(m.universe[f]) {
		p := netip.PrefixFrom(a, bits)
		if p != p.Masked() || within != nil && !within.ContainsPrefix(p) {
			continue
		}
		if _, free := m.fits(p); free {
			return p, true
		}
	}
	return netip.Prefix{}, false
}

func familyOf(r pool.Request) pool.Family {
	switch {
	case r.Family != 0:
		return r.Family
	case r.Exact.IsValid():
		return pool.FamilyOf(r.Exact.Addr())
	case r.Within != nil:
		return pool.FamilyOf(r.Within.Ranges()[0].From())
	}
	return 0
}

// wants lists what a claim asks for under a policy: each with its family and length.
func (m *model) wants(c pool.Claim, policy pool.FamilyPolicy) ([]pool.Request, error) {
	for i, r := range c.Requests {
		twice := slices.ContainsFunc(c.Requests[:i], func(other pool.Request) bool { return other.Exact == r.Exact })
		if r.Exact.IsValid() && twice {
			return nil, pool.ErrInvalid
		}
	}
	families := m.families()
	if policy == pool.RequireDualStack && len(families) < 2 {
		return nil, pool.ErrFamily
	}
	if policy == pool.SingleStack {
		families = families[:1]
	}
	requests := c.Requests
	if len(requests) == 0 {
		requests = []pool.Request{{}}
	}
	var wants []pool.Request
	for _, r := range requests {
		each := families
		if f := familyOf(r); f != 0 {
			each = []pool.Family{f}
		}
		for _, f := range each {
			if !m.universe[f].IsValid() {
				return nil, pool.ErrFamily
			}
			want := r
			want.Family = f
			switch {
			case r.Exact.IsValid():
				want.Bits = r.Exact.Bits()
			case r.Bits == 0:
				want.Bits = m.bits(f)
			}
			wants = append(wants, want)
		}
	}
	for _, f := range families {
		named := slices.ContainsFunc(wants, func(r pool.Request) bool { return r.Family == f })
		if policy != pool.SingleStack && !named {
			wants = append(wants, pool.Request{Family: f, Bits: m.bits(f)})
		}
	}
	return wants, nil
}

func (m *model) meets(c pool.Claim, held []netip.Prefix) bool {
	policies := []pool.FamilyPolicy{c.Policy}
	if c.Policy == pool.PreferDualStack {
		policies = append(policies, pool.SingleStack)
	}
	for _, policy := range policies {
		wants, err := m.wants(c, policy)
		met := err == nil && len(wants) == len(held)
		for i := 0; met && i < len(wants); i++ {
			w, p := wants[i], held[i]
			met = pool.FamilyOf(p.Addr()) == w.Family && p.Bits() == w.Bits &&
				(!w.Exact.IsValid() || w.Exact == p) && (w.Within == nil || w.Within.ContainsPrefix(p))
		}
		if met {
			return true
		}
	}
	return false
}

// allocate is what Allocate is to answer. It changes nothing.
func (m *model) allocate(c pool.Claim) ([]netip.Prefix, error) {
	wants, err := m.wants(c, c.Policy)
	if err != nil {
		return nil, err
	}
	if a, ok := m.held[c.Owner]; ok {
		if m.meets(c, a.Prefixes) {
			return a.Prefixes, nil
		}
		return nil, pool.ErrHeld
	}
	got := make([]netip.Prefix, len(wants))
	defer m.free(c.Owner) // what is marked below
	for i, w := range wants {
		if !w.Exact.IsValid() {
			continue
		}
		inPool, free := m.fits(w.Exact)
		switch {
		case !inPool:
			return nil, pool.ErrNotInPool
		case !free:
			return nil, pool.ErrTaken
		}
		m.mark(c.Owner, w.Exact)
		got[i] = w.Exact
	}
	// Then those within a set, then the rest; of each the larger ones first.
	for _, within := range []bool{true, false} {
		for bits := range 129 {
			for i, w := range wants {
				if w.Exact.IsValid() || w.Bits != bits || (w.Within != nil) != within {
					continue
				}
				p, ok := m.lowest(w.Family, w.Bits, w.Within)
				if !ok {
					return nil, pool.ErrExhausted
				}
				m.mark(c.Owner, p)
				got[i] = p
			}
		}
	}
	return got, nil
}

func (m *model) mark(owner string, p netip.Prefix) {
	for _, a := range addrsOf(p) {
		m.taken[a] = owner
	}
}

func (m *model) free(owner string) {
	if _, ok := m.held[owner]; ok {
		return
	}
	for a, o := range m.taken {
		if o == owner {
			delete(m.taken, a)
		}
	}
}

func (m *model) grant(a pool.Allocation) {
	m.held[a.Owner] = a
	for _, p := range a.Prefixes {
		m.mark(a.Owner, p)
	}
}

func (m *model) release(owner string) {
	delete(m.held, owner)
	m.free(owner)
}

func (m *model) stats() pool.Stats {
	var stats pool.Stats
	for _, f := range m.families() {
		var total, allowed, used uint64
		for _, a := range addrsOf(m.universe[f]) {
			if inAny(m.spec.Ranges, a) {
				total++
			}
			if m.allowed[a] {
				allowed++
			}
			if m.taken[a] != "" {
				used++
			}
		}
		stats = append(stats, pool.FamilyStats{
			Family: f, Total: cidr.CountOf(total), Reserved: cidr.CountOf(total - allowed),
			Used: cidr.CountOf(used), Free: cidr.CountOf(allowed - used),
		})
	}
	return stats
}

var owners = []string{
	"a", "b", "c", "d", "e", "f", "pod-7/eth0", "uid: \"x\"", "line\nbreak", "ünïcode 🐘", strings.Repeat("long", 256), "../..",
}

func anyClaim(m *model) *rapid.Generator[pool.Claim] {
	return rapid.Custom(func(t *rapid.T) pool.Claim {
		c := pool.Claim{Owner: rapid.SampledFrom(owners).Draw(t, "owner")}
		c.Policy = rapid.SampledFrom([]pool.FamilyPolicy{0, 0, pool.PreferDualStack, pool.RequireDualStack}).Draw(t, "policy")
		for range rapid.SampledFrom([]int{0, 0, 1, 1, 1, 2, 3}).Draw(t, "requests") {
			c.Requests = append(c.Requests, anyRequest(t, m))
		}
		return c
	})
}

func anyRequest(t *rapid.T, m *model) pool.Request {
	f := rapid.SampledFrom([]pool.Family{pool.IPv4, pool.IPv6, m.families()[0]}).Draw(t, "family")
	universe := m.universe[f]
	if !universe.IsValid() {
		universe = worlds[f][0]
	}
	var r pool.Request
	if rapid.Bool().Draw(t, "family is said") {
		r.Family = f
	}
	switch rapid.IntRange(0, 5).Draw(t, "kind") {
	case 0:
		r.Exact = anyPrefix(universe).Draw(t, "exact")
	case 1:
		r = pool.ExactAddr(anyAddr(universe).Draw(t, "address"))
	case 2:
		r.Within = cidr.SetOf(anyRange(universe).Draw(t, "within"), anyRange(universe).Draw(t, "within"))
	case 3:
		r.Family, r.Bits = f, rapid.IntRange(f.Width()-6, f.Width()).Draw(t, "bits")
	case 4:
		r.Family, r.Bits = f, rapid.IntRange(f.Width()-3, f.Width()).Draw(t, "bits")
		r.Within = cidr.SetOf(anyRange(universe).Draw(t, "within"))
	}
	return r
}

// badClaims are each against one rule.
func badClaim(t *rapid.T, m *model) pool.Claim {
	f := m.families()[0]
	host := netip.PrefixFrom(netipx.PrefixLastIP(m.universe[f]), f.Width()-1)
	bad := []pool.Claim{
		{},
		{Owner: strings.Repeat("x", store.MaxNameBytes+1)},
		{Owner: "a\x00b"},
		{Owner: "a\xffb"},
		{Owner: "a", Policy: 9},
		{Owner: "a", Requests: []pool.Request{{Family: f, Bits: f.Width() + 1}}},
		{Owner: "a", Requests: []pool.Request{{Family: f, Bits: -1}}},
		{Owner: "a", Requests: []pool.Request{{Family: 5}}},
		{Owner: "a", Requests: []pool.Request{{Exact: host}}},
		{Owner: "a", Requests: []pool.Request{{Exact: host.Masked(), Bits: f.Width()}}},
		{Owner: "a", Requests: []pool.Request{{Exact: host.Masked(), Family: 10 - f}}},
		{Owner: "a", Requests: []pool.Request{{Within: &netipx.IPSet{}}}},
		{Owner: "a", Requests: []pool.Request{{Within: setOf("10.0.0.1", "2001:db8::1")}}},
		{Owner: "a", Requests: []pool.Request{pool.ExactAddr(addr("::ffff:10.0.0.1"))}},
	}
	return rapid.SampledFrom(bad).Draw(t, "bad claim")
}

// machine runs a pool, through one or several handles, beside its model.
type machine struct {
	model   *model
	handles []*pool.Pool
	reopen  func() *pool.Pool // nil in memory
	latest  int64             // generation
	stale   map[string]int64  // a generation that the owner had and has no more
}

func (s *machine) handle(t *rapid.T) *pool.Pool {
	return s.handles[rapid.IntRange(0, len(s.handles)-1).Draw(t, "handle")]
}

func (s *machine) Allocate(t *rapid.T) {
	s.allocate(t, anyClaim(s.model).Draw(t, "claim"))
}

func (s *machine) AllocateDefault(t *rapid.T) {
	s.allocate(t, pool.Claim{Owner: rapid.SampledFrom(owners).Draw(t, "owner")})
}

func (s *machine) AllocateAgain(t *rapid.T) {
	a := s.anyHeld(t)
	c := pool.Claim{Owner: a.Owner}
	for _, p := range a.Prefixes {
		c.Requests = append(c.Requests, pool.Request{Exact: p})
	}
	s.allocate(t, c)
}

func (s *machine) allocate(t *rapid.T, c pool.Claim) {
	want, fails := s.model.allocate(c)
	old, known := s.model.held[c.Owner]
	got, err := s.handle(t).Allocate(context.Background(), c)
	if fails != nil {
		require.ErrorIs(t, err, fails, "%+v", c)
		require.Zero(t, got)
		return
	}
	require.NoError(t, err, "%+v", c)
	require.Equal(t, want, got.Prefixes, "%+v", c)
	defer spoil(c, got)
	if known {
		require.Equal(t, old, got)
		return
	}
	require.Equal(t, c.Owner, got.Owner)
	require.Greater(t, got.Generation, s.latest)
	require.False(t, got.Created.IsZero())
	s.latest = got.Generation
	mine := got
	mine.Prefixes = slices.Clone(got.Prefixes)
	s.model.grant(mine)
}

// spoil changes what a call was given and what it returned: both are the caller's.
func spoil(c pool.Claim, a pool.Allocation) {
	clear(c.Requests)
	clear(a.Prefixes)
}

func (s *machine) AllocateBad(t *rapid.T) {
	_, err := s.handle(t).Allocate(context.Background(), badClaim(t, s.model))
	require.ErrorIs(t, err, pool.ErrInvalid)
}

func (s *machine) anyHeld(t *rapid.T) pool.Allocation {
	var names []string
	for owner := range s.model.held {
		names = append(names, owner)
	}
	if len(names) == 0 {
		t.Skip("nobody holds anything")
	}
	slices.Sort(names)
	return s.model.held[rapid.SampledFrom(names).Draw(t, "owner")]
}

func (s *machine) Release(t *rapid.T) {
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	want, ok := s.model.held[owner]
	got, err := s.handle(t).Release(context.Background(), owner)
	if !ok {
		require.ErrorIs(t, err, pool.ErrNotFound)
		return
	}
	require.NoError(t, err)
	s.released(t, want, got)
}

func (s *machine) released(t *rapid.T, want, got pool.Allocation) {
	require.Equal(t, want, got)
	clear(got.Prefixes)
	s.stale[want.Owner] = want.Generation
	s.model.release(want.Owner)
}

func (s *machine) ReleaseGeneration(t *rapid.T) {
	a := s.anyHeld(t)
	got, err := s.handle(t).ReleaseGeneration(context.Background(), a.Owner, a.Generation)
	require.NoError(t, err)
	s.released(t, a, got)
}

func (s *machine) ReleaseStaleGeneration(t *rapid.T) {
	a := s.anyHeld(t)
	stale := s.stale[a.Owner]
	if stale == 0 {
		stale = rapid.SampledFrom([]int64{-1, a.Generation - 1, a.Generation + 1}).Draw(t, "generation")
		if stale == 0 {
			stale = 1 << 40
		}
	}
	_, err := s.handle(t).ReleaseGeneration(context.Background(), a.Owner, stale)
	require.ErrorIs(t, err, pool.ErrGeneration)
}

func (s *machine) Get(t *rapid.T) {
	owner := rapid.SampledFrom(owners).Draw(t, "owner")
	want, ok := s.model.held[owner]
	got, err := s.handle(t).Get(context.Background(), owner)
	if !ok {
		require.ErrorIs(t, err, pool.ErrNotFound)
	} else {
		require.NoError(t, err)
	}
	require.Equal(t, want, got)
}

func (s *machine) Lookup(t *rapid.T) {
	f := rapid.SampledFrom(s.model.families()).Draw(t, "family")
	a := anyAddr(s.model.universe[f]).Draw(t, "address")
	got, err := s.handle(t).Lookup(context.Background(), a)
	owner := s.model.taken[a]
	if owner == "" {
		require.ErrorIs(t, err, pool.ErrNotFound)
		return
	}
	require.NoError(t, err)
	require.Equal(t, s.model.held[owner], got)
}

func (s *machine) List(t *rapid.T) {
	got := map[string]pool.Allocation{}
	for a, err := range s.handle(t).Allocations(context.Background()) {
		require.NoError(t, err)
		require.NotContains(t, got, a.Owner)
		got[a.Owner] = a
	}
	require.Equal(t, s.model.held, got)
}

func (s *machine) Spoil(t *rapid.T) {
	// What a call returns is the caller's.
	a := s.anyHeld(t)
	got, err := s.handle(t).Get(context.Background(), a.Owner)
	require.NoError(t, err)
	clear(got.Prefixes)
	info, err := s.handle(t).Info(context.Background())
	require.NoError(t, err)
	clear(info.Spec.Ranges)
}

func (s *machine) Reopen(t *rapid.T) {
	if s.reopen == nil {
		t.Skip("in memory")
	}
	s.handles[rapid.IntRange(0, len(s.handles)-1).Draw(t, "handle")] = s.reopen()
}

func (s *machine) Repair(t *rapid.T) {
	report, err := s.handle(t).Repair(context.Background())
	require.NoError(t, err)
	require.True(t, report.OK())
}

// Check is called after each step.
func (s *machine) Check(t *rapid.T) {
	p := s.handle(t)
	info, err := p.Info(context.Background())
	require.NoError(t, err)
	require.Equal(t, s.model.stats(), info.Stats)
	require.Equal(t, s.model.spec, info.Spec)
	report, err := p.Verify(context.Background())
	require.NoError(t, err)
	require.Equal(t, pool.Report{Allocations: len(s.model.held)}, report)
}

func (s *machine) actions() map[string]func(*rapid.T) {
	return map[string]func(*rapid.T){
		"allocate": s.Allocate, "allocate default": s.AllocateDefault, "allocate again": s.AllocateAgain, "allocate bad": s.AllocateBad,
		"release": s.Release, "release generation": s.ReleaseGeneration, "release stale": s.ReleaseStaleGeneration,
		"get": s.Get, "lookup": s.Lookup, "list": s.List, "spoil": s.Spoil, "reopen": s.Reopen, "repair": s.Repair, "": s.Check,
	}
}

func TestPoolInMemoryAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyModel().Draw(t, "pool")
		p, err := pool.New(m.spec, nil)
		require.NoError(t, err)
		s := &machine{model: m, handles: []*pool.Pool{p}, stale: map[string]int64{}}
		t.Repeat(s.actions())
	})
}

func TestPoolInStoreAgreesWithModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		m := anyModel().Draw(t, "pool")
		memory := store.NewMemory()
		p, err := pool.Create(ctx, memory, "blue", m.spec, nil)
		require.NoError(t, err)
		s := &machine{model: m, handles: []*pool.Pool{p}, stale: map[string]int64{}}
		s.reopen = func() *pool.Pool {
			p, err := pool.Open(ctx, memory.Open(), "blue", nil)
			require.NoError(t, err)
			return p
		}
		for range rapid.IntRange(1, 2).Draw(t, "more handles") {
			s.handles = append(s.handles, s.reopen())
		}
		t.Repeat(s.actions())
	})
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
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got pool.Spec
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want, got)
	})
}
