package adopt_test

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func clock() time.Time { return now }

// entries are entries of texts: the owner, the prefixes, and how long the lease lasts, if it is one. The place of each
// is its number, from 1 on.
func entries(texts ...string) adopt.Entries {
	return func(yield func(adopt.Entry, error) bool) {
		for i, text := range texts {
			fields := strings.Fields(text)
			e := adopt.Entry{Owner: fields[0], At: fmt.Sprint("line ", i+1), Labels: map[string]string{"from": "test"}}
			for _, field := range fields[1:] {
				if after, ok := strings.CutPrefix(field, "+"); ok {
					d, _ := time.ParseDuration(after)
					e.Ends = now.Add(d)
					continue
				}
				prefix, err := netip.ParsePrefix(field)
				if err != nil {
					addr := netip.MustParseAddr(field)
					prefix = netip.PrefixFrom(addr, addr.BitLen())
				}
				e.Prefixes = append(e.Prefixes, prefix)
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// world is a store with pools.
type world struct {
	db    store.Store
	pools []*pool.Pool
}

func newWorld(t *testing.T, db store.Store, specs map[string]string, order ...string) *world {
	t.Helper()
	w := &world{db: db}
	for _, name := range order {
		spec, err := pool.ParseSpec(strings.Fields(specs[name])...)
		require.NoError(t, err)
		p, err := pool.Create(t.Context(), db, name, spec, &pool.Options{Clock: clock})
		require.NoError(t, err)
		w.pools = append(w.pools, p)
	}
	return w
}

func (w *world) allocate(t *testing.T, p int, owner, prefix string) {
	t.Helper()
	claim := pool.Claim{Owner: owner, Requests: []pool.Request{{Exact: netip.MustParsePrefix(prefix)}}}
	_, err := w.pools[p].Allocate(t.Context(), claim)
	require.NoError(t, err)
}

// into returns a line for each result: the outcome, the pool, the owner, the prefixes, the holder and where it stands.
func (w *world) into(t *testing.T, from adopt.Entries, options *adopt.Options) (lines []string, errs []error) {
	t.Helper()
	for r, err := range adopt.Into(t.Context(), w.pools, from, options) {
		require.NoError(t, err)
		line := fmt.Sprintf("%s %s %s %v", r.Outcome, r.Pool, r.Owner, r.Prefixes)
		if r.Holder != "" {
			line += " held by " + r.Holder
		}
		if r.HolderAt != "" {
			line += " at " + r.HolderAt
		}
		lines = append(lines, line)
		if r.Outcome == adopt.Clash {
			errs = append(errs, r.Err)
		} else {
			require.NoError(t, r.Err)
		}
	}
	return lines, errs
}

// held is what owners hold in all pools, as lines of text.
func (w *world) held(t *testing.T) []string {
	t.Helper()
	var lines []string
	for _, p := range w.pools {
		for a, err := range p.Allocations(t.Context()) {
			require.NoError(t, err)
			line := fmt.Sprintf("%s %s %v %v", p.Name(), a.Owner, a.Prefixes, a.Labels)
			if !a.Expires.IsZero() {
				line += fmt.Sprint(" ", a.Expires.Sub(now))
			}
			lines = append(lines, line)
		}
	}
	return lines
}

func TestInto(t *testing.T) {
	w := newWorld(t, store.NewMemory(), map[string]string{"lan": "10.0.0.0/24", "six": "2001:db8::/64"}, "lan", "six")
	w.allocate(t, 0, "holder", "10.0.0.5/32")
	w.allocate(t, 0, "moved", "10.0.0.6/32")
	w.allocate(t, 0, "same", "10.0.0.7/32")
	before := w.held(t)
	from := entries(
		"new 10.0.0.10 2001:db8::10", "lease 10.0.0.11 +1h", "past 10.0.0.12 +-1h", "now 10.0.0.12 +0s",
		"late 10.0.0.10", "other 10.0.0.5", "moved 10.0.0.13", "same 10.0.0.7", "network 10.0.0.0",
		"outside 10.9.9.9 10.0.0.14", "wide 10.0.0.8/30", "new 10.0.0.10", "new 10.0.0.15",
	)
	want := []string{
		"ended  past [10.0.0.12/32]", "ended  now [10.0.0.12/32]",
		"clash lan late [10.0.0.10/32] held by new at line 1", "clash  outside [10.9.9.9/32]",
		"adopted lan new [10.0.0.10/32]", "adopted lan lease [10.0.0.11/32]",
		"clash lan other [10.0.0.5/32] held by holder", "clash lan moved [10.0.0.13/32]",
		"held lan same [10.0.0.7/32]", "clash lan network [10.0.0.0/32]", "adopted lan outside [10.0.0.14/32]",
		"clash lan wide [10.0.0.8/30]", "adopted lan new [10.0.0.10/32]", "clash lan new [10.0.0.15/32]",
		"adopted six new [2001:db8::10/128]",
	}
	options := adopt.Options{Clock: clock, Labels: map[string]string{"adopted": "test"}}
	dry := options
	dry.DryRun = true
	for range 2 {
		lines, _ := w.into(t, from, &dry)
		require.Equal(t, want, lines)
		require.Equal(t, before, w.held(t), "nothing is changed")
	}
	lines, errs := w.into(t, from, &options)
	require.Equal(t, want, lines)
	for i, err := range []error{
		adopt.ErrTwice, adopt.ErrOutside, pool.ErrTaken, pool.ErrHeld, pool.ErrNotInPool, pool.ErrTaken, pool.ErrHeld,
	} {
		require.ErrorIs(t, errs[i], err)
	}
	require.ErrorContains(t, errs[0], `twice in the source: "new" has it at line 1`)
	const labels = "map[adopted:test from:test]"
	require.ElementsMatch(t, append(before,
		"lan new [10.0.0.10/32] "+labels, "lan lease [10.0.0.11/32] "+labels+" 1h0m0s",
		"lan outside [10.0.0.14/32] "+labels, "six new [2001:db8::10/128] "+labels,
	), w.held(t))
	after := w.held(t)
	lines, errs = w.into(t, from, &options)
	require.Len(t, errs, 7)
	require.Contains(t, lines, "held lan lease [10.0.0.11/32]")
	require.NotContains(t, strings.Join(lines, "\n"), "adopted")
	require.Equal(t, after, w.held(t))
}

// A pool and the one delegated from it, of which the second has what is in its block; pools that overlap.
func TestIntoTheRightPool(t *testing.T) {
	w := newWorld(t, store.NewMemory(), map[string]string{
		"cluster": "10.0.0.0/16", "other": "10.0.4.0/22 192.0.2.0/24", "rest": "192.0.2.128/25",
		"max": "255.255.255.0/24 ::/127",
	}, "cluster", "other", "rest", "max")
	claim := pool.Claim{Owner: "10.0.1.0/24", Requests: []pool.Request{{Exact: netip.MustParsePrefix("10.0.1.0/24")}}}
	child, _, err := pool.Delegate(t.Context(), w.pools[0], claim, "node", pool.Spec{}, nil)
	require.NoError(t, err)
	w.pools = append(w.pools, child)
	lines, errs := w.into(t, entries(
		"10.0.1.0/24 10.0.1.0/24", "10.0.1.9 10.0.1.9", "a 10.0.2.1", "b 10.0.4.1", "c 192.0.2.7", "d 192.0.2.200",
		"e 10.0.1.0/23", "f 255.255.255.254", "g ::1", "h 9.255.255.255", "i 10.1.0.0",
	), &adopt.Options{Clock: clock})
	require.Equal(t, []string{
		"clash  b [10.0.4.1/32]", "clash  d [192.0.2.200/32]", "clash  h [9.255.255.255/32]", "clash  i [10.1.0.0/32]",
		"held cluster 10.0.1.0/24 [10.0.1.0/24]", "adopted cluster a [10.0.2.1/32]", "clash cluster e [10.0.1.0/23]",
		"adopted other c [192.0.2.7/32]", "adopted max f [255.255.255.254/32]", "adopted max g [::1/128]",
		"adopted node 10.0.1.9 [10.0.1.9/32]",
	}, lines)
	for i, want := range []string{
		`in several pools: 10.0.4.1/32 is in the ranges of "cluster", "other"`, `of "other", "rest"`,
		"in no pool: 9.255.255.255/32 is in the ranges of none",
	} {
		require.ErrorContains(t, errs[i], want)
	}
	require.ErrorIs(t, errs[0], adopt.ErrAmbiguous)
}

// A dry run looks at a copy also of pools that are in a network, delegated or drained, and have addresses that cool
// down.
func TestDryRunOfAnyPool(t *testing.T) {
	db := store.NewMemory()
	w := newWorld(t, db, map[string]string{}, []string{}...)
	spec, err := pool.ParseSpec("10.0.0.0/16")
	require.NoError(t, err)
	spec.Network, spec.Cooldown, spec.History = "blue", time.Hour, time.Hour
	parent, err := pool.Create(t.Context(), db, "parent", spec, &pool.Options{Clock: clock})
	require.NoError(t, err)
	claim := pool.Claim{Owner: "node", Requests: []pool.Request{{Exact: netip.MustParsePrefix("10.0.1.0/24")}}}
	child, _, err := pool.Delegate(t.Context(), parent, claim, "child", pool.Spec{}, &pool.Options{Clock: clock})
	require.NoError(t, err)
	w.pools = []*pool.Pool{parent, child}
	w.allocate(t, 0, "cool", "10.0.0.9/32")
	_, err = parent.Release(t.Context(), pool.Held{Owner: "cool"})
	require.NoError(t, err)
	w.allocate(t, 0, "drained", "10.0.200.1/32")
	smaller, err := pool.ParseSpec("10.0.0.0/17")
	require.NoError(t, err)
	spec.Ranges = smaller.Ranges
	require.NoError(t, parent.Drain(t.Context(), spec))
	from := entries("a 10.0.0.9", "b 10.0.1.0/24", "c 10.0.1.7", "drained 10.0.0.3", "d 10.0.200.1")
	dry, _ := w.into(t, from, &adopt.Options{Clock: clock, DryRun: true})
	before := w.held(t)
	done, _ := w.into(t, from, &adopt.Options{Clock: clock})
	require.Equal(t, done, dry)
	require.Equal(t, []string{
		"clash  d [10.0.200.1/32]", "clash parent a [10.0.0.9/32]", "clash parent b [10.0.1.0/24] held by node",
		"clash parent drained [10.0.0.3/32]", "adopted child c [10.0.1.7/32]",
	}, done)
	require.NotEqual(t, before, w.held(t))
}

var errUnreadable = fmt.Errorf("%w: line 3: no sense", pool.ErrInvalid)

// An entry that cannot be read keeps all from being taken over, and a source that changes is told of.
func TestIntoChecksFirst(t *testing.T) {
	w := newWorld(t, store.NewMemory(), map[string]string{"lan": "10.0.0.0/24"}, "lan")
	good := entries("a 10.0.0.1", "b 10.0.0.2")
	last := func(from adopt.Entries) (n int, last error) {
		for _, err := range adopt.Into(t.Context(), w.pools, from, nil) {
			require.NoError(t, last)
			n, last = n+1, err
		}
		return n, last
	}
	n, err := last(func(yield func(adopt.Entry, error) bool) {
		good(yield)
		yield(adopt.Entry{}, errUnreadable)
	})
	require.ErrorIs(t, err, errUnreadable)
	require.Equal(t, 1, n)
	require.Empty(t, w.held(t))
	reads := 0
	_, err = last(func(yield func(adopt.Entry, error) bool) {
		if reads++; reads == 1 {
			good(yield)
		}
	})
	require.ErrorContains(t, err, "did not give the same entries")
	require.Empty(t, w.held(t))
	reads = 0
	_, err = last(func(yield func(adopt.Entry, error) bool) {
		if reads++; reads == 1 {
			good(yield)
		} else {
			yield(adopt.Entry{}, errUnreadable)
		}
	})
	require.ErrorContains(t, err, "the source has changed since it was checked: ")
}

// Entries that no pool can take as they are do not keep the others back. Labels that pools do not take are left out.
func TestIntoWithWrongEntries(t *testing.T) {
	w := newWorld(t, store.NewMemory(), map[string]string{"lan": "10.0.0.0/24"}, "lan")
	all := []adopt.Entry{
		{Owner: "", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}},
		{Owner: "bits", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/24")}},
		{
			Owner: "labels", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.2/32")},
			Labels: map[string]string{"a": "\x00"},
		},
		{Owner: "zero", Prefixes: []netip.Prefix{{}}},
	}
	lines, _ := w.into(t, func(yield func(adopt.Entry, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
	}, &adopt.Options{Labels: map[string]string{"adopted": "x"}})
	require.Equal(t, []string{
		"clash  zero [invalid Prefix]", "clash lan  [10.0.0.1/32]", "clash lan bits [10.0.0.1/24]",
		"adopted lan labels [10.0.0.2/32]",
	}, lines)
	require.Equal(t, []string{"lan labels [10.0.0.2/32] map[adopted:x]"}, w.held(t))
}

// A call that a store or its caller ends has done what it told, and goes on when it is repeated.
func TestIntoGoesOn(t *testing.T) {
	const n = 10_000
	many := func(yield func(adopt.Entry, error) bool) {
		for i := range n {
			addr := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			e := adopt.Entry{Owner: addr.String(), Prefixes: []netip.Prefix{netip.PrefixFrom(addr, 32)}, At: "x"}
			if !yield(e, nil) {
				return
			}
		}
	}
	var db faults.Injector
	w := newWorld(t, db.Wrap(store.NewMemory()), map[string]string{"lan": "10.0.0.0/8"}, "lan")
	db.ResetCounts()
	db.Choose = faults.Script(faults.Fault{}, faults.Fault{Effect: faults.Refuse})
	done, failed := 0, error(nil)
	for r, err := range adopt.Into(t.Context(), w.pools, many, nil) {
		if err != nil {
			failed = err
		} else if r.Outcome == adopt.Adopted {
			done++
		}
	}
	require.ErrorIs(t, failed, faults.ErrInjected)
	require.Equal(t, 4096, done)
	require.Len(t, w.held(t), 4096)
	db.Choose = nil
	db.ResetCounts()
	for range adopt.Into(t.Context(), w.pools, many, nil) {
		break
	}
	counts := map[adopt.Outcome]int{}
	for r, err := range adopt.Into(t.Context(), w.pools, many, nil) {
		require.NoError(t, err)
		counts[r.Outcome]++
	}
	require.Equal(t, map[adopt.Outcome]int{adopt.Held: 4096, adopt.Adopted: n - 4096}, counts)
	require.LessOrEqual(t, db.Counts().Commit, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range adopt.Into(ctx, w.pools, many, nil) {
		failed = err
	}
	require.ErrorIs(t, failed, context.Canceled)
}

func TestOnly(t *testing.T) {
	var owners []string
	for e, err := range adopt.Only(entries("a 10.0.0.1", "b 10.0.0.2"), map[string]string{"from": "test"}) {
		require.NoError(t, err)
		owners = append(owners, e.Owner)
	}
	require.Equal(t, []string{"a", "b"}, owners)
	for range adopt.Only(entries("a 10.0.0.1"), map[string]string{"from": ""}) {
		require.Fail(t, "another value")
	}
	for _, err := range adopt.Only(func(yield func(adopt.Entry, error) bool) { yield(adopt.Entry{}, errUnreadable) },
		map[string]string{"from": "test"}) {
		require.ErrorIs(t, err, errUnreadable)
	}
}
