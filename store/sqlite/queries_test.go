package sqlite_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/sqlite"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// shell runs the sqlite3 program on the file.
func shell(t *testing.T, path, text string) string {
	t.Helper()
	program, err := exec.LookPath("sqlite3")
	unmet.Skip(t, err)
	output, err := exec.CommandContext(t.Context(), program, "-batch", path, text).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return strings.TrimSpace(string(output))
}

// TestFormat fails when files that exist could not be read any more, or would not be readable by people.
func TestFormat(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	head := store.Record{
		Key: store.Key{Kind: store.KindPool, Pool: "lab"}, Data: json.RawMessage(`{"ranges":"<10.0.0.0/24>"}`),
	}
	head, err = storetest.CommitOne(t.Context(), s, head)
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Create, Record: store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32"), netip.MustParsePrefix("2001:db8::/64")},
		Labels:   map[string]string{"node": "n1"},
		Created:  time.Date(2024, 5, 6, 7, 8, 9, 12_345_678, time.UTC),
		Expires:  time.Date(2024, 5, 6, 8, 8, 9, 0, time.UTC),
	}})
	require.NoError(t, err)
	require.Equal(t, strings.Join([]string{
		`allocation|lab|vm-1|2|allocated|["10.0.0.5/32","2001:db8::/64"]|{"node":"n1"}|` +
			`2024-05-06T07:08:09.012345Z|2024-05-06T08:08:09.000000Z|`,
		`pool|lab||2||[]|{}|||{"ranges":"<10.0.0.0/24>"}`,
		`allocation|lab|4|010.000.000.005|32|vm-1|010.000.000.005|10.0.0.5/32`,
		`allocation|lab|6|2001:0db8:0000:0000:0000:0000:0000:0000|64|vm-1|` +
			`2001:0db8:0000:0000:ffff:ffff:ffff:ffff|2001:db8::/64`,
		`allocation|lab|node|n1|vm-1`, `2`, `1768972593`, `1`, `wal`, `2`,
	}, "\n"), shell(t, path, `SELECT * FROM record; SELECT * FROM address; SELECT * FROM label; SELECT * FROM latest;
		PRAGMA application_id; PRAGMA user_version; PRAGMA journal_mode; PRAGMA auto_vacuum`))
}

// documentedQueries returns the queries in the package comment, in their order.
func documentedQueries(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "// # Queries\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "// # ")
	var queries []string
	for _, block := range regexp.MustCompile(`(?:(?m:^//\t.*\n))+`).FindAllString(section, -1) {
		queries = append(queries, strings.ReplaceAll(block, "//\t", ""))
	}
	return queries
}

// TestQueries runs the documented queries with the sqlite3 program, beside the open store.
func TestQueries(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	spec, err := pool.ParseSpec("10.0.0.0/24", "2001:db8::/64")
	require.NoError(t, err)
	spec.Cooldown, spec.History = 30*time.Minute, time.Hour
	p, err := pool.Create(t.Context(), s, "lab", spec, nil)
	require.NoError(t, err)
	for i := range 12 {
		c := pool.Claim{Owner: fmt.Sprint("vm-", i), Policy: pool.RequireDualStack}
		if i == 9 {
			c.Labels = map[string]string{"node": "n1"}
		}
		if i == 7 {
			c.TTL = 10 * time.Minute
		}
		_, err := p.Allocate(t.Context(), c)
		require.NoError(t, err)
	}
	_, err = p.Release(t.Context(), pool.Held{Owner: "vm-3"})
	require.NoError(t, err)
	for _, owner := range []string{"shop/http", "shop/https"} {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: owner, Scope: "shop", Share: "web"})
		require.NoError(t, err)
	}
	wants := []string{
		`^lab\|vm-6\|10\.0\.0\.7/32\|allocated\|$`,
		`(?s)^10\.0\.0\.1/32\|lab\|vm-0\n.*\n10\.0\.0\.9/32\|lab\|vm-8\n10\.0\.0\.10/32\|lab\|vm-9\n`,
		`^lab\|\["10\.0\.0\.2/32","2001:db8::2/128"\]\|allocated\|20\d\d-.*Z$`,
		`^vm-9\|10\.0\.0\.10/32\nvm-9\|2001:db8::a/128$`,
		`^lab\|IPv4\|256\|12\|241\nlab\|IPv6\|18446744073709551616\|11\|18446744073709551603$`,
		`^lab\|vm-7\|10\.0\.0\.8/32\|20\d\d-.*Z\nlab\|vm-7\|2001:db8::8/128\|20\d\d-.*Z$`,
		`^lab\|10\.0\.0\.4/32\|20\d\d-.*Z\nlab\|2001:db8::4/128\|20\d\d-.*Z$`,
		`^lab\|vm-3\|20\d\d-.*Z\|20\d\d-.*Z\|released$`,
	}
	queries := documentedQueries(t)
	last := len(queries) - 1
	require.Empty(t, shell(t, path, queries[last]), queries[last])
	queries[last] = strings.ReplaceAll(queries[last], "'start of day', '-12 hours'", "'+1 day'")
	queries[last] = strings.ReplaceAll(queries[last], "ended > strftime", "ended < strftime")
	require.Len(t, queries, len(wants))
	for i, query := range queries {
		require.Regexp(t, wants[i], shell(t, path, query), query)
	}
	require.Equal(t, "shop/http|[\"10.0.0.13/32\"]\nshop/https|[\"10.0.0.13/32\"]",
		shell(t, path, "SELECT owner, prefixes FROM tenure WHERE owner LIKE '%sh%' ORDER BY owner"), "what is shared")
}

// TestPlans looks whether what the store asks, and what people ask for by owner, address and expiry, uses an index.
func TestPlans(t *testing.T) {
	path, _ := newFile(t)
	for query, want := range map[string]string{
		"SELECT * FROM holding WHERE owner = 'vm-1'":                                                    "address_owner",
		"SELECT * FROM holding WHERE pool = 'a' AND family = 4 AND first = '010.0.0.1'":                 "PRIMARY KEY",
		"SELECT * FROM record WHERE kind = 'allocation' AND pool = 'a' AND expires < '2030'":            "record_expires",
		"SELECT name FROM label WHERE kind = 'history' AND pool = 'a' AND label = 'n' AND value = 'n1'": "PRIMARY KEY",
		"SELECT r.* FROM label l JOIN record r ON r.kind = l.kind AND r.pool = l.pool AND r.name = l.name " +
			"WHERE l.kind = 'allocation' AND l.pool = 'a' AND l.label = 'node' AND l.value = 'n1' AND l.name > 'vm-1' " +
			"ORDER BY l.name LIMIT 9": "PRIMARY KEY",
	} {
		plan := shell(t, path, "EXPLAIN QUERY PLAN "+query)
		require.Contains(t, plan, want)
		require.NotContains(t, plan, "SCAN")
		require.NotContains(t, plan, "TEMP B-TREE")
	}
}

// TestChangedByHand changes records with the sqlite3 program beside the open store, which sees it.
func TestChangedByHand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	head := fill(t, s, 0, 3)
	changed := make(chan error)
	go func() {
		_, err := s.Watch(t.Context(), headA, head.Revision)
		changed <- err
	}()
	shell(t, path, `UPDATE record SET revision = revision + 1 WHERE kind = 'pool';
		UPDATE latest SET revision = revision + 1`)
	require.NoError(t, <-changed)
	shell(t, path, "UPDATE record SET created = 'yesterday' WHERE name = 'owner-1'")
	_, err = s.Get(t.Context(), allocation(1).Key)
	require.ErrorIs(t, err, store.ErrDamaged)
}

// TestTenuresOfARenumberedPool asks the view for what was renumbered: each tenure begins where the one before it ended.
func TestTenuresOfARenumberedPool(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ipalloc.db")
	s, err := sqlite.Open(t.Context(), path, nil)
	require.NoError(t, err)
	defer s.Close()
	pooltest.RenumberOne(t, s)
	require.Equal(t, "2", shell(t, path, "SELECT count(*) FROM tenure a JOIN tenure b ON a.ended = b.began"))
}
