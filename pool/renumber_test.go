package pool_test

import (
	"context"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

var oldPrefix, newPrefix = prefix("10.0.0.0/24"), prefix("10.9.0.0/24")

// moving is a spec in oldPrefix, with something of everything that moves.
func moving(t testing.TB) pool.Spec {
	t.Helper()
	spec := specOf("10.0.0.0/24")
	spec.Subnets = []pool.Subnet{{Prefix: oldPrefix, Gateway: addr("10.0.0.1")}}
	spec.Exclude = setOf("10.0.0.4").Ranges()
	spec.Bands = []pool.Band{{Name: "static", Ranges: setOf("10.0.0.2-10.0.0.3").Ranges()}}
	spec.IPv4, spec.Cooldown = pool.FamilySpec{}, time.Hour
	require.NoError(t, spec.Validate())
	return spec
}

// Owners get the new address beside the old one, are found by both, and keep the new one in the end, with all else.
func TestRenumber(t *testing.T) {
	inMemoryAndStored(t, moving(t), func(t *testing.T, p *trial) {
		before := allocate(t, p.Pool, lease("a", 3*time.Hour))
		allocate(t, p.Pool, claim("exact", "10.0.0.9"))
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))

		for _, by := range []string{"10.0.0.5", "10.9.0.5"} {
			got, err := p.Get(t.Context(), pool.Held{Addr: addr(by)})
			require.NoError(t, err)
			want := before
			want.Beside = []netip.Prefix{prefix("10.9.0.5/32")}
			require.Equal(t, want, got)
		}
		require.Equal(t, "10.9.0.6/32", allocate(t, p.Pool, pool.Claim{Owner: "new"}).Beside[0].String())
		for _, same := range []string{"10.0.0.9", "10.9.0.9"} {
			require.Equal(t, "10.0.0.9", allocate(t, p.Pool, claim("exact", same)).Addrs()[0].String())
		}
		_, err := p.Allocate(t.Context(), claim("other", "10.9.0.20"))
		require.ErrorIs(t, err, pool.ErrNotInPool)
		_, err = p.Release(t.Context(), pool.Held{Addr: addr("10.9.0.6")})
		require.NoError(t, err)
		require.Equal(t, "10.0.0.7", allocate(t, p.Pool, pool.Claim{Owner: "x"}).Addrs()[0].String(), "both cool down")
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, pool.Renumbering{From: oldPrefix, To: newPrefix}, info.Renumbering)
		require.Equal(t, "3", info.StatsOf(pool.IPv4).Used.String(), "each pair counts once")

		require.NoError(t, p.FinishRenumber(t.Context()))
		got, err := p.Get(t.Context(), pool.Held{Owner: "a"})
		require.NoError(t, err)
		before.Prefixes = []netip.Prefix{prefix("10.9.0.5/32")}
		require.Equal(t, before, got)
		_, err = p.Get(t.Context(), pool.Held{Addr: addr("10.0.0.5")})
		require.ErrorIs(t, err, pool.ErrNotFound)
		require.Equal(t, "10.9.0.8", allocate(t, p.Pool, pool.Claim{Owner: "y"}).Addrs()[0].String(), "it still cools down")
		require.NoError(t, p.FinishRenumber(t.Context()), "nothing is left to do")
		info, err = p.Info(t.Context())
		require.NoError(t, err)
		require.Zero(t, info.Renumbering)
		require.Equal(t, addr("10.9.0.1"), info.Spec.Subnets[0].Gateway)
		require.Zero(t, info.StatsOf(pool.IPv4).OutOfRange)
		requireOK(t, p.Pool)
	})
}

// What cools down beside what its owner holds, what is in quarantine, and what is reserved moves too.
func TestRenumberKeepsCoolingAndReserved(t *testing.T) {
	inMemoryAndStored(t, moving(t), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, claim("aside", "10.0.0.5"))
		release(t, p.Pool, "aside")
		allocate(t, p.Pool, claim("aside", "10.0.0.9"))
		reserve(t, p.Pool, claim("vm", "10.0.0.6"))
		allocate(t, p.Pool, claim("declines", "10.0.0.7"))
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
		_, err := p.Decline(t.Context(), pool.Held{Addr: addr("10.9.0.7")}, 4*time.Hour)
		require.NoError(t, err)
		require.NoError(t, p.FinishRenumber(t.Context()))
		requireOK(t, p.Pool)

		require.Equal(t, "10.9.0.8", allocate(t, p.Pool, pool.Claim{Owner: "x"}).Addrs()[0].String())
		require.Equal(t, "10.9.0.6", allocate(t, p.Pool, pool.Claim{Owner: "vm"}).Addrs()[0].String())
		p.clock.Add(2 * time.Hour)
		requireExpired(t, p.Pool, 1)
		require.Equal(t, "10.9.0.5", allocate(t, p.Pool, pool.Claim{Owner: "y"}).Addrs()[0].String())
		require.Equal(t, "10.9.0.10", allocate(t, p.Pool, pool.Claim{Owner: "z"}).Addrs()[0].String())
		p.clock.Add(4 * time.Hour)
		requireExpired(t, p.Pool, 1)
		require.Equal(t, "10.9.0.7", allocate(t, p.Pool, pool.Claim{Owner: "w"}).Addrs()[0].String())
		requireOK(t, p.Pool)
	})
}

// What cools down in both families moves also if only its second prefix does.
func TestRenumberOneFamily(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/24", "2001:db8:1::/64"), func(t *testing.T, p *trial) {
		both := pool.Claim{Owner: "a", Policy: pool.RequireDualStack}
		allocate(t, p.Pool, both)
		_, err := p.Decline(t.Context(), pool.Held{Owner: "a"}, time.Hour)
		require.NoError(t, err)
		require.NoError(t, p.Renumber(t.Context(), prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64")))
		held := allocate(t, p.Pool, both)
		require.Equal(t, []netip.Prefix{prefix("2001:db8:2::1/128")}, held.Beside)
		require.NoError(t, p.FinishRenumber(t.Context()))
		all, err := p.Snapshot(t.Context())
		require.NoError(t, err)
		require.Equal(t, []netip.Prefix{prefix("10.0.0.0/32"), prefix("2001:db8:2::/128")}, all.Cooling[0].Prefixes)
		require.Equal(t, []netip.Prefix{prefix("10.0.0.1/32"), prefix("2001:db8:2::1/128")}, all.Allocations[0].Prefixes)
		requireOK(t, p.Pool)
		p.clock.Add(2 * time.Hour)
		requireExpired(t, p.Pool, 1)
	})
}

// requireExpired requires so many leases and cooldowns to have ended, and frees them.
func requireExpired(t testing.TB, p *pool.Pool, want int) {
	t.Helper()
	n, err := p.Expire(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, n)
}

// Nothing moves if anything cannot, and the plan says what.
func TestRenumberIsRefusedAsAWhole(t *testing.T) {
	spec := moving(t)
	spec.Exclude = append(spec.Exclude, setOf("10.9.0.8").Ranges()...)
	inMemoryAndStored(t, spec, func(t *testing.T, p *trial) {
		allocate(t, p.Pool, claim("fits", "10.0.0.7"))
		allocate(t, p.Pool, claim("excluded", "10.0.0.8"))
		allocate(t, p.Pool, claim("drained", "10.0.0.200"))
		drained := spec
		drained.Exclude = append(drained.Exclude, setOf("10.0.0.200").Ranges()...)
		require.NoError(t, p.Drain(t.Context(), drained))

		plan, err := p.PlanRenumber(t.Context(), oldPrefix, newPrefix)
		require.NoError(t, err)
		require.False(t, plan.OK())
		require.Equal(t, []pool.RenumberMove{
			{Owner: "fits", Old: prefix("10.0.0.7/32"), New: prefix("10.9.0.7/32")},
			{
				Owner: "excluded", Old: prefix("10.0.0.8/32"), New: prefix("10.9.0.8/32"),
				Obstacle: "10.9.0.8/32 is not handed out: it is excluded",
			},
			{Owner: "drained", Old: prefix("10.0.0.200/32"), New: prefix("10.9.0.200/32"), Obstacle: "it is out of range"},
		}, plan.Moves)
		info, err := p.Info(t.Context())
		require.NoError(t, err)

		err = p.Renumber(t.Context(), oldPrefix, newPrefix)
		require.ErrorIs(t, err, pool.ErrOutOfRange)
		var list *pool.Error
		require.ErrorAs(t, err, &list)
		require.Len(t, list.Allocations, 2)
		after, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, info, after)
		got, err := p.Get(t.Context(), pool.Held{Owner: "fits"})
		require.NoError(t, err)
		require.Empty(t, got.Beside)

		release(t, p.Pool, "excluded")
		release(t, p.Pool, "drained")
		p.clock.Add(2 * time.Hour)
		requireExpired(t, p.Pool, 1)
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
		_, err = p.Allocate(t.Context(), claim("later", "10.0.0.8"))
		require.ErrorIs(t, err, pool.ErrNotInPool, "its new address is excluded")
	})
}

func TestRenumberBadInput(t *testing.T) {
	p, err := pool.New(specOf("10.0.0.0/25", "10.1.0.0/24", "2001:db8::/64"), nil)
	require.NoError(t, err)
	for _, c := range []struct{ from, to, want string }{
		{"10.0.0.1/24", "10.9.0.0/24", "10.0.0.1/24 has host bits set, want 10.0.0.0/24"},
		{"10.0.0.0/24", "10.9.0.1/24", "10.9.0.1/24 has host bits set"},
		{"10.0.0.0/24", "::ffff:10.9.0.0/120", "::ffff:10.9.0.0/120 is not a valid"},
		{"10.0.0.0/24", "2001:db8:1::/48", "of two families"},
		{"10.0.0.0/24", "10.9.0.0/25", "10.9.0.0/25 is smaller than 10.0.0.0/24"},
		{"10.0.0.0/24", "10.0.0.0/16", "overlap"},
		{"10.2.0.0/24", "10.9.0.0/24", "no ranges in 10.2.0.0/24"},
		{"10.0.0.0/26", "10.9.0.0/26", "10.0.0.0/25 is only partly in 10.0.0.0/26"},
		{"10.0.0.0/24", "10.1.0.0/24", "10.1.0.0/24 of the pool is in 10.1.0.0/24 already"},
	} {
		_, planned := p.PlanRenumber(t.Context(), netip.MustParsePrefix(c.from), netip.MustParsePrefix(c.to))
		err := p.Renumber(t.Context(), netip.MustParsePrefix(c.from), netip.MustParsePrefix(c.to))
		for _, err := range []error{planned, err} {
			require.ErrorIs(t, err, pool.ErrInvalid, "%v", c)
			require.ErrorContains(t, err, c.want)
		}
	}
	require.ErrorIs(t, p.Renumber(t.Context(), netip.Prefix{}, newPrefix), pool.ErrInvalid)
	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	err = p.Renumber(t.Context(), oldPrefix, prefix("10.8.0.0/24"))
	require.ErrorIs(t, err, pool.ErrInUse)
	require.ErrorContains(t, err, "renumbered from 10.0.0.0/24 to 10.9.0.0/24")
}

// Pools within pools are not renumbered, and none is made while a pool is.
func TestRenumberAndDelegation(t *testing.T) {
	s := store.NewMemory()
	p, err := pool.Create(t.Context(), s, "parent", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	block := pool.Claim{Owner: "node", Requests: []pool.Request{{Bits: 28}}}
	child, _, err := pool.Delegate(t.Context(), p, block, "child", pool.Spec{}, nil)
	require.NoError(t, err)
	require.ErrorIs(t, p.Renumber(t.Context(), oldPrefix, newPrefix), pool.ErrInUse)
	require.ErrorIs(t, child.Renumber(t.Context(), oldPrefix, newPrefix), pool.ErrInvalid)
	require.NoError(t, pool.Delete(t.Context(), s, "child", nil))
	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	_, _, err = pool.Delegate(t.Context(), p, block, "child", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrInUse)
	require.NoError(t, p.FinishRenumber(t.Context()))
	_, granted, err := pool.Delegate(t.Context(), p, block, "child", pool.Spec{}, nil)
	require.NoError(t, err)
	require.Equal(t, "10.9.0.0/28", granted.Prefixes[0].String())
	require.NoError(t, world.Audit(t.Context(), s))
}

// In a network both prefixes are the pool's, until the old one has gone from all records.
func TestRenumberInNetwork(t *testing.T) {
	s := store.NewMemory()
	spec := specOf("10.0.0.0/24")
	spec.Network = "net"
	p, err := pool.Create(t.Context(), s, "moves", spec, nil)
	require.NoError(t, err)
	other := specOf("10.9.0.128/25")
	other.Network = "net"
	_, err = pool.Create(t.Context(), s, "other", other, nil)
	require.NoError(t, err)
	require.ErrorIs(t, p.Renumber(t.Context(), oldPrefix, newPrefix), pool.ErrOverlap)
	require.NoError(t, pool.Delete(t.Context(), s, "other", nil))

	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	for _, ranges := range []string{"10.9.0.128/25", "10.0.0.128/25"} {
		other := specOf(ranges)
		other.Network = "net"
		_, err = pool.Create(t.Context(), s, "other", other, nil)
		require.ErrorIs(t, err, pool.ErrOverlap)
	}
	require.NoError(t, pool.SetExternal(t.Context(), s, "net", setOf("10.9.0.5").Ranges(), false, nil))
	_, err = p.Allocate(t.Context(), claim("a", "10.0.0.5"))
	require.ErrorIs(t, err, pool.ErrNotInPool)
	require.NoError(t, p.FinishRenumber(t.Context()))
	other = specOf("10.0.0.128/25")
	other.Network = "net"
	_, err = pool.Create(t.Context(), s, "other", other, nil)
	require.NoError(t, err)
	require.NoError(t, world.Audit(t.Context(), s))
}

// Thousands are renumbered in a few commits. Wherever a process dies in between, the next one goes on, and what was
// claimed and released meanwhile is right.
func TestRenumberIsResumed(t *testing.T) {
	const owners = 5000
	from, to := prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64")
	for cut := 1; cut <= 3; cut++ {
		t.Run(fmt.Sprint("commit ", cut), func(t *testing.T) {
			memory, injector := store.NewMemory(), &faults.Injector{}
			p, err := pool.Create(t.Context(), injector.Wrap(memory), "site", specOf(from.String()), nil)
			require.NoError(t, err)
			takeAll(t, p, owners)
			other, err := pool.Open(t.Context(), memory, "site", nil)
			require.NoError(t, err)

			calls := []func() error{
				func() error { return p.Renumber(t.Context(), from, to) }, func() error { return p.FinishRenumber(t.Context()) },
			}
			for i, call := range calls {
				dieAt(injector, cut)
				require.ErrorIs(t, call(), faults.ErrInjected)
				injector.Choose = nil
				release(t, other, fmt.Sprint(i))
				got := allocate(t, other, pool.Claim{Owner: fmt.Sprint("late ", i)})
				require.Equal(t, nthOf(from, i), before(got.Addrs()[0], from, to), "what was released is free on both sides")
				requireOK(t, other)
				require.NoError(t, call())
			}
			require.NoError(t, world.Audit(t.Context(), memory))
			n := 0
			for a, err := range other.Allocations(t.Context()) {
				require.NoError(t, err)
				require.True(t, to.Contains(a.Addrs()[0]) && len(a.Beside) == 0, "%v", a)
				if !strings.HasPrefix(a.Owner, "late") {
					var offset int
					_, err := fmt.Sscan(a.Owner, &offset)
					require.NoError(t, err)
					require.Equal(t, nthOf(to, offset), a.Addrs()[0])
				}
				n++
			}
			require.Equal(t, owners, n)
		})
	}
}

// Wherever a renumbering is cut short, what is held or reserved is named by each address that it has by then, although
// its record may not say so yet.
func TestNamesOfWhatIsRenumbered(t *testing.T) {
	for _, test := range []struct{ finish, old bool }{{false, true}, {false, false}, {true, false}} {
		t.Run(fmt.Sprintf("%+v", test), func(t *testing.T) {
			injector := &faults.Injector{}
			p, err := pool.Create(t.Context(), injector.Wrap(store.NewMemory()), "site", specOf("10.0.0.0/24"), nil)
			require.NoError(t, err)
			allocate(t, p, claim("held", "10.0.0.1"))
			reserve(t, p, claim("reserved", "10.0.0.2"))
			allocate(t, p, claim("stays", "10.0.0.3"))
			dieAt(injector, 2)
			require.ErrorIs(t, p.Renumber(t.Context(), oldPrefix, newPrefix), faults.ErrInjected)
			if test.finish {
				dieAt(injector, 2)
				require.ErrorIs(t, p.FinishRenumber(t.Context()), faults.ErrInjected)
			}
			injector.Choose = nil
			held, reserved := pool.Held{Addr: addr("10.9.0.1")}, pool.Held{Addr: addr("10.9.0.2")}
			if test.old {
				held, reserved = pool.Held{Addr: addr("10.0.0.1")}, pool.Held{Addr: addr("10.0.0.2")}
			}

			if test.old || test.finish { // until then what nobody holds is in the old prefix alone
				_, err = p.Allocate(t.Context(), claim("other", reserved.Addr.String()))
				require.ErrorContains(t, err, "reserved")
				got, err := p.Unreserve(t.Context(), reserved)
				require.NoError(t, err)
				require.Equal(t, "reserved", got.Owner)
			}
			got, err := p.Release(t.Context(), held)
			require.NoError(t, err)
			require.Equal(t, "held", got.Owner)
			_, err = p.Release(t.Context(), held)
			require.ErrorIs(t, err, pool.ErrNotFound)
			if test.finish { // the record of this one is found by what it has no more
				_, err = p.Release(t.Context(), pool.Held{Addr: addr("10.0.0.3")})
				require.ErrorIs(t, err, pool.ErrNotFound)
			}
			requireOK(t, p)
		})
	}
}

// takeAll allocates for so many owners, each named by the offset of its address.
func takeAll(t testing.TB, p *pool.Pool, n int) {
	t.Helper()
	var steps iter.Seq[pool.Step] = func(yield func(pool.Step) bool) {
		for i := range n {
			if !yield(pool.Allocate(pool.Claim{Owner: fmt.Sprint(i)})) {
				return
			}
		}
	}
	for r, err := range p.Each(t.Context(), steps) {
		require.NoError(t, err)
		require.NoError(t, r.Err)
	}
}

// dieAt lets no commit through from this one on.
func dieAt(injector *faults.Injector, commit int) {
	commits := 0
	injector.Choose = func(c faults.Call) faults.Fault {
		if c.Method == faults.Commit {
			commits++
		}
		if commits >= commit {
			return faults.Fault{Effect: faults.Refuse}
		}
		return faults.Fault{}
	}
}

// before is the old address of one on either side.
func before(a netip.Addr, from, to netip.Prefix) netip.Addr {
	if old, ok := (pool.Renumbering{From: from, To: to}).Old(netip.PrefixFrom(a, a.BitLen())); ok {
		return old.Addr()
	}
	return a
}

// Owners come and go through other handles while a pool is renumbered, and nobody gets what another one holds.
func TestRenumberWhileInUse(t *testing.T) {
	memory := store.NewMemory()
	from, to := prefix("2001:db8:1::/64"), prefix("2001:db8:2::/64")
	p, err := pool.Create(t.Context(), memory, "site", specOf(from.String()), nil)
	require.NoError(t, err)
	takeAll(t, p, 200)
	var all sync.WaitGroup
	for w := range 4 {
		handle, err := pool.Open(t.Context(), memory, "site", nil)
		require.NoError(t, err)
		all.Go(func() {
			for i := range 50 {
				owner := fmt.Sprint(w, "/", i)
				a, err := handle.Allocate(t.Context(), pool.Claim{Owner: owner})
				if err == nil && i%2 == 0 {
					_, err = handle.Release(t.Context(), pool.Held{Owner: owner})
				} else if err == nil {
					_, err = handle.Release(t.Context(), pool.Held{Owner: fmt.Sprint(50*w + i)})
				}
				if err != nil || len(a.Prefixes) != 1 || len(a.Beside) > 1 {
					t.Errorf("%q: %v, %v", owner, a, err)
				}
			}
		})
	}
	require.NoError(t, p.Renumber(t.Context(), from, to))
	requireOK(t, p)
	require.NoError(t, p.FinishRenumber(t.Context()))
	all.Wait()
	requireOK(t, p)
	require.NoError(t, world.Audit(t.Context(), memory))
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		require.True(t, to.Contains(a.Addrs()[0]), "%v", a)
	}
}

// The n-th address of the old prefix becomes the n-th of the new one, and back.
func TestRenumberingKeepsOffsets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(1, 128).Draw(t, "bits")
		base := func(first byte) netip.Prefix {
			raw := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "base"))
			raw[0] = raw[0]&0x7f | first
			return netip.PrefixFrom(netip.AddrFrom16(raw), bits).Masked()
		}
		n := pool.Renumbering{From: base(0), To: base(0x80)}
		raw := [16]byte(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address"))
		old := netip.PrefixFrom(netip.AddrFrom16(raw), 128)
		_, ok := n.New(old)
		require.Equal(t, n.From.Contains(old.Addr()), ok)
		inside, _ := cidr.Nth(cidr.SetOf(netipx.RangeOfPrefix(n.From)), cidr.CountOf(rapid.Uint64().Draw(t, "offset")))
		if !inside.IsValid() {
			return
		}
		old = netip.PrefixFrom(inside, 128)
		moved, ok := n.New(old)
		require.True(t, ok)
		require.Equal(t, offsetIn(n.From, inside), offsetIn(n.To, moved.Addr()))
		back, ok := n.Old(moved)
		require.True(t, ok)
		require.Equal(t, old, back)
		_, ok = n.New(moved)
		require.False(t, ok)
	})
}

// offsetIn is how many addresses of a prefix come before one.
func offsetIn(p netip.Prefix, a netip.Addr) cidr.Count {
	if a == p.Addr() {
		return cidr.Count{}
	}
	return cidr.RangeSize(netipx.IPRangeFrom(p.Addr(), a.Prev()))
}

// The history tells who had an address on either side, and when: before, while and after a pool is renumbered.
func TestRenumberHistory(t *testing.T) {
	spec := moving(t)
	spec.History = 24 * time.Hour
	now := time.Date(2200, 1, 1, 0, 0, 0, 0, time.UTC)
	p, err := pool.Create(t.Context(), store.NewMemory(), "site", spec, &pool.Options{
		Clock: func() time.Time { return now },
	})
	require.NoError(t, err)
	pass := func() time.Time {
		now = now.Add(time.Minute)
		return now
	}
	who := func(a string, at time.Time) (owners []string) {
		return holdersOf(tenures(t, p, pool.HistoryQuery{Addr: addr(a), From: at, Until: at}))
	}
	const old, moved = "10.0.0.5", "10.9.0.5"
	allocate(t, p, claim("early", old))
	early := pass()
	release(t, p, "early")
	now = now.Add(2 * time.Hour)
	before := allocate(t, p, claim("stays", old))
	pass()
	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	began := pass()
	require.NoError(t, p.FinishRenumber(t.Context()))
	finished := pass()
	release(t, p, "stays")

	require.Equal(t, []string{"early"}, who(old, early.Add(-time.Second)))
	require.Empty(t, who(moved, early.Add(-time.Second)))
	for _, c := range []struct {
		at         time.Time
		old, moved bool
	}{
		{before.Created.Add(-time.Second), false, false}, {before.Created, true, false},
		{began.Add(-time.Minute), true, true}, {began.Add(-time.Second), true, true},
		{began, false, true}, {finished.Add(-time.Second), false, true}, {finished, false, false},
	} {
		for a, want := range map[string]bool{old: c.old, moved: c.moved} {
			require.Equal(t, want, len(who(a, c.at)) == 1, "%s at %v", a, c.at)
		}
	}
	all := tenures(t, p, pool.HistoryQuery{Owner: "stays"})
	require.Len(t, all, 3)
	require.Equal(t, before, all[0].Allocation)
	require.Equal(t, []netip.Prefix{prefix(moved + "/32")}, all[1].Beside)
	for i, want := range []pool.End{pool.Renumbered, pool.Renumbered, pool.Released} {
		require.Equal(t, want, all[i].End)
		require.Equal(t, before.Generation, all[i].Generation)
	}
}

// What is released while its record has only one side was held on that side; and what comes meanwhile, on both.
func TestRenumberHistoryOfWhatIsCutShort(t *testing.T) {
	injector := &faults.Injector{}
	p, now := remembering(t, injector.Wrap(store.NewMemory()), 0)
	allocate(t, p, claim("early", "10.0.0.5"))
	allocate(t, p, claim("stays", "10.0.0.6"))
	step := func(call func() error) {
		*now = now.Add(time.Minute)
		if call != nil {
			dieAt(injector, 2)
			require.ErrorIs(t, call(), faults.ErrInjected)
			injector.Choose = nil
		}
	}
	step(func() error { return p.Renumber(t.Context(), prefix("10.0.0.0/16"), prefix("10.9.0.0/16")) })
	release(t, p, "early")
	allocate(t, p, claim("late", "10.0.0.7"))
	step(func() error { return p.FinishRenumber(t.Context()) })
	release(t, p, "late")
	step(nil)
	require.NoError(t, p.FinishRenumber(t.Context()))
	var got []string
	for _, past := range tenures(t, p, pool.HistoryQuery{}) {
		minutes := func(at time.Time) int { return int(at.Sub(now.Add(-3*time.Minute)) / time.Minute) }
		text := fmt.Sprint(past.Owner, past.Prefixes, past.Beside, " from ", minutes(past.Created))
		if !past.To.IsZero() {
			text += fmt.Sprint(" to ", minutes(past.To), ", ", past.End)
		}
		got = append(got, text)
	}
	require.Equal(t, []string{
		"early[10.0.0.5/32] [] from 0 to 1, released", "late[10.0.0.7/32] [10.9.0.7/32] from 1 to 2, released",
		"stays[10.0.0.6/32] [] from 0 to 3, renumbered", "stays[10.9.0.6/32] [] from 3",
	}, got)
}

// A renumbering that is cancelled leaves all as it was, what came meanwhile too.
func TestCancelRenumber(t *testing.T) {
	inMemoryAndStored(t, moving(t), func(t *testing.T, p *trial) {
		allocate(t, p.Pool, claim("a", "10.0.0.5"))
		before, err := p.Info(t.Context())
		require.NoError(t, err)
		require.NoError(t, p.CancelRenumber(t.Context()), "there is none")
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, prefix("10.8.0.0/23")))
		allocate(t, p.Pool, claim("b", "10.0.0.6"))
		require.NoError(t, p.CancelRenumber(t.Context()))
		for owner, want := range map[string]string{"a": "10.0.0.5", "b": "10.0.0.6"} {
			got, err := p.Get(t.Context(), pool.Held{Owner: owner})
			require.NoError(t, err)
			require.Equal(t, []netip.Addr{addr(want)}, got.Addrs())
			require.Empty(t, got.Beside)
		}
		_, err = p.Get(t.Context(), pool.Held{Addr: addr("10.8.0.5")})
		require.ErrorIs(t, err, pool.ErrNotFound)
		after, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Zero(t, after.Renumbering)
		require.Equal(t, before.Spec, after.Spec)
		requireOK(t, p.Pool)
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	})
}

// A renumbering is not cancelled once it is being finished. A cancellation that was cut short is gone on with by either
// call.
func TestCancelRenumberIsResumed(t *testing.T) {
	injector := &faults.Injector{}
	p, err := pool.Create(t.Context(), injector.Wrap(store.NewMemory()), "site", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	allocate(t, p, pool.Claim{Owner: "a"})
	cut := func(call func(context.Context) error) {
		dieAt(injector, 2)
		require.ErrorIs(t, call(t.Context()), faults.ErrInjected)
		injector.Choose = nil
	}
	for _, resume := range []func(context.Context) error{p.CancelRenumber, p.FinishRenumber} {
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
		cut(p.CancelRenumber)
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		want := pool.Renumbering{From: newPrefix, To: oldPrefix, Finishing: true, Cancelled: true}
		require.Equal(t, want, info.Renumbering)
		require.ErrorIs(t, p.Renumber(t.Context(), oldPrefix, newPrefix), pool.ErrInUse)
		require.NoError(t, resume(t.Context()))
		got, err := p.Get(t.Context(), pool.Held{Owner: "a"})
		require.NoError(t, err)
		require.True(t, oldPrefix.Contains(got.Addrs()[0]) && got.Beside == nil, "%v", got)
	}
	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	cut(p.FinishRenumber)
	err = p.CancelRenumber(t.Context())
	require.ErrorIs(t, err, pool.ErrInUse)
	require.ErrorContains(t, err, "it is giving up 10.0.0.0/24 already")
	require.NoError(t, p.FinishRenumber(t.Context()))
	got, err := p.Get(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.True(t, newPrefix.Contains(got.Addrs()[0]), "%v", got)
}

// The head of a pool is lost while it is renumbered. What was beside is nobody's in the pool that is recovered.
func TestRecoverWhileRenumbered(t *testing.T) {
	s := store.NewMemory()
	p, err := pool.Create(t.Context(), s, "blue", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	held := allocate(t, p, pool.Claim{Owner: "a"})
	require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
	head, err := s.Get(t.Context(), store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	damage(t, s, store.Write{Op: store.Delete, Record: head})
	p, err = pool.Recover(t.Context(), s, "blue", specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	got, err := p.Get(t.Context(), pool.Held{Owner: "a"})
	require.NoError(t, err)
	require.Equal(t, held, got)
	_, err = p.Get(t.Context(), pool.Held{Addr: addr("10.9.0.1")})
	require.ErrorIs(t, err, pool.ErrNotFound)
	require.NoError(t, world.Audit(t.Context(), s))
}

// What several owners share is renumbered for all of them, also for one that comes meanwhile.
func TestRenumberShared(t *testing.T) {
	inMemoryAndStored(t, moving(t), func(t *testing.T, p *trial) {
		sharer := func(owner string) pool.Claim { return pool.Claim{Owner: owner, Share: "web"} }
		allocate(t, p.Pool, sharer("a"))
		allocate(t, p.Pool, sharer("b"))
		require.NoError(t, p.Renumber(t.Context(), oldPrefix, newPrefix))
		late := allocate(t, p.Pool, sharer("late"))
		require.Equal(t, []netip.Prefix{prefix("10.0.0.5/32")}, late.Prefixes)
		require.Equal(t, []netip.Prefix{prefix("10.9.0.5/32")}, late.Beside)
		holders := func(a string) (owners []string) {
			all, err := p.Holders(t.Context(), addr(a))
			if err != nil {
				require.ErrorIs(t, err, pool.ErrNotFound)
			}
			return ownersIn(all)
		}
		require.Equal(t, []string{"a", "b", "late"}, holders("10.0.0.5"))
		require.Equal(t, []string{"a", "b", "late"}, holders("10.9.0.5"))
		release(t, p.Pool, "a")
		requireOK(t, p.Pool)
		require.NoError(t, p.FinishRenumber(t.Context()))
		require.Equal(t, []string{"b", "late"}, holders("10.9.0.5"))
		require.Empty(t, holders("10.0.0.5"))
		release(t, p.Pool, "late")
		got, err := p.Get(t.Context(), pool.Held{Addr: addr("10.9.0.5")})
		require.NoError(t, err)
		require.Equal(t, "b", got.Owner)
		requireOK(t, p.Pool)
		release(t, p.Pool, "b")
		p.clock.Add(2 * time.Hour)
		requireExpired(t, p.Pool, 1)
		require.Equal(t, "10.9.0.5", allocate(t, p.Pool, pool.Claim{Owner: "x"}).Addrs()[0].String())
		requireOK(t, p.Pool)
	})
}
