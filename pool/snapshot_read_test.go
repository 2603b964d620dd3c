package pool_test

import (
	"encoding/json"
	"runtime/debug"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// exports are exports that together have all there is, each as Export and as MarshalJSON write it.
func exports(t testing.TB) (all []string) {
	t.Helper()
	add := func(p *pool.Pool) { all = append(all, export(t, p), mustJSON(t, snapshot(t, p))) }
	b := stored(t, fullSpec())
	holdSomeOfAll(t, b)
	for i, owner := range []string{`"`, `\`, "<a>&", "ü", "\u2028", "tab\t", "\x7f", "a"} {
		allocate(t, b.Pool, pool.Claim{
			Owner: owner, Scope: "team-a", TTL: time.Duration(i) * time.Second, Labels: map[string]string{owner: owner, "b": ""},
		})
	}
	_, err := b.Reserve(t.Context(), pool.Claim{Owner: "kept", Scope: "team-a"})
	require.NoError(t, err)
	_, err = b.Decline(t.Context(), pool.Held{Owner: "a"}, time.Hour)
	require.NoError(t, err)
	allocate(t, b.Pool, pool.Claim{Owner: "one", Scope: "team-a", Share: "key"})
	add(b.Pool)
	b = stored(t, specOf("10.0.0.0/24", "2001:db8::/64"))
	add(b.Pool)
	allocate(t, b.Pool, pool.Claim{Owner: "dual", Policy: pool.RequireDualStack})
	add(b.Pool)
	return all
}

// requireReadAlike wants what is read without package json to be what package json reads.
func requireReadAlike(t testing.TB, text string) (ok bool) {
	t.Helper()
	fast, ok := pool.ReadExport([]byte(text))
	if ok {
		slow, err := pool.ReadSnapshot([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, slow, fast, text)
	}
	return ok
}

func TestReadingOfExports(t *testing.T) {
	for _, text := range append(exports(t), goldenExport) {
		require.True(t, requireReadAlike(t, text), text)
	}
}

// What is not quite an export, at any place, is read as package json reads it, or not at all.
func TestReadingOfSpoiltExports(t *testing.T) {
	const text = `{"format":1,"spec":{},"revision":1,"stats":[],"allocations":[{"owner":"a","state":"cooling",` +
		`"prefixes":["10.0.0.1/32","::/64"],"generation":10,"created":"2026-01-02T03:04:05Z","scope":"\u00fc",` +
		`"labels":{"a":"b","c":"d"},"reserved":true},{"owner":"b","state":"allocated","prefixes":[]}]}`
	pieces := []string{
		``, `"`, `,`, `:`, `{`, `}`, `[`, `]`, `\`, ` `, "\t", "\x00", "\xff", `0`, `-`, `.5`, `e1`, `null`, `true`,
		`\ud800`, `\n`, `ü`, `{},`, `"a":"",`, `"owner":"a",`, `"Owner":`, `"reserved":false,`, `,"reserved":false`,
		`,"child":""`, `,"labels":{"a":""}`, `"expires":"2026-01-02T03:04:05+01:00",`,
	}
	read := 0
	for at := range len(text) {
		for _, piece := range pieces {
			for _, without := range []int{0, 1} {
				if requireReadAlike(t, text[:at]+piece+text[at+without:]) {
					read++
				}
			}
		}
	}
	require.Greater(t, read, len(text), "and much of it can be read")
}

func FuzzReadExport(f *testing.F) {
	for _, text := range append(exports(f), goldenExport) {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		requireReadAlike(t, string(text))
		var s pool.Snapshot
		if json.Unmarshal(text, &s) != nil {
			return
		}
		if written, err := json.Marshal(s); err == nil { // it may have a time that cannot be written
			require.True(t, requireReadAlike(t, string(written)), string(written))
		}
	})
}

// Of an allocation, reading allocates the owner, the prefixes with the text of each, and its place in the snapshot
// once.
func TestHeapAllocationsOfReading(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector's own are counted too")
	}
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	const n = 10_000
	b := stored(t, specOf("10.0.0.0/8"))
	_, err := allocateMany(t.Context(), b.Pool, claimsOf(numbered("o", n)...))
	require.NoError(t, err)
	text := []byte(export(t, b.Pool))
	var s pool.Snapshot
	read := func() { require.NoError(t, s.UnmarshalJSON(text)) }
	require.LessOrEqual(t, testing.AllocsPerRun(1, read)/n, 3.1)
	require.LessOrEqual(t, bytesOf(read)/n, 450.0)
	require.Len(t, s.Allocations, n)
	require.True(t, slices.IsSortedFunc(s.Allocations, func(a, b pool.Allocation) int {
		return a.Prefixes[0].Addr().Compare(b.Prefixes[0].Addr())
	}))
}
