package pool_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Texts that overlap make a spec that works, with the largest of the subnets that they name.
func TestParseSpecOfTextsThatOverlap(t *testing.T) {
	for name, c := range map[string]struct{ texts, subnets, free []string }{
		"one in another": {
			[]string{"10.1.0.0/16", "10.0.0.0/8"}, []string{"10.0.0.0/8"}, []string{"10.0.0.1-10.255.255.254"},
		},
		"one twice": {
			[]string{"10.0.0.0/24", "10.0.0.0/24"}, []string{"10.0.0.0/24"}, []string{"10.0.0.1-10.0.0.254"},
		},
		"a range in a larger subnet": {
			[]string{"10.0.0.0-10.0.0.9/24", "10.0.0.20-10.0.0.29/16"}, []string{"10.0.0.0/16"},
			[]string{"10.0.0.1-10.0.0.9", "10.0.0.20-10.0.0.29"},
		},
		"three deep": {
			[]string{"10.0.0.0/24", "10.0.0.0/30", "10.0.0.0/16", "10.1.0.0/24"}, []string{"10.0.0.0/16", "10.1.0.0/24"},
			[]string{"10.0.0.1-10.0.255.254", "10.1.0.1-10.1.0.254"},
		},
		"in their order": {
			[]string{"10.9.0.0/30", "10.1.0.0/30"}, []string{"10.9.0.0/30", "10.1.0.0/30"},
			[]string{"10.1.0.1-10.1.0.2", "10.9.0.1-10.9.0.2"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := pool.ParseSpec(c.texts...)
			require.NoError(t, err)
			p := must(pool.New(spec, nil))
			var subnets []string
			for _, s := range spec.Subnets {
				subnets = append(subnets, s.Prefix.String())
			}
			require.Equal(t, c.subnets, subnets)
			require.Equal(t, c.free, cidr.FormatSet(must(p.FreeSet(t.Context(), pool.IPv4))))
		})
	}
}

// Whatever CIDRs there are, the spec is valid.
func TestParseSpecOfAnyCIDRs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var texts []string
		for range rapid.IntRange(1, 6).Draw(t, "texts") {
			texts = append(texts, anyPrefix(prefix("10.0.0.0/26")).Draw(t, "CIDR").String())
		}
		spec, err := pool.ParseSpec(texts...)
		require.NoError(t, err)
		if spec.IPv4.AllocateReserved = true; spec.Validate() != nil {
			t.Fatalf("%v: %v", texts, spec.Validate())
		}
	})
}

func TestParseSpecWithAParser(t *testing.T) {
	_, err := pool.ParseSpec("10.0.0.9/24")
	require.ErrorContains(t, err, "host bits")
	spec, err := pool.ParseSpecWith(cidr.Parser{MaskHostBits: true}, "10.0.0.9/24")
	require.NoError(t, err)
	require.Equal(t, ranges("10.0.0.0/24"), spec.Ranges)
	require.Equal(t, []pool.Subnet{subnet("10.0.0.0/24", "")}, spec.Subnets)
}

// Ranges of one subnet with a gateway each: no gateway is handed out, and the first is that of the subnet.
func TestTwoGatewaysOfOneSubnet(t *testing.T) {
	spec := must(pool.ParseSpec("10.0.0.1-10.0.0.9/24", "10.0.0.101-10.0.0.109/24"))
	spec.Subnets = []pool.Subnet{subnet("10.0.0.0/24", "10.0.0.1"), subnet("10.0.0.0/24", "10.0.0.101")}
	p := must(pool.New(spec, nil))
	free := must(p.FreeSet(t.Context(), pool.IPv4))
	require.Equal(t, []string{"10.0.0.2-10.0.0.9", "10.0.0.102-10.0.0.109"}, cidr.FormatSet(free))
	found, ok := spec.SubnetOf(addr("10.0.0.105"))
	require.True(t, ok)
	require.Equal(t, subnet("10.0.0.0/24", "10.0.0.1"), found)
}

// What a spec must not say, and was once taken for something else.
func TestSpecsThatBreakARule(t *testing.T) {
	with := func(change func(*pool.Spec)) pool.Spec {
		spec := specOf("10.0.0.0/24")
		change(&spec)
		return spec
	}
	v4 := func(f pool.FamilySpec) pool.Spec { return with(func(s *pool.Spec) { s.IPv4 = f }) }
	for want, spec := range map[string]pool.Spec{
		"Family(5) is none":                   with(func(s *pool.Spec) { s.Families = []pool.Family{5} }),
		"Family(0) is none":                   with(func(s *pool.Spec) { s.Families = []pool.Family{0} }),
		"families name IPv4 twice":            with(func(s *pool.Spec) { s.Families = []pool.Family{4, 6, 4} }),
		"10.0.0.0/24 is IPv4, but the pool":   with(func(s *pool.Spec) { s.Families = []pool.Family{pool.IPv6} }),
		"the least IPv4 prefix length -1":     v4(pool.FamilySpec{MinBits: -1}),
		"the greatest IPv4 prefix length 33":  v4(pool.FamilySpec{MaxBits: 33}),
		"the least IPv4 prefix length 31 is":  v4(pool.FamilySpec{MinBits: 31, MaxBits: 30}),
		"the default IPv4 prefix length 32":   v4(pool.FamilySpec{MaxBits: 30}),
		"length 24 is out of the pool's":      v4(pool.FamilySpec{Bits: 24, MinBits: 25}),
		"there is an IPv6 prefix length, 64,": with(func(s *pool.Spec) { s.IPv6.MinBits = 64 }),
		"the cooldown 999ns":                  with(func(s *pool.Spec) { s.Cooldown = 999 }),
		"the most is 1048576": with(func(s *pool.Spec) {
			s.Bands = []pool.Band{{Name: "b", Ranges: make([]netipx.IPRange, pool.MaxRanges)}}
		}),
	} {
		for _, err := range []error{spec.Validate(), errOf(pool.New(spec, nil)),
			errOf(pool.Create(t.Context(), store.NewMemory(), "blue", spec, nil))} {
			require.ErrorIs(t, err, pool.ErrInvalid, want)
			require.ErrorContains(t, err, want)
		}
	}
	var read pool.Spec
	err := json.Unmarshal([]byte(`{"ranges":["10.0.0.0/24"],"subnets":[{"prefix":"10.0.0.0/24","gateway":""}]}`), &read)
	require.ErrorContains(t, err, "the gateway of the subnet 10.0.0.0/24 is empty")
}

func errOf[T any](_ T, err error) error { return err }

// A claim that breaks a rule is refused before the store is asked for anything.
func TestContradictionsAreRefusedBeforeAnythingIsRead(t *testing.T) {
	s := &hooked{Store: store.NewMemory()}
	p := create(t, s, specOf("10.0.0.0/24", "2001:db8::/64"))
	allocate(t, p, pool.Claim{Owner: "holder"})
	read := 0
	s.beforeGet = func(store.Key) { read++ }
	s.beforeCommit = func(store.Record, []store.Write) error { read++; return nil }
	for want, r := range map[string]pool.Request{
		"10.0.0.9/32 is not in the set":                       {Exact: prefix("10.0.0.9/32"), Within: setOf("10.0.0.8")},
		"10.0.0.8/31 is not in the set":                       {Exact: prefix("10.0.0.8/31"), Within: setOf("10.0.0.8")},
		"a request for IPv4 has":                              {Exact: prefix("10.0.0.9/32"), Within: setOf("2001:db8::/64")},
		"the address 10.0.0.9 and the length -1 is not valid": {Exact: netip.PrefixFrom(addr("10.0.0.9"), 64)},
		"0.0.0.0/0 is a whole family":                         {Exact: prefix("0.0.0.0/0")},
		"length -1 is out of range":                           {Bits: -1},
		"length 129 is out of range":                          {Bits: 129},
	} {
		for _, owner := range []string{"a", "holder"} {
			c := pool.Claim{Owner: owner, Requests: []pool.Request{r}}
			delegated := func() error {
				_, _, err := pool.Delegate(t.Context(), p, c, "child", pool.Spec{}, nil)
				return err
			}
			each := must(allocateMany(t.Context(), p, []pool.Claim{c}))
			for _, err := range []error{
				c.Validate(), errOf(p.Allocate(t.Context(), c)), errOf(p.AllocateWait(t.Context(), c)),
				errOf(p.DryRun(t.Context(), c)), errOf(p.All(t.Context(), pool.Allocate(c))), each[0].Err,
				errOf(p.Extend(t.Context(), c)), delegated(),
			} {
				require.ErrorIs(t, err, pool.ErrInvalid, want)
				require.ErrorContains(t, err, want)
			}
		}
	}
	require.Zero(t, read)
	within := pool.Request{Exact: prefix("10.0.0.8/31"), Within: setOf("10.0.0.8-10.0.0.9")}
	for range 2 {
		require.Equal(t, "10.0.0.8/31", texts(allocate(t, p, pool.Claim{Owner: "a", Requests: []pool.Request{within}})))
	}
}

// A pool without ranges has its families, grants nothing, and grants when it gets ranges.
func TestEmptyPool(t *testing.T) {
	spec := pool.Spec{Families: []pool.Family{pool.IPv6, pool.IPv4}}
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		for _, c := range []pool.Claim{
			{Owner: "a"}, {Owner: "a", Policy: pool.PreferDualStack}, {Owner: "a", Policy: pool.RequireDualStack},
			{Owner: "a", Requests: []pool.Request{{Within: setOf("10.0.0.0/8")}}},
		} {
			_, err := b.another(t).Allocate(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrExhausted)
			require.ErrorContains(t, err, "free addresses: 0 of 0")
		}
		_, err := b.Allocate(t.Context(), claim("a", "10.0.0.1"))
		require.ErrorIs(t, err, pool.ErrNotInPool)
		require.ErrorContains(t, err, "outside of the ranges")
		stats := must(b.Info(t.Context())).Stats
		require.Equal(t, []pool.Stats{{Family: pool.IPv6}, {Family: pool.IPv4}}, stats)
		require.True(t, must(b.Info(t.Context())).Spec.Equal(spec))
		requireOK(t, b.Pool)

		spec.Ranges = ranges("10.0.0.1-10.0.0.2")
		require.NoError(t, b.Update(t.Context(), spec))
		_, err = b.Allocate(t.Context(), pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		require.ErrorIs(t, err, pool.ErrExhausted, "one family has no ranges yet")
		spec.Ranges = ranges("10.0.0.1-10.0.0.2", "2001:db8::1-2001:db8::2")
		require.NoError(t, b.Update(t.Context(), spec))
		a := allocate(t, b.another(t), pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		require.Equal(t, "2001:db8::1 10.0.0.1", texts(a), "the primary family first, whatever the order of the ranges")
		spec.Ranges = nil
		require.ErrorIs(t, b.Update(t.Context(), spec), pool.ErrOutOfRange)
		require.NoError(t, b.Drain(t.Context(), spec))
		require.Equal(t, a, allocate(t, b.Pool, pool.Claim{Owner: "a", Policy: pool.RequireDualStack}))
		requireOK(t, b.Pool)
	})
}

// An empty pool is part of a network, of a parent and of an export as any pool is.
func TestEmptyPoolAmongOthers(t *testing.T) {
	s := store.NewMemory()
	spec := pool.Spec{Families: []pool.Family{pool.IPv4}, Network: "net"}
	p := createNamed(t, s, "empty", spec)
	require.NoError(t, pool.SetExternal(t.Context(), s, "net", ranges("10.0.0.0/28"), false, nil))
	parentSpec := specOf("10.0.0.0/24")
	parentSpec.Network = "net"
	parent := createNamed(t, s, "parent", parentSpec)
	copied, err := pool.Import(t.Context(), s, "copy", must(p.Snapshot(t.Context())), nil)
	require.NoError(t, err)
	requireOK(t, copied)

	childSpec := pool.Spec{Families: []pool.Family{pool.IPv4, pool.IPv6}}
	child, _, err := pool.Delegate(t.Context(), parent, ofBits("node", 28), "child", childSpec, nil)
	require.NoError(t, err)
	require.Equal(t, []pool.Family{pool.IPv4, pool.IPv6}, must(child.Info(t.Context())).Spec.AllFamilies())
	given := must(child.Info(t.Context())).Spec
	given.Ranges = nil
	require.NoError(t, child.Update(t.Context(), given))
	_, err = child.Allocate(t.Context(), pool.Claim{Owner: "pod"})
	require.ErrorIs(t, err, pool.ErrExhausted)
	_, err = child.Extend(t.Context(), ofBits("node again", 28))
	require.NoError(t, err)
	require.Equal(t, "10.0.0.33", texts(allocate(t, child, pool.Claim{Owner: "pod"})))
	requireOK(t, child)
	requireOK(t, parent)
	require.NoError(t, pool.Delete(t.Context(), s, "empty", nil))
}

// Claims ask for lengths within the bounds of the pool; what is held already stays, and answers.
func TestLengthsAreBounded(t *testing.T) {
	spec := specOf("10.0.0.0/16", "2001:db8::/32")
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		large := ofBits("large", 20)
		held := allocate(t, b.Pool, large)
		spec.IPv4 = pool.FamilySpec{Bits: 28, MinBits: 24, MaxBits: 30, AllocateReserved: true}
		require.NoError(t, b.Update(t.Context(), spec))
		p := b.another(t)
		require.Equal(t, held, allocate(t, p, large), "what is held answers")
		for want, c := range map[string]pool.Claim{
			"the IPv4 prefix length 23 is out of the pool's bounds, want 24 to 30": ofBits("a", 23),
			"length 31":                    ofBits("a", 31),
			"length 32 is out":             claim("a", "10.0.200.1"),
			"the IPv4 prefix length 20 is": claim("a", "10.0.240.0/20"),
			"want 24 to 30": {Owner: "a", Policy: pool.RequireDualStack, Requests: []pool.Request{
				{Family: pool.IPv6, Bits: 48}, {Family: pool.IPv4, Bits: 31},
			}},
			"the IPv4 prefix length 22 is": {
				Owner: "a", Requests: []pool.Request{{}, {Bits: 22, Within: setOf("10.0.0.0/16")}},
			},
		} {
			_, err := p.Allocate(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrInvalid, want)
			require.ErrorContains(t, err, want)
			_, err = p.DryRun(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrInvalid)
		}
		for _, bits := range []int{24, 30} {
			allocate(t, p, ofBits(fmt.Sprint(bits), bits))
		}
		require.Equal(t, 28, allocate(t, p, pool.Claim{Owner: "default"}).Prefixes[0].Bits())
		allocate(t, p, pool.Claim{Owner: "other family", Requests: []pool.Request{{Family: pool.IPv6, Bits: 48}}})
		release(t, p, "large")
		_, err := p.Allocate(t.Context(), large)
		require.ErrorIs(t, err, pool.ErrInvalid, "and cannot be had again")
		require.ErrorIs(t, errOf(p.Allocate(t.Context(), ofBits("24", 20))), pool.ErrHeld)
	})
}

// What cools down is no more granted than anything else of its length.
func TestLengthsOfWhatCoolsDownAreBounded(t *testing.T) {
	spec := specOf("10.0.0.0/24")
	spec.Cooldown = time.Hour
	inMemoryAndStored(t, spec, func(t *testing.T, b *trial) {
		allocate(t, b.Pool, ofBits("a", 28))
		release(t, b.Pool, "a")
		spec.IPv4.MinBits = 30
		require.NoError(t, b.Update(t.Context(), spec))
		require.ErrorIs(t, errOf(b.Allocate(t.Context(), ofBits("a", 28))), pool.ErrInvalid)
	})
}

// No error quotes more than some hundred bytes of what it was given.
func TestErrorsAreShort(t *testing.T) {
	const long = 100_000
	text := strings.Repeat("\x01é", long)
	s := store.NewMemory()
	p := create(t, s, specOf("10.0.0.0/16"))
	many := pool.Claim{Owner: strings.Repeat("\x01", store.MaxNameBytes), Requests: make([]pool.Request, pool.MaxRequests)}
	allocate(t, p, many)
	held := specOf("10.1.0.0/16")
	band := held
	band.Bands = []pool.Band{{Name: text, Ranges: ranges("10.1.0.0/24")}}
	scoped := held
	scoped.Scope = text
	name := strings.Repeat("é", store.MaxNameBytes/2)
	outside := []pool.Request{{Exact: prefix("10.0.0.2/32"), Within: setOf("10.0.0.1")}}
	for what, err := range map[string]error{
		"owner":       errOf(p.Allocate(t.Context(), pool.Claim{Owner: text})),
		"bad owner":   errOf(p.Allocate(t.Context(), pool.Claim{Owner: strings.Repeat("\xff", store.MaxNameBytes)})),
		"held":        errOf(p.Allocate(t.Context(), ofBits(many.Owner, 31))),
		"label":       errOf(p.Allocate(t.Context(), pool.Claim{Owner: "a", Labels: map[string]string{text + "\xff": text}})),
		"scope":       errOf(p.Allocate(t.Context(), pool.Claim{Owner: "a", Scope: text})),
		"band":        errOf(p.Allocate(t.Context(), inBand("a", text))),
		"exact":       errOf(p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: outside})),
		"stranded":    p.Update(t.Context(), held),
		"band's name": band.Validate(),
		"pool":        errOf(pool.Open(t.Context(), s, text, nil)),
		"no pool":     errOf(pool.Open(t.Context(), s, name, nil)),
		"pool scope":  scoped.Validate(),
		"network":     pool.SetExternal(t.Context(), s, text, nil, false, nil),
		"adopt":       errOf(p.Get(t.Context(), pool.Held{Owner: text})),
		"family":      new(pool.Family).UnmarshalText([]byte(text)),
		"strategy":    pool.Spec{Strategy: pool.Strategy(text), Families: []pool.Family{pool.IPv4}}.Validate(),
		"policy":      pool.Claim{Owner: "a", Policy: pool.FamilyPolicy(text)}.Validate(),
		"drift":       errOf(pool.Ensure(t.Context(), s, name, specOf("10.0.0.0/24"), pool.Drift(text), nil)),
		"order":       errOf(pool.Select(s, nil, pool.Order(text), nil)),
		"step":        errOf(p.All(t.Context(), pool.Step{Op: text})),
		"cooldown":    json.Unmarshal([]byte(`{"cooldown":"`+strings.Repeat("é", long)+`"}`), &pool.Spec{}),
	} {
		require.Error(t, err, what)
		require.Less(t, len(err.Error()), 1500, "%s: %.2000s", what, err)
	}
	results, err := allocateMany(t.Context(), p, []pool.Claim{many})
	require.NoError(t, err)
	require.Less(t, len(fmt.Sprint(results[0].Err)), 1500)
	require.ErrorContains(t, errOf(p.Allocate(t.Context(), ofBits(many.Owner, 31))),
		"it holds [10.0.0.0/32 10.0.0.1/32 10.0.0.2/32 10.0.0.3/32 10.0.0.4/32 and 4091 more]")
}
