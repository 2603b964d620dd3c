package postgres_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func holding(kind store.Kind, pool, name, prefixes string) store.Record {
	r := store.Record{Key: store.Key{Kind: kind, Pool: pool, Name: name}, State: "allocated"}
	for _, text := range strings.Fields(prefixes) {
		r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(text))
	}
	return r
}

func allocation(pool, name, prefixes string) store.Record {
	return holding(store.KindAllocation, pool, name, prefixes)
}

func create(r store.Record) store.Write { return store.Write{Op: store.Create, Record: r} }
func put(r store.Record) store.Write    { return store.Write{Op: store.Put, Record: r} }
func remove(r store.Record) store.Write {
	return store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}}
}

func head(pool string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindPool, Pool: pool}}
}

// TestOverlapRefused has commits give an address twice. Each is refused by the constraint, and changes nothing.
func TestOverlapRefused(t *testing.T) {
	s := open(t, sharedServer(t).url("postgres"), newSchema())
	stored, err := storetest.CommitOne(t.Context(), s, head("a"),
		create(allocation("a", "x", "10.0.0.1/32 2001:db8::/64")), create(allocation("a", "y", "10.1.0.0/16")),
		create(holding(store.KindCooling, "a", "10.2.0.0/24", "10.2.0.0/24")),
	)
	require.NoError(t, err)
	for _, c := range []struct {
		write            store.Write
		prefix, standing string
	}{
		{create(allocation("a", "z", "10.0.0.1/32")), "10.0.0.1/32", "10.0.0.1/32"},
		{put(allocation("a", "z", "10.0.0.0/8")), "10.0.0.0/8", ""},
		{put(allocation("a", "y", "10.1.0.0/16 2001:db8::7/128")), "2001:db8::7/128", "2001:db8::/64"},
		{create(allocation("a", "z", "10.9.0.0/24 10.1.255.255/32")), "10.1.255.255/32", "10.1.0.0/16"},
		{create(holding(store.KindCooling, "a", "10.0.0.1/32", "10.0.0.1/32")), "10.0.0.1/32", "10.0.0.1/32"},
		// The name is like that of the other kind's record.
		{create(allocation("a", "10.2.0.0/24", "10.2.0.0/24")), "10.2.0.0/24", "10.2.0.0/24"},
	} {
		_, err := storetest.CommitOne(t.Context(), s, stored, c.write, create(allocation("a", "w", "10.7.0.0/16")))
		var overlap *postgres.OverlapError
		require.ErrorAs(t, err, &overlap)
		require.ErrorIs(t, err, postgres.ErrOverlap)
		require.NotErrorIs(t, err, store.ErrUnknown)
		require.Equal(t, "address_overlap", overlap.Constraint)
		require.Equal(t, c.write.Record.Key, overlap.Record)
		require.Equal(t, netip.MustParsePrefix(c.prefix), overlap.Prefix)
		if c.standing != "" {
			require.Equal(t, netip.MustParsePrefix(c.standing), overlap.Standing)
		}
		for _, part := range []string{"address_overlap", c.prefix, `pool "a"`} {
			require.ErrorContains(t, err, part)
		}
		var refused *pgconn.PgError
		require.ErrorAs(t, err, &refused)
		got, err := s.Get(t.Context(), stored.Key)
		require.NoError(t, err)
		require.Equal(t, stored.Revision, got.Revision)
		_, err = s.Get(t.Context(), allocation("a", "w", "").Key)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}

// TestOverlapAtTheEnd has addresses change hands within one commit, in any order of its writes: only what holds at its
// end counts. Who holds an address in other pools, or holds it twice, is no matter.
func TestOverlapAtTheEnd(t *testing.T) {
	s := open(t, sharedServer(t).url("postgres"), newSchema())
	h, err := storetest.CommitOne(t.Context(), s, head("a"),
		create(allocation("a", "x", "10.0.0.1/32 10.0.0.0/24 10.0.0.1/32")), create(allocation("a", "y", "10.0.1.0/24")),
		create(allocation("b", "x", "10.0.0.0/8")),
		create(holding(store.KindSpace, "a", "1", "10.0.0.0/8")), create(holding("unknown", "a", "1", "10.0.0.0/8")),
	)
	require.NoError(t, err)
	for _, writes := range [][]store.Write{
		{put(allocation("a", "x", "10.0.1.0/24")), put(allocation("a", "y", "10.0.0.0/24"))}, // swap
		{put(allocation("a", "y", "10.0.1.0/24")), put(allocation("a", "x", "10.0.0.0/24"))},
		{create(allocation("a", "a new one", "10.0.1.0/24")), remove(allocation("a", "y", ""))},
		{remove(allocation("a", "a new one", "")), create(holding(store.KindCooling, "a", "10.0.1.0/24", "10.0.1.0/24"))},
		{create(allocation("a", "z", "10.0.1.0/25")), remove(holding(store.KindCooling, "a", "10.0.1.0/24", ""))},
	} {
		h, err = storetest.CommitOne(t.Context(), s, h, writes...)
		require.NoError(t, err)
	}
	found, err := s.Find(t.Context(), "a", netip.MustParseAddr("10.0.1.1"))
	require.NoError(t, err)
	require.Equal(t, "z", found.Name)
}

// TestOverlapByHand writes SQL as people do. What it does to table allocation is as in a commit.
func TestOverlapByHand(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	s := open(t, url, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")),
		create(allocation("a", "y", "10.0.1.0/24")))
	require.NoError(t, err)
	db := connect(t, url, func(config *pgxpool.Config) { config.ConnConfig.RuntimeParams["search_path"] = quoted(schema) })
	for _, sql := range []string{
		"INSERT INTO allocation (kind, pool, name, revision, prefixes) VALUES ('allocation', 'a', 'z', 1, '{10.0.0.7/32}')",
		"INSERT INTO record (kind, pool, name, revision, prefixes) " +
			"VALUES ('cooling', 'a', 'z', 1, '{192.0.2.0/24,10.0.0.0/8}')",
		"UPDATE allocation SET prefixes = '{10.0.0.0/25}' WHERE name = 'y'",
		"UPDATE allocation SET name = 'z', prefixes = prefixes || '{10.0.0.0/25}' WHERE name = 'y'",
	} {
		_, err := db.Exec(t.Context(), sql)
		require.ErrorContains(t, err, "address_overlap", sql)
	}
	execute(t, url, schema, "UPDATE allocation SET name = 'z', prefixes = '{10.0.2.0/24}' WHERE name = 'y'; "+
		"DELETE FROM allocation WHERE name = 'x'")
	_, err = storetest.CommitOne(t.Context(), s, h, create(allocation("a", "w", "10.0.0.0/23")))
	require.NoError(t, err)
	found, err := s.Find(t.Context(), "a", netip.MustParseAddr("10.0.2.1"))
	require.NoError(t, err)
	require.Equal(t, "z", found.Name)
	execute(t, url, schema, "TRUNCATE allocation")
	_, err = s.Find(t.Context(), "a", netip.MustParseAddr("10.0.2.1"))
	require.ErrorIs(t, err, store.ErrNotFound)
}

// TestBoxesOverlapAsPrefixes compares pairs of prefixes, most of which have much in common: the boxes that the
// constraint looks for first must overlap just if the prefixes do.
func TestBoxesOverlapAsPrefixes(t *testing.T) {
	url, schema := sharedServer(t).url("postgres"), newSchema()
	open(t, url, schema)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var left, right []string
	for range 20_000 {
		a, b := relatedPrefixes(random)
		left, right = append(left, a.String()), append(right, b.String())
	}
	in := pgx.Identifier{schema}.Sanitize() + "."
	var differ, overlap int
	var example *string
	err := connect(t, url).QueryRow(t.Context(), `
		SELECT count(*) FILTER (WHERE boxes <> prefixes), count(*) FILTER (WHERE prefixes),
			min(a || ' ' || b) FILTER (WHERE boxes <> prefixes)
		FROM (SELECT a, b, a && b AS prefixes,
				`+in+`high_box(a) && `+in+`high_box(b) AND `+in+`low_box(a) && `+in+`low_box(b) AS boxes
			FROM unnest($1::text[]::cidr[], $2::text[]::cidr[]) AS pairs (a, b)) AS compared`,
		left, right).Scan(&differ, &overlap, &example)
	require.NoError(t, err)
	require.Zero(t, differ, "for example %v", example)
	require.Greater(t, overlap, 1000)
	require.Less(t, overlap, 19_000)
}

// relatedPrefixes are of the same family, most often, and alike up to some bit, at which or near which one or both may
// end: many are neighbours.
func relatedPrefixes(random *rand.Rand) (a, b netip.Prefix) {
	var first [16]byte
	binary.BigEndian.PutUint64(first[:], random.Uint64())
	binary.BigEndian.PutUint64(first[8:], random.Uint64())
	second := first
	bit := random.IntN(128)
	if first[0]%2 == 0 {
		bit %= 32
	}
	second[bit/8] ^= 0x80 >> (bit % 8)
	return prefixNear(random, first, bit), prefixNear(random, second, bit)
}

func prefixNear(random *rand.Rand, bytes [16]byte, bit int) netip.Prefix {
	addr := netip.AddrFrom16(bytes)
	if bit < 32 && bytes[15]%8 > 0 {
		addr = netip.AddrFrom4([4]byte(bytes[:4]))
	}
	bits := bit + random.IntN(3)
	if random.IntN(4) == 0 {
		bits = random.IntN(addr.BitLen() + 1)
	}
	return netip.PrefixFrom(addr, min(bits, addr.BitLen())).Masked()
}
