package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func subnet(p string, gateway string) pool.Subnet {
	s := pool.Subnet{Prefix: prefix(p)}
	if gateway != "" {
		s.Gateway = addr(gateway)
	}
	return s
}

// invalidSpecs are each against one rule; the error quotes what is given.
var invalidSpecs = []struct {
	name   string
	spec   pool.Spec
	quotes []string
}{
	{"no ranges", pool.Spec{}, []string{"no ranges"}},
	{"zero range", pool.Spec{Ranges: make([]netipx.IPRange, 1)}, []string{"range", "not valid"}},
	{
		"reversed range", pool.Spec{Ranges: []netipx.IPRange{netipx.IPRangeFrom(addr("10.0.0.9"), addr("10.0.0.1"))}},
		[]string{"10.0.0.9-10.0.0.1"},
	},
	{
		"range of both families", pool.Spec{Ranges: []netipx.IPRange{netipx.IPRangeFrom(addr("10.0.0.9"), addr("::1"))}},
		[]string{"10.0.0.9-::1"},
	},
	{
		"mapped range", pool.Spec{Ranges: []netipx.IPRange{netipx.RangeOfPrefix(prefix("::ffff:10.0.0.0/120"))}},
		[]string{"::ffff:10.0.0.0", "IPv4-mapped"},
	},
	{
		"range into mapped ones",
		pool.Spec{Ranges: []netipx.IPRange{netipx.IPRangeFrom(addr("::1"), addr("::ffff:10.0.0.1"))}},
		[]string{"::1-::ffff:10.0.0.1", "IPv4-mapped"},
	},
	{
		"zero exclusion", pool.Spec{Ranges: ranges("10.0.0.0/24"), Exclude: make([]netipx.IPRange, 1)},
		[]string{"exclusion", "not valid"},
	},
	{"mapped exclusion", pool.Spec{
		Ranges: ranges("2001:db8::/64"), Exclude: []netipx.IPRange{netipx.RangeOfPrefix(prefix("::ffff:10.0.0.0/120"))},
	}, []string{"exclusion", "::ffff:10.0.0.0"}},
	{
		"exclusion of the other family", pool.Spec{Ranges: ranges("10.0.0.0/24"), Exclude: ranges("2001:db8::7")},
		[]string{"exclusion 2001:db8::7", "IPv6"},
	},
	{
		"zero subnet", pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: make([]pool.Subnet, 1)},
		[]string{"subnet", "not a valid"},
	},
	{
		"mapped subnet", pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("::ffff:10.0.0.0/120", "")}},
		[]string{"::ffff:10.0.0.0/120"},
	},
	{
		"subnet with host bits", pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("10.0.0.1/24", "")}},
		[]string{"10.0.0.1/24", "want 10.0.0.0/24"},
	},
	{
		"subnet of the other family",
		pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("2001:db8::/64", "")}},
		[]string{"2001:db8::/64", "IPv6"},
	},
	{
		"gateway of the other family",
		pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", "2001:db8::1")}},
		[]string{"gateway 2001:db8::1", "10.0.0.0/24"},
	},
	{
		"mapped gateway",
		pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", "::ffff:10.0.0.1")}},
		[]string{"gateway ::ffff:10.0.0.1"},
	},
	{
		"gateway outside",
		pool.Spec{Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", "10.0.1.1")}},
		[]string{"gateway 10.0.1.1", "outside of its subnet 10.0.0.0/24"},
	},
	{
		"gateway with a zone",
		pool.Spec{Ranges: ranges("fe80::/64"), Subnets: []pool.Subnet{subnet("fe80::/64", "fe80::1%eth0")}},
		[]string{"gateway fe80::1%eth0"},
	},
	{"subnets that overlap", pool.Spec{
		Ranges: ranges("10.0.0.0/24"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", ""), subnet("10.0.0.128/25", "")},
	}, []string{"10.0.0.0/24 and 10.0.0.128/25 overlap"}},
	{
		"range outside of the subnets",
		pool.Spec{Ranges: ranges("10.0.0.0/24", "10.0.1.7"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", "")}},
		[]string{"range 10.0.1.7", "subnets"},
	},
	{"range over two subnets", pool.Spec{
		Ranges: ranges("10.0.0.9-10.0.1.9"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", ""), subnet("10.0.1.0/24", "")},
	}, []string{"range 10.0.0.9-10.0.1.9"}},
	{
		"negative IPv4 length", pool.Spec{Ranges: ranges("10.0.0.0/24"), IPv4: pool.FamilySpec{Bits: -1}},
		[]string{"IPv4 prefix length -1", "1 to 32"},
	},
	{
		"IPv4 length too large", pool.Spec{Ranges: ranges("10.0.0.0/24"), IPv4: pool.FamilySpec{Bits: 33}},
		[]string{"IPv4 prefix length 33", "1 to 32"},
	},
	{
		"IPv6 length too large", pool.Spec{Ranges: ranges("2001:db8::/64"), IPv6: pool.FamilySpec{Bits: 129}},
		[]string{"IPv6 prefix length 129", "1 to 128"},
	},
	{
		"length of the other family", pool.Spec{Ranges: ranges("10.0.0.0/24"), IPv6: pool.FamilySpec{Bits: 64}},
		[]string{"IPv6 prefix length, 64"},
	},
	{
		"length of the other family, IPv4", pool.Spec{Ranges: ranges("2001:db8::/64"), IPv4: pool.FamilySpec{Bits: 24}},
		[]string{"IPv4 prefix length, 24"},
	},
	{
		"all excluded", pool.Spec{Ranges: ranges("10.0.0.7"), Exclude: ranges("10.0.0.0/24")}, []string{"all IPv4 addresses"},
	},
	{
		"all reserved", pool.Spec{Ranges: ranges("10.0.0.0/30"), Exclude: ranges("10.0.0.1-10.0.0.2")},
		[]string{"all IPv4 addresses"},
	},
	{
		"one family has nothing", pool.Spec{Ranges: ranges("10.0.0.0/24", "2001:db8::7"), Exclude: ranges("2001:db8::/64")},
		[]string{"all IPv6 addresses"},
	},
	{
		"no room for a prefix", pool.Spec{Ranges: ranges("10.0.0.1-10.0.0.254"), IPv4: pool.FamilySpec{Bits: 25}},
		[]string{"IPv4 prefix of length 25"},
	},
}

func TestInvariant10InvalidSpecsAreRefusedBeforeAnythingChanges(t *testing.T) {
	injector := &faults.Injector{}
	s := injector.Wrap(store.NewMemory())
	for _, c := range invalidSpecs {
		t.Run(c.name, func(t *testing.T) {
			_, inMemory := pool.New(c.spec, nil)
			_, inStore := pool.Create(t.Context(), s, "blue", c.spec, nil)
			for _, err := range []error{c.spec.Validate(), inMemory, inStore} {
				require.ErrorIs(t, err, pool.ErrInvalid)
				for _, text := range c.quotes {
					require.ErrorContains(t, err, text)
				}
			}
		})
	}
	require.Zero(t, injector.Counts().Commit)
}

// Whatever a spec is made of, it is refused with an error that says why, or makes a pool that hands something out.
func TestInvariant10AnySpecIsRefusedOrWorks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		universes := []netip.Prefix{
			prefix("10.0.0.0/29"), prefix("2001:db8::/125"), prefix("::ffff:0:0/93"), prefix("255.255.255.248/29"),
		}
		some := rapid.Custom(func(t *rapid.T) netip.Addr {
			return rapid.OneOf(
				anyAddr(universes[0]), anyAddr(universes[1]), anyAddr(prefix("::fffe:ffff:fffe/127")), anyAddr(universes[3]),
				rapid.Just(netip.Addr{}), rapid.Just(addr("fe80::1%eth0")), rapid.Just(addr("::ffff:10.0.0.1")),
			).Draw(t, "address")
		})
		someRange := rapid.Custom(func(t *rapid.T) netipx.IPRange {
			return netipx.IPRangeFrom(some.Draw(t, "from"), some.Draw(t, "to"))
		})
		spec := pool.Spec{
			Ranges:   rapid.SliceOfN(someRange, 0, 3).Draw(t, "ranges"),
			Exclude:  rapid.SliceOfN(someRange, 0, 2).Draw(t, "exclude"),
			Families: rapid.SliceOfN(rapid.SampledFrom([]pool.Family{4, 6, 6, 4, 0, 5}), 0, 2).Draw(t, "families"),
			IPv4: pool.FamilySpec{
				Bits:             rapid.SampledFrom([]int{0, 0, 0, 30, 33, -1}).Draw(t, "v4 bits"),
				MinBits:          rapid.SampledFrom([]int{0, 0, 0, 29, 31, 33, -1}).Draw(t, "least v4 bits"),
				AllocateReserved: rapid.Bool().Draw(t, "allocate reserved IPv4 addresses"),
			},
			IPv6: pool.FamilySpec{
				Bits:             rapid.SampledFrom([]int{0, 0, 0, 126, 129, -1}).Draw(t, "v6 bits"),
				MaxBits:          rapid.SampledFrom([]int{0, 0, 0, 125, 127, 129, -1}).Draw(t, "greatest v6 bits"),
				AllocateReserved: rapid.Bool().Draw(t, "allocate reserved IPv6 addresses"),
			},
		}
		for range rapid.IntRange(0, 2).Draw(t, "subnets") {
			p := netip.PrefixFrom(some.Draw(t, "subnet"), rapid.IntRange(-1, 129).Draw(t, "bits"))
			spec.Subnets = append(spec.Subnets, pool.Subnet{Prefix: p, Gateway: some.Draw(t, "gateway")})
		}
		memory := store.NewMemory()
		p, err := pool.Create(context.Background(), memory, "blue", spec, nil)
		if err != nil {
			require.ErrorIs(t, err, pool.ErrInvalid)
			_, err = pool.Open(context.Background(), memory, "blue", nil)
			require.ErrorIs(t, err, pool.ErrNotFound)
			return
		}
		a, err := p.Allocate(context.Background(), pool.Claim{Owner: "a", Policy: pool.PreferDualStack})
		if hasEmptyFamily(spec) {
			require.ErrorIs(t, err, pool.ErrExhausted)
			return
		}
		require.NoError(t, err)
		require.Len(t, a.Prefixes, len(spec.AllFamilies()))
	})
}

// hasEmptyFamily reports whether a spec names a family that has no addresses.
func hasEmptyFamily(spec pool.Spec) bool {
	return slices.ContainsFunc(spec.AllFamilies(), func(f pool.Family) bool { return len(spec.Set(f).Ranges()) == 0 })
}

func TestNamesOfPools(t *testing.T) {
	s := store.NewMemory()
	names := []string{
		"a/b", "..", " ", "line\nbreak", "ünïcode 🐘", `"`, "%2F", strings.Repeat("x", store.MaxNameBytes),
	}
	for _, name := range names {
		p, err := pool.Create(t.Context(), s, name, specOf("10.0.0.0/24"), nil)
		require.NoError(t, err, "%q", name)
		require.Equal(t, name, p.Name())
		a := allocate(t, p, pool.Claim{Owner: name})
		p, err = pool.Open(t.Context(), s, name, nil)
		require.NoError(t, err)
		got, err := p.Get(t.Context(), pool.Held{Owner: name})
		require.NoError(t, err)
		require.Equal(t, a, got)
		require.Equal(t, uint64(1), used(t, p), "pools do not meet")
	}
	listed := map[string]bool{}
	for info, err := range pool.List(t.Context(), s) {
		require.NoError(t, err)
		listed[info.Name] = true
		require.Equal(t, uint64(1), info.StatsOf(pool.IPv4).Used.Uint64())
		require.Equal(t, specOf("10.0.0.0/24"), info.Spec)
		require.WithinDuration(t, time.Now(), info.Created, time.Minute)
	}
	require.Len(t, listed, len(names))
	for _, name := range []string{"", "a\x00b", "a\xffb", strings.Repeat("x", store.MaxNameBytes+1)} {
		_, err := pool.Create(t.Context(), s, name, specOf("10.0.0.0/24"), nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		_, err = pool.Open(t.Context(), s, name, nil)
		require.ErrorIs(t, err, pool.ErrInvalid)
		require.Error(t, pool.Delete(t.Context(), s, name, nil))
	}
}

func TestPoolsComeAndGo(t *testing.T) {
	memory := store.NewMemory()
	_, err := pool.Open(t.Context(), memory, "blue", nil)
	require.ErrorIs(t, err, pool.ErrNotFound)
	require.ErrorIs(t, pool.Delete(t.Context(), memory, "blue", nil), pool.ErrNotFound)

	p := create(t, memory, specOf("10.0.0.0/24", "2001:db8::/64"))
	_, err = pool.Create(t.Context(), memory, "blue", specOf("192.0.2.0/24"), nil)
	require.ErrorIs(t, err, pool.ErrExists)
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, specOf("10.0.0.0/24", "2001:db8::/64"), info.Spec, "the one that exists is as it was")

	allocate(t, p, pool.Claim{Owner: "six", Requests: []pool.Request{{Family: pool.IPv6}}})
	err = pool.Delete(t.Context(), memory, "blue", nil)
	require.ErrorIs(t, err, pool.ErrInUse)
	require.ErrorContains(t, err, "1 of its IPv6 addresses")
	requireOK(t, p)
	release(t, p, "six")
	require.NoError(t, pool.Delete(t.Context(), memory, "blue", nil))

	for name, call := range map[string]func() error{
		"allocate": func() error { _, err := p.Allocate(t.Context(), pool.Claim{Owner: "a"}); return err },
		"release":  func() error { _, err := p.Release(t.Context(), pool.Held{Owner: "six"}); return err },
		"get":      func() error { _, err := p.Get(t.Context(), pool.Held{Owner: "six"}); return err },
		"10.0.0.0": func() error { _, err := p.Get(t.Context(), pool.Held{Addr: addr("10.0.0.0")}); return err },
		"info":     func() error { _, err := p.Info(t.Context()); return err },
		"verify":   func() error { _, err := p.Verify(t.Context()); return err },
		"repair":   func() error { _, err := p.Repair(t.Context()); return err },
	} {
		err := call()
		require.ErrorIs(t, err, pool.ErrNotFound, name)
		require.ErrorContains(t, err, name)
	}
}

func TestInvariant7AnotherPoolUnderLiveHandles(t *testing.T) {
	// A pool is deleted, which is refused while it is in use, and created again with another spec. Handles of the
	// earlier pool find that out with whatever they do next.
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		memory := store.NewMemory()
		first, second := anyModel().Draw(t, "first"), anyModel().Draw(t, "second")
		if rapid.Bool().Draw(t, "same spec") {
			second = first
		}
		s := newMachine(t, memory)
		stale, err := pool.Create(ctx, memory, "blue", first.Spec, s.options)
		require.NoError(t, err)
		held := rapid.IntRange(0, 3).Draw(t, "held")
		for i := range held {
			if _, err := stale.Allocate(ctx, pool.Claim{Owner: owners[i]}); err != nil {
				require.ErrorIs(t, err, pool.ErrExhausted)
				held = i
				break
			}
		}
		for i := range held {
			require.ErrorIs(t, pool.Delete(ctx, memory, "blue", nil), pool.ErrInUse)
			_, err := stale.Release(ctx, pool.Held{Owner: owners[i]})
			require.NoError(t, err)
		}
		require.NoError(t, pool.Delete(ctx, memory, "blue", nil))
		fresh, err := pool.Create(ctx, memory, "blue", second.Spec, s.options)
		require.NoError(t, err)
		s.run(t, world.NewPool("blue", second.Universe, second.Spec), stale, fresh)
		s.repeat(t)
	})
}

func TestUnreadableHeads(t *testing.T) {
	memory := store.NewMemory()
	create(t, memory, specOf("10.0.0.0/24", "2001:db8::/64"))
	key := store.Key{Kind: store.KindPool, Pool: "blue"}
	good, err := memory.Get(t.Context(), key)
	require.NoError(t, err)
	text := string(good.Data)
	for name, data := range map[string]string{
		"empty":                 ``,
		"not an object":         `7`,
		"another format":        strings.Replace(text, `"format":1`, `"format":0`, 1),
		"no spec":               strings.Replace(text, `"ranges"`, `"other"`, 1),
		"spec that is refused":  strings.Replace(text, `"10.0.0.0/24"`, `"10.0.0.0/99"`, 1),
		"spec against the rule": strings.Replace(text, `"allocateReserved":true`, `"ipv4Bits":77`, 1),
		"no spaces":             strings.Replace(text, `"spaces"`, `"other"`, 1),
		"negative count":        strings.Replace(text, `"used":"0"`, `"used":"-1"`, 1),
		"families swapped": strings.Replace(text, `"ranges":["10.0.0.0/24","2001:db8::/64"]`,
			`"ranges":["2001:db8::/64","10.0.0.0/24"]`, 1),
		"piece from elsewhere": strings.Replace(text, `"from":"0.0.0.0"`, `"from":"10.0.0.0"`, 1),
		"piece of no address":  strings.Replace(text, `"from":"0.0.0.0"`, `"from":""`, 1),
		"piece twice":          strings.Replace(text, `"pieces":[`, `"pieces":[{"from":"0.0.0.0"},`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			require.NotEqual(t, text, data)
			bad := good
			bad.Data = json.RawMessage(data)
			head, err := memory.Get(t.Context(), key)
			require.NoError(t, err)
			bad.Revision = head.Revision
			_, err = storetest.CommitOne(t.Context(), memory, bad)
			require.NoError(t, err)
			_, err = pool.Open(t.Context(), memory, "blue", nil)
			require.ErrorIs(t, err, pool.ErrCorrupt)
		})
	}
}

// However a head is changed, a handle answers or fails, and does not panic.
func TestGarbledHeadsDoNotPanic(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		memory := store.NewMemory()
		p, err := pool.Create(ctx, memory, "blue", specOf("10.0.0.0/24", "2001:db8::/120"), nil)
		require.NoError(t, err)
		_, err = p.Allocate(ctx, pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
		require.NoError(t, err)
		head, err := memory.Get(ctx, store.Key{Kind: store.KindPool, Pool: "blue"})
		require.NoError(t, err)
		for range rapid.IntRange(1, 3).Draw(t, "changes") {
			i := rapid.IntRange(0, len(head.Data)-1).Draw(t, "at")
			head.Data[i] = rapid.SampledFrom([]byte(`0123456789abcAB=/.:,"{}[]`)).Draw(t, "byte")
		}
		if !json.Valid(head.Data) {
			t.Skip()
		}
		_, err = storetest.CommitOne(ctx, memory, head)
		require.NoError(t, err)
		for _, p := range []*pool.Pool{p, nil} {
			if p == nil {
				if p, err = pool.Open(ctx, memory, "blue", nil); err != nil {
					continue
				}
			}
			_, _ = p.Allocate(ctx, pool.Claim{Owner: "b", Policy: pool.PreferDualStack})
			_, _ = p.Release(ctx, pool.Held{Owner: "a"})
			_, _ = p.Info(ctx)
			_, _ = p.Repair(ctx)
		}
	})
}

func TestDualStackIsAllOrNothing(t *testing.T) {
	inMemory, err := pool.New(specOf("10.0.0.0/24", "2001:db8::/127"), nil)
	require.NoError(t, err)
	for name, p := range map[string]*pool.Pool{
		"in memory": inMemory, "in a store": create(t, store.NewMemory(), specOf("10.0.0.0/24", "2001:db8::/127")),
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 2 {
				allocate(t, p, pool.Claim{Owner: fmt.Sprint(i), Policy: pool.RequireDualStack})
			}
			for i := range 100 {
				for _, policy := range []pool.FamilyPolicy{pool.RequireDualStack, pool.PreferDualStack} {
					owner := fmt.Sprint("fails ", i)
					_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Policy: policy})
					require.ErrorIs(t, err, pool.ErrExhausted)
					require.ErrorContains(t, err, "IPv6")
					requireHoldsNothing(t, p, owner)
				}
			}
			require.Equal(t, uint64(2), used(t, p))
			require.Equal(t, "10.0.0.2", texts(allocate(t, p, pool.Claim{Owner: "next"})))
			requireOK(t, p)
		})
	}
}

func TestLateReleaseLeavesTheSuccessorAlone(t *testing.T) {
	for _, sameAddress := range []bool{true, false} {
		memory := store.NewMemory()
		p, other := create(t, memory, specOf("10.0.0.0/24")), (*pool.Pool)(nil)
		other = open(t, memory.Open())
		first := allocate(t, p, pool.Claim{Owner: "a"})
		release(t, other, "a")
		if !sameAddress {
			allocate(t, other, pool.Claim{Owner: "b"})
		}
		second := allocate(t, other, pool.Claim{Owner: "a"})
		require.Greater(t, second.Generation, first.Generation)
		for _, late := range []*pool.Pool{p, other, open(t, memory.Open())} {
			_, err := late.Release(t.Context(), pool.Held{Owner: "a", Generation: first.Generation})
			require.ErrorIs(t, err, pool.ErrGeneration)
			got, err := late.Get(t.Context(), pool.Held{Owner: "a"})
			require.NoError(t, err)
			require.Equal(t, second, got)
		}
		got, err := p.Release(t.Context(), pool.Held{Owner: "a", Generation: second.Generation})
		require.NoError(t, err)
		require.Equal(t, second, got)
		requireOK(t, p)
	}
}

func TestInvariant2FailedCallsLeaveNoTrace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		m := anyModel().Draw(t, "pool")
		memory := store.NewMemory()
		injector := &faults.Injector{}
		p, err := pool.Create(ctx, injector.Wrap(memory), "blue", m.Spec, nil)
		require.NoError(t, err)
		dump := func() map[store.Key]string {
			all := map[store.Key]string{}
			for _, kind := range []store.Kind{store.KindPool, store.KindAllocation, store.KindSpace} {
				for r, err := range memory.List(ctx, kind, "") {
					require.NoError(t, err)
					all[r.Key] = fmt.Sprint(r)
				}
			}
			return all
		}
		for range rapid.IntRange(1, 20).Draw(t, "calls") {
			before := dump()
			injector.ResetCounts()
			injector.Choose = nil
			if rapid.Bool().Draw(t, "refuse") {
				injector.Choose = faults.Script(faults.Fault{Effect: faults.Refuse})
			}
			if c := anyClaim(m).Draw(t, "claim"); rapid.IntRange(0, 3).Draw(t, "release") > 0 {
				_, err = p.Allocate(ctx, c)
			} else {
				_, err = p.Release(ctx, pool.Held{Owner: c.Owner})
			}
			if err != nil {
				require.Equal(t, before, dump())
				continue
			}
			info, err := p.Info(ctx)
			require.NoError(t, err)
			stats := info.Stats
			for _, f := range stats {
				require.Equal(t, f.Total, f.Used.Add(f.Free).Add(f.Reserved))
			}
		}
		requireOK(t, p)
	})
}

func TestInvariant8CountersOfHugePools(t *testing.T) {
	p, err := pool.New(pool.Spec{
		Ranges: ranges("0.0.0.0/0", "100::/8", "1000::/4", "2000::/3", "4000::/2", "8000::/1"),
		IPv4:   pool.FamilySpec{AllocateReserved: true}, IPv6: pool.FamilySpec{AllocateReserved: true},
	}, nil)
	require.NoError(t, err)
	six := cidr.Count{}
	for _, bits := range []int{120, 124, 125, 126, 127} {
		six = six.Add(cidr.Pow2(bits))
	}
	want := []pool.Stats{
		{Family: pool.IPv4, Total: cidr.Pow2(32), Free: cidr.Pow2(32)},
		{Family: pool.IPv6, Total: six, Free: six},
	}
	info, err := p.Info(t.Context())
	require.NoError(t, err)
	stats := info.Stats
	require.Equal(t, want, stats)
	allocate(t, p, claim("a", "8000::/1", "0.0.0.0/1"))
	info, err = p.Info(t.Context())
	require.NoError(t, err)
	stats = info.Stats
	want[0].Used, want[0].Free = cidr.Pow2(31), cidr.Pow2(31)
	want[1].Used, want[1].Free = cidr.Pow2(127), six.Sub(cidr.Pow2(127))
	require.Equal(t, want, stats)
	require.Equal(t, pool.Stats{Family: 7}, countsOf(stats, 7))
}

func TestErrorsSayWhatFailed(t *testing.T) {
	p := create(t, store.NewMemory(), pool.Spec{
		Ranges: ranges("10.0.0.0/24"), Exclude: ranges("10.0.0.9"), Subnets: []pool.Subnet{subnet("10.0.0.0/24", "10.0.0.1")},
	})
	allocate(t, p, claim("holder", "10.0.0.7"))
	for text, c := range map[string]pool.Claim{
		`"a": 10.0.0.7/32: taken`:                                        claim("a", "10.0.0.7"),
		`"a": 10.0.0.9/32: not in the pool: it is excluded`:              claim("a", "10.0.0.9"),
		`"a": 10.0.0.1/32: not in the pool: 10.0.0.1 is a gateway`:       claim("a", "10.0.0.1"),
		`"a": 10.0.1.1/32: not in the pool: it is outside of the ranges`: claim("a", "10.0.1.1"),
		`"holder": owner holds something else: it holds [10.0.0.7/32]`:   claim("holder", "10.0.0.8"),
		`"a": family not in the pool: IPv6`:                              claim("a", "2001:db8::1"),
		`"a": 10.0.0.255/32: not in the pool: ` +
			`10.0.0.255 is reserved as the first or last address of its subnet`: claim("a", "10.0.0.255"),
	} {
		_, err := p.Allocate(t.Context(), c)
		require.EqualError(t, err, `pool "blue": allocate for `+text)
		var e *pool.Error
		require.ErrorAs(t, err, &e)
		require.Equal(t, c.Owner, e.Owner)
	}
}

// What may be handed out, for specs that people write in different ways.
func TestSpecSet(t *testing.T) {
	plain := func(texts ...string) pool.Spec { return pool.Spec{Ranges: ranges(texts...)} }
	with := func(spec pool.Spec, subnets ...pool.Subnet) pool.Spec {
		spec.Subnets = subnets
		return spec
	}
	for name, c := range map[string]struct {
		spec pool.Spec
		want []string
	}{
		"a CIDR is a subnet": {plain("192.168.0.0/24"), []string{"192.168.0.1-192.168.0.254"}},
		"two CIDRs are two": {
			plain("192.168.0.0/28", "192.168.0.16/28"), []string{"192.168.0.1-192.168.0.14", "192.168.0.17-192.168.0.30"},
		},
		"a part of another range is not": {plain("192.168.0.0/28", "192.168.0.0/24"), []string{"192.168.0.1-192.168.0.254"}},
		"nor in the middle of one": {
			plain("192.168.1.0/24", "192.168.0.0/16"), []string{"192.168.0.1-192.168.255.254"},
		},
		"a named subnet alone is": {with(plain("10.0.0.4-10.0.0.7"), subnet("10.0.0.0/24", "")), []string{"10.0.0.4/30"}},
		"subnets without ranges": {
			with(pool.Spec{}, subnet("10.0.0.0/29", "10.0.0.1"), subnet("10.0.0.8/30", "")),
			[]string{"10.0.0.2-10.0.0.6", "10.0.0.9-10.0.0.10"},
		},
		"two gateways of a subnet": {
			with(pool.Spec{}, subnet("10.0.0.0/29", "10.0.0.1"), subnet("10.0.0.0/29", "10.0.0.6")),
			[]string{"10.0.0.2-10.0.0.5"},
		},
		"all of IPv6": {plain("::/0"), []string{"::1-::fffe:ffff:ffff", "::1:0:0:0-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}},
	} {
		require.NoError(t, c.spec.Validate(), name)
		require.Equal(t, c.want, cidr.FormatSet(c.spec.Set(c.spec.AllFamilies()[0])), name)
		text, err := json.Marshal(c.spec)
		require.NoError(t, err, name)
		var again pool.Spec
		require.NoError(t, json.Unmarshal(text, &again), name)
		require.True(t, again.Equal(c.spec), name)
	}
}

// A claim is met if it can be, whatever the order of its requests.
func TestRequestsInAnyOrder(t *testing.T) {
	p := must(pool.New(specOf("10.0.0.0-10.0.0.2"), nil))
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: []pool.Request{{Bits: 32}, {Bits: 31}}})
	require.NoError(t, err)
	require.Equal(t, "[10.0.0.2/32 10.0.0.0/31]", fmt.Sprint(a.Prefixes))

	p = must(pool.New(pool.Spec{Ranges: ranges("10.0.0.0/29")}, nil))
	lowest := must(cidr.ParseSet("10.0.0.1"))
	a, err = p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: []pool.Request{{}, {Within: lowest}}})
	require.NoError(t, err)
	require.Equal(t, "[10.0.0.2/32 10.0.0.1/32]", fmt.Sprint(a.Prefixes))
}
