package pool_test

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

func ofBits(owner string, bits int) pool.Claim {
	return pool.Claim{Owner: owner, Requests: []pool.Request{{Bits: bits}}}
}

func delegate(t testing.TB, parent *pool.Pool, c pool.Claim, name string) *pool.Pool {
	t.Helper()
	p, _, err := pool.Delegate(t.Context(), parent, c, name, everyAddress(), nil)
	require.NoError(t, err)
	return p
}

func TestNodeCIDRsAreDelegated(t *testing.T) {
	s := store.NewMemory()
	spec := specOf("10.244.0.0/16", "fd00:10:244::/48")
	spec.IPv4.Bits, spec.IPv6.Bits = 24, 64
	cluster := createNamed(t, s, "cluster", spec)
	for i := range 3 {
		node := fmt.Sprint("node-", i)
		p, _, err := pool.Delegate(t.Context(), cluster, pool.Claim{Owner: node, Policy: pool.RequireDualStack}, node,
			pool.Spec{}, nil)
		require.NoError(t, err)
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, "cluster", info.Parent)
		require.Equal(t, node, info.Grants[0].Owner)
		require.Equal(t, ranges(fmt.Sprintf("10.244.%d.0/24", i), fmt.Sprintf("fd00:10:244:%d::/64", i)), info.Spec.Ranges)
		pod := allocate(t, p, pool.Claim{Owner: "pod", Policy: pool.RequireDualStack})
		want := []netip.Addr{addr(fmt.Sprintf("10.244.%d.1", i)), addr(fmt.Sprintf("fd00:10:244:%d::1", i))}
		require.Equal(t, want, pod.Addrs(), "a subnet, with its reserved addresses")
		held, err := cluster.Get(t.Context(), pool.Held{Owner: node})
		require.NoError(t, err)
		require.Equal(t, node, held.Child)
	}
	requireOK(t, cluster)
}

func TestVPCIsCutIntoSubnetsOfVariableLengths(t *testing.T) {
	s := store.NewMemory()
	vpc := createNamed(t, s, "vpc", specOf("10.0.0.0/16"))
	for _, c := range []struct {
		name string
		bits int
		want string
	}{
		{"public", 20, "10.0.0.0/20"}, {"private", 18, "10.0.64.0/18"}, {"small", 28, "10.0.16.0/28"},
		{"more", 20, "10.0.32.0/20"},
	} {
		p := delegate(t, vpc, ofBits(c.name, c.bits), c.name)
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, ranges(c.want), info.Spec.Ranges)
	}
	// And in it again: a subnet of a subnet.
	private, err := pool.Open(t.Context(), s, "private", nil)
	require.NoError(t, err)
	inner := delegate(t, private, ofBits("inner", 24), "inner")
	require.Equal(t, "10.0.64.0", texts(allocate(t, inner, pool.Claim{Owner: "host"})))
	requireOK(t, vpc)
	requireOK(t, private)
}

// RFC 8415 prefix delegation: each customer gets a /56 and hands out /64s of it.
func TestDHCPv6PrefixDelegation(t *testing.T) {
	s := store.NewMemory()
	spec := specOf("2001:db8::/32")
	spec.IPv6.Bits = 56
	provider := createNamed(t, s, "provider", spec)
	for i := range 3 {
		customer := fmt.Sprint("duid-", i)
		subnets := pool.Spec{IPv6: pool.FamilySpec{Bits: 64}}
		p, _, err := pool.Delegate(t.Context(), provider, pool.Claim{Owner: customer}, customer, subnets, nil)
		require.NoError(t, err)
		lan := allocate(t, p, pool.Claim{Owner: "lan"})
		require.Equal(t, []netip.Prefix{prefix(fmt.Sprintf("2001:db8:0:%x00::/64", i))}, lan.Prefixes)
	}
}

func TestDelegateIsIdempotent(t *testing.T) {
	s := store.NewMemory()
	parent := createNamed(t, s, "parent", specOf("10.0.0.0/16"))
	first := delegate(t, parent, ofBits("n", 24), "child")
	allocate(t, first, pool.Claim{Owner: "x"})
	other, err := pool.Open(t.Context(), s, "parent", nil)
	require.NoError(t, err)
	again := delegate(t, other, ofBits("n", 24), "child")
	_, err = again.Get(t.Context(), pool.Held{Owner: "x"})
	require.NoError(t, err)
	require.Equal(t, uint64(256), used(t, parent))
	_, _, err = pool.Delegate(t.Context(), parent, ofBits("n", 24), "another", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrHeld)
	_, _, err = pool.Delegate(t.Context(), parent, ofBits("n", 25), "child", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrHeld)
	_, _, err = pool.Delegate(t.Context(), parent, ofBits("m", 24), "child", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrExists)
	requireHoldsNothing(t, parent, "m")
	requireOK(t, parent)
}

func TestDelegateOfWhatIsHeldAlready(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/16"))
	want := allocate(t, b.Pool, pool.Claim{Owner: "n", Requests: []pool.Request{{Bits: 24}}, TTL: time.Minute})
	p := delegate(t, b.Pool, ofBits("n", 24), "child")
	got, err := b.Get(t.Context(), pool.Held{Owner: "n"})
	require.NoError(t, err)
	require.Equal(t, want.Prefixes, got.Prefixes)
	require.Zero(t, got.Expires, "a pool is delegated from a permanent allocation: it does not end under those who use it")
	allocate(t, p, pool.Claim{Owner: "x"})
	b.clock.Add(time.Hour)
	_, err = b.Allocate(t.Context(), ofBits("n", 25))
	require.ErrorIs(t, err, pool.ErrHeld)
	_, err = b.Release(t.Context(), pool.Held{Owner: "n"})
	require.ErrorIs(t, err, pool.ErrInUse)
	require.Equal(t, "child", allocate(t, b.Pool, ofBits("n", 24)).Child)
}

func TestReleaseIsRefusedWhileTheChildHoldsAnything(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, s store.Store, parent *pool.Pool) error{
		"release": func(t *testing.T, _ store.Store, p *pool.Pool) error {
			_, err := p.Release(t.Context(), pool.Held{Owner: "n"})
			return err
		},
		"delete of the child": func(t *testing.T, s store.Store, _ *pool.Pool) error {
			return pool.Delete(t.Context(), s, "child", nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := stored(t, cooling("10.0.0.0/23"))
			p := delegate(t, b.Pool, ofBits("n", 24), "child")
			allocate(t, p, pool.Claim{Owner: "x"})
			for range 2 {
				require.ErrorIs(t, free(t, b.memory, b.Pool), pool.ErrInUse)
			}
			for _, err := range b.otherReleases(t) {
				require.ErrorIs(t, err, pool.ErrInUse)
			}
			require.ErrorIs(t, pool.Delete(t.Context(), b.memory, "blue", nil), pool.ErrInUse)
			require.Equal(t, uint64(256), b.stats(t).Used.Uint64())
			release(t, p, "x")
			require.NoError(t, free(t, b.memory, b.Pool))
			requireHoldsNothing(t, b.Pool, "n")
			_, err := pool.Open(t.Context(), b.memory, "child", nil)
			require.ErrorIs(t, err, pool.ErrNoPool)
			_, err = p.Allocate(t.Context(), pool.Claim{Owner: "y"})
			require.ErrorIs(t, err, pool.ErrNoPool, "by a handle that is still there")
			require.Equal(t, uint64(256), b.stats(t).Cooling.Uint64(), "the parent's rules hold for what comes back")
			b.clock.Add(time.Minute)
			_, err = b.Expire(t.Context())
			require.NoError(t, err)
			require.NoError(t, pool.Delete(t.Context(), b.memory, "blue", nil))
			requireNoRecords(t, b.memory)
		})
	}
}

// otherReleases are the errors of all other ways to release what a pool was delegated from.
func (b *trial) otherReleases(t *testing.T) (errs []error) {
	t.Helper()
	many, err := releaseMany(t.Context(), b, []string{"n"})
	require.NoError(t, err)
	errs = append(errs, many[0].Err)
	_, err = releaseAll(t.Context(), b, []string{"n"})
	errs = append(errs, err)
	_, err = releaseTogether(t.Context(), "n", b.Pool)
	return append(errs, err)
}

func TestWhatIsDelegatedIsNeitherExpiredNorReconciledAway(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/24"))
	delegate(t, b.Pool, ofBits("n", 25), "child")
	allocate(t, b.Pool, ofBits("gone", 26))
	b.clock.Add(1000 * time.Hour)
	_, err := b.Expire(t.Context())
	require.NoError(t, err)
	done, err := b.Reconcile(t.Context(), markOf(t, b.Pool), live(), nil)
	require.NoError(t, err)
	require.Len(t, done.Released, 1)
	require.Equal(t, "gone", done.Released[0].Owner)
	_, err = b.Get(t.Context(), pool.Held{Owner: "n"})
	require.NoError(t, err)
}

func TestDelegateThatMakesNoSense(t *testing.T) {
	s := store.NewMemory()
	parent := createNamed(t, s, "parent", inNetwork("blue", "10.0.0.0/24"))
	memory, err := pool.New(specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	leased := ofBits("n", 26)
	leased.TTL = time.Hour
	for name, c := range map[string]struct {
		parent *pool.Pool
		claim  pool.Claim
		child  string
		spec   pool.Spec
		want   error
	}{
		"a parent in memory": {memory, ofBits("n", 26), "child", pool.Spec{}, pool.ErrInvalid},
		"a lease":            {parent, leased, "child", pool.Spec{}, pool.ErrInvalid},
		"ranges":             {parent, ofBits("n", 26), "child", specOf("10.0.0.0/26"), pool.ErrInvalid},
		"itself":             {parent, ofBits("n", 26), "parent", pool.Spec{}, pool.ErrInvalid},
		"no owner":           {parent, ofBits("", 26), "child", pool.Spec{}, pool.ErrInvalid},
		"another network":    {parent, ofBits("n", 26), "child", pool.Spec{Network: "green"}, pool.ErrInvalid},
		"no room":            {parent, ofBits("n", 20), "child", pool.Spec{}, pool.ErrExhausted},
		"nothing in it":      {parent, ofBits("n", 26), "child", pool.Spec{Exclude: ranges("10.0.0.0/24")}, pool.ErrInvalid},
	} {
		_, _, err := pool.Delegate(t.Context(), c.parent, c.claim, c.child, c.spec, nil)
		require.ErrorIs(t, err, c.want, name)
	}
	require.Zero(t, used(t, parent))
	requireOK(t, parent)
}

func TestDelegatedPoolStaysInWhatItsParentGranted(t *testing.T) {
	s := store.NewMemory()
	parent := createNamed(t, s, "parent", inNetwork("blue", "10.0.0.0/24"))
	child := delegate(t, parent, ofBits("n", 26), "child")
	info, err := child.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, "blue", info.Spec.Network)
	require.ErrorIs(t, child.Update(t.Context(), inNetwork("blue", "10.0.0.0/25")), pool.ErrInvalid)
	require.ErrorIs(t, child.Update(t.Context(), inNetwork("green", "10.0.0.0/27")), pool.ErrInvalid)
	require.ErrorIs(t, child.Update(t.Context(), specOf("10.0.0.0/27")), pool.ErrInvalid)
	require.NoError(t, child.Update(t.Context(), inNetwork("blue", "10.0.0.0/27")))
	require.NoError(t, child.Update(t.Context(), inNetwork("blue", "10.0.0.0/26")))
	require.ErrorIs(t, parent.Update(t.Context(), inNetwork("green", "10.0.0.0/24")), pool.ErrInUse)
	require.Equal(t, []string{"n"}, stranded(t, parent.Update(t.Context(), inNetwork("blue", "10.0.0.64/26"))))
}

// The process dies, or a reply is lost, at each call to the store, during a delegate and during a release. The next try
// completes it, and nothing leaks: all that the parent has taken is held, and all that is held has its pool.
func TestCrashesWhileDelegatingAndGivingBack(t *testing.T) {
	for name, act := range map[string]func(t *testing.T, s store.Store) error{
		"delegate": func(t *testing.T, s store.Store) error {
			parent, err := pool.Open(t.Context(), s, "blue", nil)
			if err != nil {
				return err
			}
			_, _, err = pool.Delegate(t.Context(), parent, ofBits("new", 24), "new", pool.Spec{}, nil)
			return err
		},
		"delete": func(t *testing.T, s store.Store) error {
			err := pool.Delete(t.Context(), s, "old", nil)
			if errors.Is(err, pool.ErrNoPool) {
				return nil
			}
			return err
		},
		"release": func(t *testing.T, s store.Store) error {
			parent, err := pool.Open(t.Context(), s, "blue", nil)
			if err != nil {
				return err
			}
			_, err = parent.Release(t.Context(), pool.Held{Owner: "n"})
			if errors.Is(err, pool.ErrNotFound) {
				return nil
			}
			return err
		},
	} {
		for _, dies := range []bool{false, true} {
			for _, effect := range []faults.Effect{faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LandLate} {
				t.Run(fmt.Sprintf("%s, dies %v, effect %v", name, dies, effect), func(t *testing.T) {
					for n := 1; ; n++ {
						memory, injector := store.NewMemory(), &faults.Injector{}
						parent := create(t, memory, specOf("10.0.0.0/16"))
						delegate(t, parent, ofBits("n", 24), "old")
						calls := 0
						injector.Choose = func(faults.Call) faults.Fault {
							switch calls++; {
							case calls == n:
								return faults.Fault{Effect: effect, Late: 3}
							case calls > n && dies:
								return faults.Fault{Effect: faults.Refuse}
							}
							return faults.Fault{}
						}
						faulty := injector.Wrap(memory)
						err := act(t, faulty)
						if calls < n {
							require.NoError(t, err)
							require.Greater(t, n, 2)
							return
						}
						requireNothingLeaked(t, memory)
						require.NoError(t, act(t, memory), "call %d", n)
						settleFaults(t, injector, faulty)
						requireNothingLeaked(t, memory)
						_, err = pool.Open(t.Context(), memory, "new", nil)
						require.Equal(t, name == "delegate", err == nil)
						_, err = pool.Open(t.Context(), memory, "old", nil)
						require.Equal(t, name == "delegate", err == nil)
					}
				})
			}
		}
	}
}

// requireNothingLeaked requires that the pool "blue" has taken exactly the ranges of the pools
// that were delegated from it.
func requireNothingLeaked(t testing.TB, s store.Store) {
	t.Helper()
	parent := open(t, s)
	requireOK(t, parent)
	held := map[string]bool{}
	for a, err := range parent.Allocations(t.Context()) {
		require.NoError(t, err)
		held[a.Child] = true
	}
	for info, err := range pool.List(t.Context(), s) {
		require.NoError(t, err)
		if info.Name != "blue" {
			require.True(t, held[info.Name], "%q is delegated from nothing", info.Name)
			delete(held, info.Name)
		}
	}
	require.Empty(t, held, "these have no pool")
}

// What is held out of range is read once, however many grants there are.
func TestGrantsReadTheRecordsOnce(t *testing.T) {
	injector := &faults.Injector{}
	s := injector.Wrap(store.NewMemory())
	child := delegate(t, create(t, s, specOf("10.0.0.0/24")), claim("a", "10.0.0.0/29"), "child")
	for owner, block := range map[string]string{"b": "10.0.0.8/29", "c": "10.0.0.16/29", "d": "10.0.0.24/29"} {
		_, err := child.Extend(t.Context(), claim(owner, block))
		require.NoError(t, err)
	}
	allocate(t, child, claim("held", "10.0.0.9"))
	spec := specOf("10.0.0.0/29", "10.0.0.16/28")
	require.NoError(t, child.Drain(t.Context(), spec))

	before := injector.Counts().List
	grants, err := child.Grants(t.Context())
	require.NoError(t, err)
	idle := map[string]bool{}
	for _, g := range grants {
		idle[g.Owner] = g.Idle
	}
	require.Equal(t, map[string]bool{"a": true, "b": false, "c": true, "d": true}, idle)
	require.Equal(t, 2, injector.Counts().List-before, "allocations, and what is aside")
}

// Without a name, the pool is called by its parent and what that has granted, again and by everybody.
func TestDelegateNamesThePoolByItsPrefix(t *testing.T) {
	memory := store.NewMemory()
	cluster := create(t, memory, specOf("10.0.0.0/22"))
	child, granted, err := pool.Delegate(t.Context(), cluster, ofBits("node-1", 24), "", everyAddress(), nil)
	require.NoError(t, err)
	require.Equal(t, "blue/10.0.0.0/24", child.Name())
	require.Equal(t, child.Name(), granted.Child)
	require.Equal(t, "10.0.0.0/24", texts(granted))
	require.Equal(t, "10.0.0.0", texts(allocate(t, child, pool.Claim{Owner: "pod"})))

	again, same, err := pool.Delegate(t.Context(), open(t, memory), ofBits("node-1", 24), "", pool.Spec{}, nil)
	require.NoError(t, err)
	require.Equal(t, granted, same)
	require.Equal(t, "10.0.0.1", texts(allocate(t, again, pool.Claim{Owner: "another"})))
	_, _, err = pool.Delegate(t.Context(), cluster, ofBits("node-1", 24), "named", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrHeld)

	allocate(t, cluster, ofBits("held", 24))
	_, granted, err = pool.Delegate(t.Context(), cluster, ofBits("held", 24), "", everyAddress(), nil)
	require.NoError(t, err, "of what it holds already")
	require.Equal(t, "blue/10.0.1.0/24", granted.Child)

	taken, err := pool.Create(t.Context(), memory, "blue/10.0.2.0/24", specOf("192.0.2.0/24"), nil)
	require.NoError(t, err)
	_, _, err = pool.Delegate(t.Context(), cluster, ofBits("node-3", 24), "", everyAddress(), nil)
	require.ErrorIs(t, err, pool.ErrExists)
	require.NoError(t, pool.Delete(t.Context(), memory, taken.Name(), nil))
	_, _, err = pool.Delegate(t.Context(), cluster, ofBits("node-3", 24), "", everyAddress(), nil)
	require.NoError(t, err)
	requireOK(t, cluster)

	alone, err := pool.New(specOf("10.0.0.0/22"), nil)
	require.NoError(t, err)
	_, _, err = pool.Delegate(t.Context(), alone, ofBits("node-1", 24), "", pool.Spec{}, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
	requireHoldsNothing(t, alone, "node-1")
}

// Nodes that delegate at the same time share commits.
func TestConcurrentDelegatesShareCommits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := store.NewMemory()
		create(t, memory, specOf("10.0.0.0/16"))
		slow := &faults.Injector{Choose: func(faults.Call) faults.Fault { return faults.Fault{Delay: time.Millisecond} }}
		cluster, err := pool.Open(t.Context(), slow.Wrap(memory), "blue", nil)
		require.NoError(t, err)
		begin, err := cluster.Info(t.Context())
		require.NoError(t, err)
		var nodes sync.WaitGroup
		for i := range 64 {
			nodes.Go(func() {
				_, _, err := pool.Delegate(t.Context(), cluster, ofBits(fmt.Sprint("node-", i), 24), "", everyAddress(), nil)
				require.NoError(t, err)
			})
		}
		nodes.Wait()
		end, err := cluster.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, 64, end.Holders)
		require.Less(t, end.Revision-begin.Revision, int64(64))
		requireOK(t, cluster)
	})
}
