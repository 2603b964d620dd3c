package pool_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// fullSpec has every setting.
func fullSpec() pool.Spec {
	return pool.Spec{
		Ranges: ranges("10.0.0.0/24", "2001:db8::/64"), Exclude: ranges("10.0.0.200-10.0.0.210"),
		Subnets:  []pool.Subnet{{Prefix: prefix("10.0.0.0/24"), Gateway: addr("10.0.0.1")}},
		Strategy: pool.NextFree, Bands: []pool.Band{{Name: "static", Ranges: ranges("10.0.0.2-10.0.0.9"), Exclusive: true}},
		Cooldown: time.Minute, Scope: "team-a", Labels: map[string]string{"zone": "eu"},
		Quotas: []pool.Quota{
			{Percent: 50}, {Label: "pod", Value: "web-0", Family: pool.IPv4, Addresses: cidr.CountOf(3)},
		},
	}
}

// holdSomeOfAll holds some of everything: reservations, leases, what cools down and what was put
// aside, labels, prefixes, two families.
func holdSomeOfAll(t testing.TB, b *trial) {
	t.Helper()
	team := func(c pool.Claim) pool.Claim { c.Scope = "team-a"; return c }
	allocate(t, b.Pool,
		team(pool.Claim{Owner: "dual", Policy: pool.RequireDualStack, Labels: map[string]string{"pod": "web-0"}}))
	allocate(t, b.Pool, team(lease("leased", time.Hour)))
	allocate(t, b.Pool, team(ofBits("prefix", 28)))
	for _, address := range []string{"10.0.0.100", "10.0.0.101"} {
		allocate(t, b.Pool, team(claim("released", address)))
		release(t, b.Pool, "released")
		b.clock.Add(time.Second)
	}
	allocate(t, b.Pool, team(claim("released", "10.0.0.102")))
}

func export(t testing.TB, p *pool.Pool) string {
	t.Helper()
	var text bytes.Buffer
	require.NoError(t, p.Export(t.Context(), &text))
	return text.String()
}

func snapshotOf(t testing.TB, text string) pool.Snapshot {
	t.Helper()
	var s pool.Snapshot
	require.NoError(t, json.Unmarshal([]byte(text), &s))
	return s
}

// withoutRevisions is a snapshot without what another store makes anew: name, revision and generations.
func withoutRevisions(s pool.Snapshot) pool.Snapshot {
	s.Name, s.Revision = "", 0
	for _, list := range [][]pool.Allocation{s.Allocations, s.Cooling, s.Kept} {
		for i := range list {
			list[i].Generation = 0
		}
	}
	return s
}

func snapshot(t testing.TB, p *pool.Pool) pool.Snapshot {
	t.Helper()
	s, err := p.Snapshot(t.Context())
	require.NoError(t, err)
	return s
}

const goldenExport = `{
  "format": 1,
  "name": "blue",
  "spec": {
    "ranges": [
      "10.0.0.0/29"
    ],
    "ipv4": {
      "allocateReserved": true
    },
    "ipv6": {
      "allocateReserved": true
    },
    "cooldown": "1m0s"
  },
  "created": "2026-03-01T12:00:00Z",
  "revision": 5,
  "stats": [
    {
      "family": "IPv4",
      "total": "8",
      "reserved": "0",
      "used": "2",
      "cooling": "1",
      "free": "5"
    }
  ],
  "allocations": [
    {
      "owner": "a",
      "state": "allocated",
      "prefixes": [
        "10.0.0.0/32"
      ],
      "generation": 2,
      "created": "2026-03-01T12:00:00Z",
      "expires": "2026-03-01T13:00:00Z",
      "labels": {
        "pod": "web-0"
      }
    },
    {
      "owner": "c",
      "state": "allocated",
      "prefixes": [
        "10.0.0.2/32"
      ],
      "generation": 5,
      "created": "2026-03-01T12:00:00Z"
    },
    {
      "owner": "b",
      "state": "cooling",
      "prefixes": [
        "10.0.0.1/32"
      ],
      "generation": 3,
      "created": "2026-03-01T12:00:00Z",
      "expires": "2026-03-01T12:01:00Z"
    }
  ]
}
`

func TestExportIsReadable(t *testing.T) {
	b := stored(t, cooling("10.0.0.0/29"))
	allocate(t, b.Pool, pool.Claim{Owner: "a", TTL: time.Hour, Labels: map[string]string{"pod": "web-0"}})
	allocate(t, b.Pool, pool.Claim{Owner: "b"})
	release(t, b.Pool, "b")
	allocate(t, b.Pool, pool.Claim{Owner: "c"})
	require.Equal(t, strings.Split(goldenExport, "\n"), strings.Split(export(t, b.Pool), "\n"), "to the last character")
}

func TestImportMakesAnEqualPool(t *testing.T) {
	inMemoryAndStored(t, fullSpec(), func(t *testing.T, b *trial) {
		holdSomeOfAll(t, b)
		want := snapshot(t, b.Pool)
		require.Len(t, want.Allocations, 4)
		require.Len(t, want.Cooling, 2)
		for name, s := range map[string]pool.Snapshot{"as it is": want, "through JSON": snapshotOf(t, export(t, b.Pool))} {
			t.Run(name, func(t *testing.T) {
				p, err := pool.Import(t.Context(), store.NewMemory(), "other", s, b.options())
				require.NoError(t, err)
				requireOK(t, p)
				got := snapshot(t, p)
				if want.Created.IsZero() { // a pool in memory has none
					got.Created = time.Time{}
				}
				require.Equal(t, withoutRevisions(snapshotOf(t, mustJSON(t, want))),
					withoutRevisions(snapshotOf(t, mustJSON(t, got))))
				// And it goes on as the other does.
				next := pool.Claim{Owner: "new", Scope: "team-a", Policy: pool.RequireDualStack}
				require.Equal(t, texts(dry(t, b.Pool, next)), texts(allocate(t, p, next)))
				_, err = p.Allocate(t.Context(),
					pool.Claim{Owner: "x", Scope: "team-a", Requests: claim("", "10.0.0.101").Requests})
				require.ErrorIs(t, err, pool.ErrTaken)
				again := allocate(t, p, pool.Claim{Owner: "leased", Scope: "team-a", TTL: time.Minute})
				require.Equal(t, b.clock.Now().Add(time.Hour-2*time.Second), again.Expires)
				require.Equal(t, "10.0.0.102", texts(release(t, p, "released")))
			})
		}
	})
}

func dry(t testing.TB, p *pool.Pool, c pool.Claim) pool.Allocation {
	t.Helper()
	a, err := p.DryRun(t.Context(), c)
	require.NoError(t, err)
	return a
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// While others write, a snapshot is of one moment: its counts are those of what it lists.
func TestSnapshotIsOfOneMoment(t *testing.T) {
	inMemoryAndStored(t, specOf("10.0.0.0/24"), func(t *testing.T, b *trial) {
		ctx, stop := context.WithCancel(t.Context())
		var writers sync.WaitGroup
		for w := range 2 {
			handle := b.another(t)
			writers.Go(func() {
				for i := 0; ctx.Err() == nil; i++ {
					owner := fmt.Sprint(w, i%20)
					if _, err := handle.Allocate(t.Context(), pool.Claim{Owner: owner}); err != nil {
						t.Error(err)
					}
					if i%3 == 0 {
						_, _ = handle.Release(t.Context(), pool.Held{Owner: owner})
					}
				}
			})
		}
		taken := 0
		for range 30 {
			s, err := b.Snapshot(t.Context())
			if errors.Is(err, pool.ErrBusy) {
				continue // the pool did not stay the same for long enough
			}
			require.NoError(t, err)
			taken++
			require.Len(t, s.Allocations, int(s.StatsOf(pool.IPv4).Used.Uint64()))
			p, err := pool.Import(t.Context(), store.NewMemory(), "copy", s, nil)
			require.NoError(t, err, "and so it can be imported")
			requireOK(t, p)
		}
		stop()
		writers.Wait()
		require.Positive(t, taken)
	})
}

func TestImportIntoANetwork(t *testing.T) {
	from := store.NewMemory()
	p := createNamed(t, from, "a", inNetwork("blue", "10.0.0.0/29"))
	allocate(t, p, pool.Claim{Owner: "x"})
	s := snapshot(t, p)
	to := store.NewMemory()
	createNamed(t, to, "b", inNetwork("blue", "10.0.0.7"))
	_, err := pool.Import(t.Context(), to, "a", s, nil)
	require.ErrorIs(t, err, pool.ErrOverlap)
	require.NoError(t, pool.Delete(t.Context(), to, "b", nil))
	require.NoError(t, pool.SetExternal(t.Context(), to, "blue", ranges("10.0.0.1"), false, nil))
	imported, err := pool.Import(t.Context(), to, "a", s, nil)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.2", texts(allocate(t, imported, pool.Claim{Owner: "y"})), "external ones are respected")
	require.Contains(t, network(t, to, "blue").Pools, "a")
	_, err = pool.Import(t.Context(), to, "a", s, nil)
	require.ErrorIs(t, err, pool.ErrExists)
	_, err = pool.Import(t.Context(), to, "", s, nil)
	require.ErrorIs(t, err, pool.ErrInvalid)
}

func TestImportOfAParentAndItsChild(t *testing.T) {
	from, to := store.NewMemory(), store.NewMemory()
	parent := create(t, from, specOf("10.0.0.0/24"))
	child := delegate(t, parent, ofBits("n", 26), "child")
	allocate(t, child, pool.Claim{Owner: "x"})
	for _, p := range []*pool.Pool{parent, child} {
		_, err := pool.Import(t.Context(), to, p.Name(), snapshot(t, p), nil)
		require.NoError(t, err)
	}
	requireNothingLeaked(t, to)
	_, err := open(t, to).Release(t.Context(), pool.Held{Owner: "n"})
	require.ErrorIs(t, err, pool.ErrInUse)
	moved, err := pool.Open(t.Context(), to, "child", nil)
	require.NoError(t, err)
	release(t, moved, "x")
	require.NoError(t, pool.Delete(t.Context(), to, "child", nil))
	requireHoldsNothing(t, open(t, to), "n")
}

// large is a snapshot of more allocations than a small store takes at once.
func large(t testing.TB, n int) pool.Snapshot {
	t.Helper()
	p, err := pool.New(specOf("10.0.0.0/16"), nil)
	require.NoError(t, err)
	for i := range n {
		allocate(t, p, claim(fmt.Sprint(i), fmt.Sprintf("10.0.%d.%d", i>>6, i<<2&0xff)))
	}
	return snapshot(t, p)
}

func TestLargeImportInSeveralCommits(t *testing.T) {
	s := large(t, 200)
	small := &tooLarge{Store: store.NewMemory(), limit: 30}
	p, err := pool.Import(t.Context(), small, "blue", s, nil)
	require.NoError(t, err)
	require.Greater(t, small.commits, 200/30)
	requireOK(t, p)
	requireOK(t, open(t, small))
	require.Equal(t, uint64(200), used(t, p))
}

func TestImportThatIsUnfinished(t *testing.T) {
	s := large(t, 100)
	s.Spec.Network = "blue"
	for name, finish := range map[string]func(t *testing.T, s2 store.Store) error{
		"import again": func(t *testing.T, to store.Store) error {
			_, err := pool.Import(t.Context(), to, "blue", s, nil)
			return err
		},
		"import another": func(t *testing.T, to store.Store) error {
			_, err := pool.Import(t.Context(), to, "blue", large(t, 40), nil)
			return err
		},
		"delete": func(t *testing.T, to store.Store) error { return pool.Delete(t.Context(), to, "blue", nil) },
	} {
		for _, effect := range []faults.Effect{faults.Refuse, faults.LoseReply} {
			t.Run(fmt.Sprintf("%s, effect %v", name, effect), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { // in which nobody waits for who has gone
					for n := 1; ; n++ {
						memory, injector := store.NewMemory(), &faults.Injector{}
						small := &tooLarge{Store: memory, limit: 30}
						calls := 0
						injector.Choose = func(faults.Call) faults.Fault {
							if calls++; calls >= n {
								return faults.Fault{Effect: effect}
							}
							return faults.Fault{}
						}
						_, err := pool.Import(t.Context(), onlyStore{injector.Wrap(small)}, "blue", s, nil)
						if calls < n {
							require.NoError(t, err)
							require.Greater(t, n, 5)
							return
						}
						require.Error(t, err)
						_, err = pool.Open(t.Context(), small, "blue", nil)
						if err == nil { // the last commit came through
							requireOK(t, open(t, small))
							return
						}
						if !errors.Is(err, pool.ErrNoPool) {
							require.ErrorIs(t, err, pool.ErrUnfinished)
							for range pool.List(t.Context(), small) {
								require.Fail(t, "it is not listed")
							}
							_, err = pool.Create(t.Context(), small, "blue", specOf("10.0.0.0/24"), nil)
							require.ErrorIs(t, err, pool.ErrExists)
							_, err = pool.Ensure(t.Context(), small, "blue", specOf("10.0.0.0/24"), pool.Keep, nil)
							require.ErrorIs(t, err, pool.ErrUnfinished)
						} else if name == "delete" {
							continue
						}
						require.NoError(t, finish(t, small), "call %d", n)
						if name == "delete" {
							requireNoRecords(t, memory)
							continue
						}
						requireOK(t, open(t, small))
					}
				})
			})
		}
	}
}

// onlyStore hides what a store can do beside.
type onlyStore struct{ store.Store }

// breakRules are snapshots that break a rule each.
func breakRules() map[string]func(*pool.Snapshot) {
	held := func(s *pool.Snapshot, owner string, prefixes ...string) *pool.Allocation {
		a := pool.Allocation{Owner: owner}
		for _, text := range prefixes {
			a.Prefixes = append(a.Prefixes, prefix(text))
		}
		s.Allocations = append(s.Allocations, a)
		return &s.Allocations[len(s.Allocations)-1]
	}
	return map[string]func(*pool.Snapshot){
		"no spec":                 func(s *pool.Snapshot) { s.Spec = pool.Spec{} },
		"an owner twice":          func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/32"); held(s, "a", "10.0.0.6/32") },
		"an address twice":        func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/32"); held(s, "b", "10.0.0.5/32") },
		"an address and a prefix": func(s *pool.Snapshot) { held(s, "a", "10.0.0.4/30"); held(s, "b", "10.0.0.5/32") },
		"twice in one":            func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/32", "10.0.0.5/32") },
		"twice out of range":      func(s *pool.Snapshot) { held(s, "a", "192.0.2.0/24"); held(s, "b", "192.0.2.5/32") },
		"held and cooling": func(s *pool.Snapshot) {
			held(s, "a", "10.0.0.5/32")
			s.Cooling = []pool.Allocation{
				{Owner: "b", Prefixes: []netip.Prefix{prefix("10.0.0.5/32")}, Expires: time.Unix(1, 0)},
			}
		},
		"cooling for ever": func(s *pool.Snapshot) {
			s.Cooling = []pool.Allocation{{Owner: "b", Prefixes: []netip.Prefix{prefix("10.0.0.5/32")}}}
		},
		"host bits":            func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/31") },
		"no prefixes":          func(s *pool.Snapshot) { held(s, "a") },
		"no owner":             func(s *pool.Snapshot) { held(s, "", "10.0.0.5/32") },
		"an IPv4-mapped one":   func(s *pool.Snapshot) { held(s, "a", "::ffff:10.0.0.5/128") },
		"a prefix that is not": func(s *pool.Snapshot) { held(s, "a").Prefixes = []netip.Prefix{{}} },
		"a broken scope":       func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/32").Scope = "\x00" },
		"large labels": func(s *pool.Snapshot) {
			held(s, "a", "10.0.0.5/32").Labels = map[string]string{"x": strings.Repeat("x", pool.MaxLabelBytes)}
		},
		"a time that no store keeps": func(s *pool.Snapshot) {
			held(s, "a", "10.0.0.5/32").Expires = time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)
		},
		"a creation before our era":  func(s *pool.Snapshot) { s.Created = time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC) },
		"a child with a broken name": func(s *pool.Snapshot) { held(s, "a", "10.0.0.5/32").Child = "\x00" },
		"a child of a lease": func(s *pool.Snapshot) {
			a := held(s, "a", "10.0.0.5/32")
			a.Child, a.Expires = "child", time.Unix(1, 0)
		},
		"a parent without a name":   func(s *pool.Snapshot) { s.Grants = []pool.Grant{{Owner: "a"}} },
		"a parent without an owner": func(s *pool.Snapshot) { s.Parent = "a" },
		"its own parent": func(s *pool.Snapshot) {
			s.Parent, s.Grants = "blue", []pool.Grant{{Owner: "a"}}
		},
		"a next address with zone":                func(s *pool.Snapshot) { s.Next = []netip.Addr{addr("fe80::1%eth0")} },
		"a next address of a family that is none": func(s *pool.Snapshot) { s.Next = []netip.Addr{addr("2001:db8::1")} },
		"two next addresses": func(s *pool.Snapshot) {
			s.Next = []netip.Addr{addr("10.0.0.1"), addr("10.0.0.2")}
		},
	}
}

func TestImportOfWhatBreaksARuleWritesNothing(t *testing.T) {
	p, err := pool.New(specOf("10.0.0.0/24"), nil)
	require.NoError(t, err)
	for name, spoil := range breakRules() {
		t.Run(name, func(t *testing.T) {
			s := snapshot(t, p)
			spoil(&s)
			memory, injector := store.NewMemory(), &faults.Injector{}
			_, err := pool.Import(t.Context(), injector.Wrap(memory), "blue", s, nil)
			require.ErrorIs(t, err, pool.ErrInvalid)
			require.Zero(t, injector.Counts().Commit)
			requireNoRecords(t, memory)
		})
	}
}

func TestSnapshotTextThatBreaksARule(t *testing.T) {
	for _, text := range []string{
		``, `[]`, `{}`, `{"format": 2}`, `{"format": 1, "spec": {"ranges": ["10.0.0.0/33"]}}`,
		`{"format": 1, "spec": {"unknown": 1}}`,
		`{"format": 1, "withheld": ["x"]}`, `{"format": 1, "allocations": [{"owner": "a", "state": "strange"}]}`,
		`{"format": 1, "allocations": [{"owner": "a", "state": "cooling", "prefixes": ["10.0.0.1/99"]}]}`,
		`{"format": 1, "next": ["x"]}`, `{"format": 1, "allocations": [{"created": "yesterday"}]}`,
	} {
		var s pool.Snapshot
		require.Error(t, json.Unmarshal([]byte(text), &s), text)
		require.Empty(t, s, "it is left as it was")
	}
}

// What encoding/json would change or pass over is refused, and said.
func TestSnapshotTextThatIsNotAsWritten(t *testing.T) {
	held := func(members string) string {
		return `{"format": 1, "allocations": [{"owner": "a", "state": "allocated"}, {` + members + `}]}`
	}
	long := strings.Repeat("long", 1000)
	for _, c := range []struct{ text, want string }{
		{held("\"owner\": \"a\xff\""), `at ["allocations"][1]["owner"]: "a\xff" is not UTF-8`},
		{held("\"labels\": {\"\xc0\x80\": \"\"}"), `at ["allocations"][1]["labels"]: "\xc0\x80" is not UTF-8`},
		{held(`"owner": "a\ud800"`), `comes \ud800, half of a surrogate pair, want a character`},
		{held(`"owner": "\udc00\ud800"`), `comes \udc00, half of a surrogate pair`},
		{held(`"owner": "\ud800\u0041"`), `comes \ud800, half of a surrogate pair`},
		{held(`"owner": "\ud800x12345"`), `comes \ud800, half of a surrogate pair`},
		{held(`"owner": "b", "owner": "c"`), `["allocations"][1]: the member "owner" is there twice, want it once`},
		{held(`"owner": "b", "o\u0077ner": "c"`), `the member "owner" is there twice`},
		{held(`"owner": "b", "Owner": "c"`), `the member "Owner" is not known, want one of child, created, `},
		{held(`"OWNER": "b"`), `the member "OWNER" is not known`},
		{held(`"": "b"`), `the member "" is not known`},
		{
			held(`"labels": {"a": "1", "b": "2", "a": ""}`),
			`at ["allocations"][1]["labels"]: the member "a" is there twice`,
		},
		{held(`"` + long + `": 1`), `the member "` + long[:100] + `…" is not known`},
		{held(`"owner": "` + long + "\xff" + `"`), `: "` + long[:100] + `…" is not UTF-8`},
		{held(`"prefixes": ["` + long + `"]`), `invalid`},
		{`{"format": 1, "ipam": 1}`, `the member "ipam" is not known, want one of allocations, created, `},
		{`{"format": 1, "format": 1}`, `the member "format" is there twice`},
		{`{"format": 1, "spec": {"scope": "a", "scope": "b"}}`, `at ["spec"]: the member "scope" is there twice`},
		{`{"format": 1, "spec": {"Scope": "a"}}`, `the pool's spec: invalid: the member "Scope" is not known`},
		{
			`{"format": 1, "spec": {"ipv4": {"bits": 1, "x": 2}}}`,
			`at ["ipv4"]: the member "x" is not known, want one of allocateReserved, bits, maxBits, minBits`,
		},
		{
			`{"format": 1, "spec": {"subnets": [{"prefix": "10.0.0.0/8", "gate": ""}]}}`,
			`at ["subnets"][0]: the member "gate"`,
		},
		{`{"format": 1, "stats": [{"family": "IPv4", "busy": "0"}]}`, `at ["stats"][0]: the member "busy"`},
		{
			`{"format": 1, "parent": {"pool": "a", "grants": [{"owner": "b", "owner": "c"}]}}`,
			`at ["parent"]["grants"][0]: the mem`,
		},
		{`{"format": 1} {"format": 1}`, `after top-level value`},
		{`{"format": 0}`, `the format is 0, want 1`},
		{`{"spec": {}}`, `the format is 0, want 1`},
		{`{"format": 1, "next": 7}`, `cannot unmarshal number`},
	} {
		var s pool.Snapshot
		err := s.UnmarshalJSON([]byte(c.text))
		require.ErrorIs(t, err, pool.ErrInvalid, c.text)
		require.ErrorContains(t, err, c.want)
		require.Less(t, len(err.Error()), 700, "it quotes little")
		require.Empty(t, s, "it is left as it was")
		require.Error(t, json.Unmarshal([]byte(c.text), &s), c.text)
	}
}

// What is unusual, but as MarshalJSON might have written it, is read.
func TestSnapshotTextThatIsUnusual(t *testing.T) {
	s := snapshotOf(t, ` { "allocations" : [ { "labels" : { "a" : "" , "A" : "\ud83d\ude00" , "\\\"" : "\ufffd\uFFFD" } ,
		"\u006fwner" : "\\ud800 \ud83D\uDe00 é �" , "state" : "allocated" , "expires" : null } ] , "stats" : [ ] ,
		"parent" : null , "format" : 1 , "spec" : { "ranges" : [ ] , "ipv4" : { } } , "revision" : -0 } `)
	require.Equal(t, `\ud800 😀 é �`, s.Allocations[0].Owner)
	require.Equal(t, map[string]string{"a": "", "A": "😀", `\"`: "��"}, s.Allocations[0].Labels)
}

// A snapshot of a newer release is not damage, and not a mistake either.
func TestNewerSnapshotIsRefused(t *testing.T) {
	for _, text := range []string{`{"format": 2}`, `{"format": 2, "new": [], "spec": 7, "allocations": {}}`} {
		var s pool.Snapshot
		requireNewer(t, json.Unmarshal([]byte(text), &s))
		require.Empty(t, s)
	}
}

// What pools accept as the name of an owner is exported and imported as it is, and what cannot be written as JSON is
// not accepted.
func TestNamesThatAreUnusual(t *testing.T) {
	b := stored(t, specOf("10.0.0.0/24"))
	for _, name := range []string{"\ufffd", "\x01\x7f", "\u2028<&>", `\ud800"`, "😀", "Owner", "owner"} {
		allocate(t, b.Pool, pool.Claim{Owner: name, Scope: name, Labels: map[string]string{name: name}})
	}
	for _, name := range []string{"\xff", "\xed\xa0\x80", "a\x00"} {
		for _, c := range []pool.Claim{
			{Owner: name}, {Owner: "a", Scope: name}, {Owner: "a", Labels: map[string]string{"a": name}},
			{Owner: "a", Labels: map[string]string{name: "a"}},
		} {
			if name == "a\x00" && c.Labels != nil {
				continue // which JSON has
			}
			_, err := b.Allocate(t.Context(), c)
			require.ErrorIs(t, err, pool.ErrInvalid)
		}
	}
	p, err := pool.Import(t.Context(), store.NewMemory(), "blue", snapshotOf(t, export(t, b.Pool)), b.options())
	require.NoError(t, err)
	require.Equal(t, withoutRevisions(snapshot(t, b.Pool)), withoutRevisions(snapshot(t, p)))
}

// requireAsImported wants what was imported to be what is exported: all but what Import says that it makes anew, and
// but for the order of lists of which the order means nothing.
func requireAsImported(t *testing.T, imported, exported pool.Snapshot) {
	t.Helper()
	if imported.Created.IsZero() {
		exported.Created = time.Time{}
	}
	canonical := func(s pool.Snapshot) string {
		s.Stats, s.Withheld = nil, nil
		s.Created = s.Created.UTC().Truncate(time.Microsecond)
		s.Next = slices.SortedFunc(slices.Values(s.Next), netip.Addr.Compare)
		s.Allocations, s.Cooling = slices.Clone(s.Allocations), slices.Clone(s.Cooling)
		for _, list := range [][]pool.Allocation{s.Allocations, s.Cooling} {
			for i := range list {
				list[i].Created = list[i].Created.UTC().Truncate(time.Microsecond)
				list[i].Expires = list[i].Expires.UTC().Truncate(time.Microsecond)
			}
			slices.SortFunc(list, func(a, b pool.Allocation) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		}
		return mustJSON(t, withoutRevisions(s))
	}
	require.Equal(t, canonical(imported), canonical(exported))
}

// Whatever the text is, Import does not panic and writes nothing that cannot be used. What it imports verifies
// clean, and exports to the same, of which another import exports to the same text.
func FuzzImport(f *testing.F) {
	f.Add([]byte(goldenExport))
	p, err := pool.New(fullSpec(), nil)
	require.NoError(f, err)
	_, err = p.Allocate(f.Context(), pool.Claim{Owner: "dual", Policy: pool.RequireDualStack, Scope: "team-a"})
	require.NoError(f, err)
	f.Add([]byte(export(f, p)))
	f.Add([]byte(strings.Replace(goldenExport, `"a"`, `"\ud83d\ude00 \ufffd"`, 1)))
	f.Add([]byte(strings.Replace(goldenExport, `"a"`, `"\ud83d"`, 1)))
	f.Add([]byte(strings.Replace(goldenExport, `"pod"`, `"pod": "", "Pod"`, 1)))
	f.Add([]byte(strings.Replace(goldenExport, `"pod"`, `"pod": "", "pod"`, 1)))
	f.Add([]byte(strings.ReplaceAll(goldenExport, `12:00:00Z`, `12:00:00.123456789+01:00`)))
	f.Add([]byte(strings.Replace(goldenExport, `"name"`, `"next": ["10.0.0.3"], "name"`, 1)))
	for _, spoil := range breakRules() {
		s := snapshot(f, p)
		spoil(&s)
		if text, err := json.Marshal(s); err == nil {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var s pool.Snapshot
		if json.Unmarshal(text, &s) != nil {
			return
		}
		memory := store.NewMemory()
		p, err := pool.Import(t.Context(), memory, "blue", s, nil)
		if err != nil {
			requireNoRecords(t, memory)
			return
		}
		for _, p := range []*pool.Pool{p, open(t, memory)} {
			requireOK(t, p)
			first := snapshot(t, p)
			requireAsImported(t, s, first)
			again, err := pool.Import(t.Context(), store.NewMemory(), "blue", first, nil)
			require.NoError(t, err)
			require.Equal(t, mustJSON(t, withoutRevisions(first)), mustJSON(t, withoutRevisions(snapshot(t, again))))
		}
		for _, list := range [][]pool.Allocation{s.Allocations, s.Cooling} {
			for _, a := range list {
				if _, err := p.Release(t.Context(), pool.Held{Owner: a.Owner}); err != nil && !errors.Is(err, pool.ErrNotFound) {
					require.ErrorIs(t, err, pool.ErrInUse) // of a pool that was delegated out
				}
			}
		}
		requireOK(t, p)
	})
}

// TestWalk compares what Walk tells with a snapshot. When another handle changes the pool meanwhile, Walk begins again.
func TestWalk(t *testing.T) {
	for name, p := range snapshotted(t) {
		want, err := p.Snapshot(t.Context())
		require.NoError(t, err, name)
		var got pool.Snapshot
		err = p.Walk(t.Context(), func(info pool.Info) error {
			got = pool.Snapshot{Info: info}
			return nil
		}, func(a pool.Allocation, cooling bool) error {
			if cooling {
				got.Cooling = append(got.Cooling, a)
			} else {
				got.Allocations = append(got.Allocations, a)
			}
			return nil
		})
		require.NoError(t, err, name)
		require.Equal(t, want.Info, got.Info, name)
		require.ElementsMatch(t, want.Allocations, got.Allocations, name)
		require.ElementsMatch(t, want.Cooling, got.Cooling, name)
		require.NotEmpty(t, got.Cooling, name)

		stop := errors.New("enough")
		err = p.Walk(t.Context(), func(pool.Info) error { return nil }, func(pool.Allocation, bool) error { return stop })
		require.ErrorIs(t, err, stop, name)
		err = p.Walk(t.Context(), func(pool.Info) error { return stop }, nil)
		require.ErrorIs(t, err, stop, name)
	}
}

// snapshotted returns a pool in memory and one in a store, in which something is held and something cools down.
func snapshotted(t *testing.T) map[string]*pool.Pool {
	t.Helper()
	spec, err := pool.ParseSpec("192.0.2.0/28")
	require.NoError(t, err)
	spec.Cooldown = time.Hour
	inMemory, err := pool.New(spec, nil)
	require.NoError(t, err)
	inStore, err := pool.Create(t.Context(), store.NewMemory(), "a", spec, nil)
	require.NoError(t, err)
	pools := map[string]*pool.Pool{"memory": inMemory, "store": inStore}
	for _, p := range pools {
		for i := range 6 {
			_, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i), Labels: map[string]string{"n": fmt.Sprint(i)}})
			require.NoError(t, err)
		}
		_, err := p.Release(t.Context(), pool.Held{Owner: "3"})
		require.NoError(t, err)
	}
	return pools
}

// TestWalkBeginsAgain changes the pool by another handle while Walk reads it.
func TestWalkBeginsAgain(t *testing.T) {
	s := store.NewMemory()
	spec, err := pool.ParseSpec("192.0.2.0/28")
	require.NoError(t, err)
	p, err := pool.Create(t.Context(), s, "a", spec, nil)
	require.NoError(t, err)
	other, err := pool.Open(t.Context(), s, "a", nil)
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "x"})
	require.NoError(t, err)
	begun, told := 0, 0
	err = p.Walk(t.Context(), func(pool.Info) error {
		begun, told = begun+1, 0
		return nil
	}, func(pool.Allocation, bool) error {
		if told++; begun == 1 {
			_, err := other.Allocate(t.Context(), pool.Claim{Owner: "y"})
			return err
		}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, 2, begun)
	require.Equal(t, 2, told)
}

// Export writes what a snapshot marshals to, indented, without having all of it in memory as text.
func TestExportIsTheSnapshotIndented(t *testing.T) {
	p, err := pool.Create(t.Context(), store.NewMemory(), "p", specOf("10.0.0.0/16"), nil)
	require.NoError(t, err)
	for _, owners := range []int{0, 1, 3_000} {
		claims := claimsOf(numbered("<o>", owners)...)
		for i := range claims {
			claims[i].Labels = map[string]string{"node": "n&1", "pod": "web"}
		}
		_, err := allocateMany(t.Context(), p, claims)
		require.NoError(t, err)
		s, err := p.Snapshot(t.Context())
		require.NoError(t, err)
		want, err := json.MarshalIndent(s, "", "  ")
		require.NoError(t, err)
		var got bytes.Buffer
		require.NoError(t, p.Export(t.Context(), &got))
		require.Equal(t, string(want)+"\n", got.String())
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var largest largestWrite
	require.NoError(t, p.Export(t.Context(), &largest))
	runtime.ReadMemStats(&after)
	require.LessOrEqual(t, int(largest), 8<<10, "it is written in pieces")
	if !raceDetector { // which has its own
		require.LessOrEqual(t, after.TotalAlloc-before.TotalAlloc, uint64(3_000*2_500), "bytes on the heap")
	}
}

// What Export packs and writes itself is what package json makes of the snapshot, whatever is in it.
func TestExportOfAllThereIs(t *testing.T) {
	inMemoryAndStored(t, fullSpec(), func(t *testing.T, b *trial) {
		holdSomeOfAll(t, b)
		for i, owner := range []string{`"`, `\`, "<a>&", "ü", "\u2028", "tab\t", "\x7f", "a", "a ", "ab"} {
			allocate(t, b.Pool, pool.Claim{Owner: owner, Scope: "team-a", TTL: time.Duration(i) * time.Second})
		}
		_, err := b.Reserve(t.Context(), pool.Claim{Owner: "kept", Scope: "team-a"})
		require.NoError(t, err)
		_, err = b.Decline(t.Context(), pool.Held{Owner: "ab"}, time.Hour)
		require.NoError(t, err)
		allocate(t, b.Pool, pool.Claim{Owner: "one", Scope: "team-a", Share: "key"})
		want, err := json.MarshalIndent(snapshot(t, b.Pool), "", "  ")
		require.NoError(t, err)
		require.Equal(t, string(want)+"\n", export(t, b.Pool))
	})
	b := stored(t, specOf("10.0.0.0/24", "2001:db8::/64"))
	for i, owner := range []string{`"`, `\`, "<a>&", "ü", "\u2028", "tab\t", "\x7f", "a", "a ", "ab"} {
		allocate(t, b.Pool, pool.Claim{Owner: owner, Policy: pool.PreferDualStack, TTL: time.Duration(i) * time.Second})
	}
	want, err := json.MarshalIndent(snapshot(t, b.Pool), "", "  ")
	require.NoError(t, err)
	require.Equal(t, string(want)+"\n", export(t, b.Pool))
}

// Export keeps little of each allocation until it has read all of them.
func TestExportKeepsLittle(t *testing.T) {
	const n = 50_000
	b := stored(t, specOf("10.0.0.0/8"))
	_, err := adoptAll(t, b, n)
	require.NoError(t, err)
	inUse := func() uint64 {
		runtime.GC()
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		return now.HeapAlloc
	}
	before := inUse()
	during := uint64(0)
	require.NoError(t, b.Export(t.Context(), writerFunc(func(p []byte) (int, error) {
		if during == 0 {
			during = inUse()
		}
		return len(p), nil
	})))
	require.Less(t, during-before, uint64(n*80), "bytes on the heap")
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// largestWrite is the size of the largest write in bytes.
type largestWrite int

func (w *largestWrite) Write(b []byte) (int, error) {
	*w = max(*w, largestWrite(len(b)))
	return len(b), nil
}
