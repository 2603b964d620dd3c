package pool_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// damage changes records as nobody may.
func damage(t require.TestingT, s store.Store, writes ...store.Write) {
	ctx := context.Background()
	head, err := s.Get(ctx, store.Key{Kind: store.KindPool, Pool: "blue"})
	require.NoError(t, err)
	_, err = storetest.CommitOne(ctx, s, head, writes...)
	require.NoError(t, err)
}

func recordOf(owner string, prefixes ...string) store.Record {
	r := store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "blue", Name: owner}, State: "allocated"}
	for _, p := range prefixes {
		r.Prefixes = append(r.Prefixes, prefix(p))
	}
	return r
}

func put(owner string, prefixes ...string) store.Write {
	return store.Write{Op: store.Put, Record: recordOf(owner, prefixes...)}
}

func remove(owner string) store.Write {
	return store.Write{Op: store.Delete, Record: recordOf(owner)}
}

// dump is all the records of allocations, as text.
func dump(t require.TestingT, s store.Store) map[string]string {
	all := map[string]string{}
	for r, err := range s.List(context.Background(), store.KindAllocation, "") {
		require.NoError(t, err)
		all[r.Name] = fmt.Sprint(r.Revision, r.Prefixes)
	}
	return all
}

// found is a report as text: what is wrong.
func found(r pool.Report) string {
	holders := func(as []pool.Allocation) string {
		var out []string
		for _, a := range as {
			out = append(out, a.Owner+" "+texts(a))
		}
		return strings.Join(out, ", ")
	}
	var out []string
	for name, text := range map[string]string{
		"leaked":    strings.Join(cidr.FormatSet(cidr.SetOf(r.Leaked...)), " "),
		"unguarded": strings.Join(cidr.FormatSet(cidr.SetOf(r.Unguarded...)), " "),
		"shared":    holders(r.Shared), "out": holders(r.OutOfRange), "miscounted": strings.Join(r.Miscounted, ", "),
	} {
		if text != "" {
			out = append(out, name+" "+text)
		}
	}
	return strings.Join(out, "; ")
}

func TestVerifyFindsAndRepairRestores(t *testing.T) {
	const holders = "holders: 3 in the head, 4 in the records"
	const another = "miscounted " + holders
	for _, c := range []struct {
		name   string
		writes []store.Write
		want   string
		after  string // what Repair leaves
	}{
		{
			"record gone", []store.Write{remove("b")},
			"leaked 10.0.0.1; miscounted holders: 3 in the head, 2 in the records", "",
		},
		{"record added", []store.Write{put("x", "10.0.0.9/32")}, "unguarded 10.0.0.9; " + another, ""},
		{"record added of a prefix", []store.Write{put("x", "10.0.0.16/28")}, "unguarded 10.0.0.16/28; " + another, ""},
		{"record changed", []store.Write{put("b", "10.0.0.9/32")}, "leaked 10.0.0.1; unguarded 10.0.0.9", ""},
		{"twice held", []store.Write{put("x", "10.0.0.1/32")}, "shared ? 10.0.0.1", "shared ? 10.0.0.1"},
		{"overlap", []store.Write{put("x", "10.0.0.0/28")}, "", ""},
		{
			"outside", []store.Write{put("x", "192.0.2.1/32")},
			"out x 192.0.2.1; miscounted out of range IPv4: 0 in the head, 1 in the records, " + holders, "out x 192.0.2.1",
		},
		{
			"excluded", []store.Write{put("x", "10.0.0.200/32")},
			"out x 10.0.0.200; miscounted out of range IPv4: 0 in the head, 1 in the records, " + holders, "out x 10.0.0.200",
		},
		{
			"of a family that the pool has not", []store.Write{put("x", "2001:db8::/64")},
			"out x 2001:db8::/64; miscounted out of range IPv6: 0 in the head, 18446744073709551616 in the records, " + holders,
			"out x 2001:db8::/64",
		},
		{
			"partly outside", []store.Write{put("x", "10.0.0.192/26")},
			"unguarded 10.0.0.192/29 10.0.0.201-10.0.0.255; out x 10.0.0.192/26; " +
				"miscounted out of range IPv4: 0 in the head, 1 in the records, " + holders, "out x 10.0.0.192/26",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory := store.NewMemory()
			p := create(t, memory,
				with(specOf("10.0.0.0/24"), func(s *pool.Spec) { s.Exclude = ranges("10.0.0.200") }))
			for _, owner := range []string{"a", "b", "c"} {
				allocate(t, p, pool.Claim{Owner: owner})
			}
			damage(t, memory, c.writes...)
			if c.name == "twice held" || c.name == "overlap" {
				requireShared(t, memory, p)
				return
			}
			records := dump(t, memory)
			before, err := p.Verify(t.Context())
			require.NoError(t, err)
			require.Equal(t, sorted(c.want), sorted(found(before)))
			require.False(t, before.OK())
			require.Equal(t, len(records), before.Allocations)
			var log strings.Builder
			repairing, err := pool.Open(t.Context(), memory.Open(), "blue",
				&pool.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			require.NoError(t, err)
			report, err := repairing.Repair(t.Context())
			require.NoError(t, err)
			require.Equal(t, before, report, "what was found before")
			require.NotEmpty(t, log.String())
			for _, p := range []*pool.Pool{p, repairing, open(t, memory)} {
				after, err := p.Verify(t.Context())
				require.NoError(t, err)
				require.Equal(t, c.after, found(after))
			}
			require.Equal(t, records, dump(t, memory))
			// What is out of range can be released like anything else.
			for _, a := range report.OutOfRange {
				release(t, p, a.Owner)
			}
			requireOK(t, p)
			info, err := p.Info(t.Context())
			require.NoError(t, err)
			stats := info.Stats
			require.Equal(t, uint64(256), countsOf(stats, pool.IPv4).Total.Uint64())
		})
	}
}

func sorted(text string) map[string]bool {
	out := map[string]bool{}
	for _, part := range strings.Split(text, "; ") {
		out[part] = true
	}
	return out
}

// requireShared is for two owners of one address: which of them is reported does not matter, and releasing it and
// repairing leaves the other.
func requireShared(t *testing.T, memory *store.Memory, p *pool.Pool) {
	records := dump(t, memory)
	report, err := p.Repair(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, report.Shared)
	require.Empty(t, report.OutOfRange)
	require.Empty(t, report.Leaked)
	require.Equal(t, records, dump(t, memory))
	report, err = p.Verify(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, report.Shared)
	require.Empty(t, report.Unguarded)
	release(t, p, "x")
	report, err = p.Repair(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, report.Unguarded, "the other one's, until it is repaired")
	requireOK(t, p)
	require.Equal(t, "10.0.0.3", texts(allocate(t, p, pool.Claim{Owner: "next"})))
}

func TestRepairOfPieces(t *testing.T) {
	for _, c := range []struct {
		name string
		harm func(store.Record) store.Write
	}{
		{"garbled", func(r store.Record) store.Write {
			r.Data = json.RawMessage(strings.Replace(string(r.Data), "qqqq", "qqqr", 1))
			return store.Write{Op: store.Put, Record: r}
		}},
		{"not an object", func(r store.Record) store.Write {
			r.Data = json.RawMessage(`7`)
			return store.Write{Op: store.Put, Record: r}
		}},
		{"dropped", func(r store.Record) store.Write { return store.Write{Op: store.Delete, Record: r} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			memory := store.NewMemory()
			p := create(t, memory, specOf("10.0.0.0/16"))
			fragment(t, p, every(prefix("10.0.0.0/16")))
			records := dump(t, memory)
			stored, _ := pieceRecords(t, memory)
			require.Len(t, stored, 1)
			piece, err := memory.Get(t.Context(), store.Key{Kind: store.KindSpace, Pool: "blue", Name: stored[0]})
			require.NoError(t, err)
			damage(t, memory, c.harm(piece))

			_, err = pool.Open(t.Context(), memory, "blue", nil)
			require.ErrorIs(t, err, pool.ErrCorrupt)
			report, err := p.Verify(t.Context())
			require.NoError(t, err)
			require.ErrorIs(t, report.Unreadable, pool.ErrCorrupt)
			require.False(t, report.OK())
			_, err = p.Allocate(t.Context(), pool.Claim{Owner: "next"})
			require.ErrorIs(t, err, pool.ErrCorrupt)

			report, err = p.Repair(t.Context())
			require.NoError(t, err)
			require.ErrorIs(t, report.Unreadable, pool.ErrCorrupt)
			requireOK(t, p)
			requireOK(t, open(t, memory))
			require.Equal(t, records, dump(t, memory))
			requireNoLeakedPieces(t, memory)
			require.Equal(t, "10.0.0.1", texts(allocate(t, p, pool.Claim{Owner: "next"})))
		})
	}
}

// Repair is beaten to its commit by another process, and tries again.
func TestRepairAfterAConflict(t *testing.T) {
	memory := store.NewMemory()
	hooks := &hooked{Store: memory}
	p := create(t, hooks, specOf("10.0.0.0/24"))
	other := open(t, memory.Open())
	allocate(t, p, pool.Claim{Owner: "a"})
	damage(t, memory, remove("a"))
	hooks.beforeCommit = func(store.Record, []store.Write) error {
		hooks.beforeCommit = nil
		allocate(t, other, pool.Claim{Owner: "b"})
		return nil
	}
	_, err := p.Repair(t.Context())
	require.NoError(t, err)
	requireOK(t, p)
	require.Equal(t, "10.0.0.0", texts(allocate(t, p, pool.Claim{Owner: "c"})))
	got, err := p.Get(t.Context(), pool.Held{Owner: "b"})
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1", texts(got))
}

// What the head says is taken, held against the union of any records.
func TestInvariant6HeadAgreesWithRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		m := anyModel().Draw(t, "pool")
		memory := store.NewMemory()
		s := newMachine(t, memory)
		s.add(t, world.NewPool("blue", m.Universe, m.Spec))
		p := s.handles["blue"][0]
		for range rapid.IntRange(0, 8).Draw(t, "claims") {
			s.Allocate(t)
		}
		taken := cidr.SetOf(rangesHeld(t, p)...)
		for range rapid.IntRange(0, 3).Draw(t, "damages") {
			owner := rapid.SampledFrom(owners).Draw(t, "owner")
			if rapid.Bool().Draw(t, "remove") {
				damage(t, memory, remove(owner))
			} else {
				universe := m.Universe[rapid.SampledFrom(m.Families()).Draw(t, "family")]
				damage(t, memory, put(owner, anyPrefix(universe).Draw(t, "prefix").String()))
			}
		}
		var allowed netipx.IPSetBuilder
		for a, ok := range m.Allowed {
			if ok {
				allowed.Add(a)
			}
		}
		all, err := allowed.IPSet()
		require.NoError(t, err)
		held := cidr.Intersection(cidr.SetOf(rangesHeld(t, p)...), all)
		report, err := p.Repair(ctx)
		require.NoError(t, err)
		require.Equal(t, cidr.FormatSet(cidr.Difference(taken, held)), cidr.FormatSet(cidr.SetOf(report.Leaked...)))
		require.Equal(t, cidr.FormatSet(cidr.Difference(held, taken)), cidr.FormatSet(cidr.SetOf(report.Unguarded...)))
		info, err := p.Info(ctx)
		require.NoError(t, err)
		stats := info.Stats
		var used cidr.Count
		for _, f := range stats {
			used = used.Add(f.Used)
		}
		require.Equal(t, cidr.Size(held), used)
		again, err := p.Verify(ctx)
		require.NoError(t, err)
		require.Empty(t, again.Leaked)
		require.Empty(t, again.Unguarded)
		require.Len(t, again.OutOfRange, len(report.OutOfRange))
		requireSharedIfOverlapping(t, p, all, report)
	})
}

func requireSharedIfOverlapping(t require.TestingT, p *pool.Pool, all *netipx.IPSet, report pool.Report) {
	inside, found := false, false
	for a, err := range p.Allocations(context.Background()) {
		require.NoError(t, err)
		for b, err := range p.Allocations(context.Background()) {
			require.NoError(t, err)
			if a.Share != "" && a.Share == b.Share && a.Scope == b.Scope && a.Owner != b.Owner {
				continue // they hold it together
			}
			for i, x := range a.Prefixes {
				for j, y := range b.Prefixes {
					if (a.Owner != b.Owner || i != j) && x.Overlaps(y) {
						found = true
						inside = inside || all.ContainsPrefix(x) && all.ContainsPrefix(y)
					}
				}
			}
		}
	}
	if inside || !found { // what overlaps with an external one depends on which of them is read first
		require.Equal(t, inside, len(report.Shared) > 0)
	}
}

func rangesHeld(t require.TestingT, p *pool.Pool) []netipx.IPRange {
	var held []netipx.IPRange
	for a, err := range p.Allocations(context.Background()) {
		require.NoError(t, err)
		for _, p := range a.Prefixes {
			held = append(held, netipx.RangeOfPrefix(p))
		}
	}
	return held
}
