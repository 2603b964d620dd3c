package mysql_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	driver "github.com/go-sql-driver/mysql"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/mysql"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func holding(kind store.Kind, pool, name, prefixes string) store.Record {
	r := store.Record{Key: store.Key{Kind: kind, Pool: pool, Name: name}, State: "allocated"}
	for text := range strings.FieldsSeq(prefixes) {
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

// TestOverlapRefused has commits give an address twice. Each is refused, and changes nothing.
func TestOverlapRefused(t *testing.T) {
	s := open(t, sharedServer(t).dsn(), newSchema())
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
		{put(allocation("a", "z", "10.0.0.0/8")), "10.0.0.0/8", "10.0.0.1/32"},
		{put(allocation("a", "y", "10.1.0.0/16 2001:db8::7/128")), "2001:db8::7/128", "2001:db8::/64"},
		{create(allocation("a", "z", "10.9.0.0/24 10.1.255.255/32")), "10.1.255.255/32", "10.1.0.0/16"},
		{create(allocation("a", "z", "10.1.0.0/24")), "10.1.0.0/24", "10.1.0.0/16"},
		{create(holding(store.KindCooling, "a", "10.0.0.1/32", "10.0.0.1/32")), "10.0.0.1/32", "10.0.0.1/32"},
		// The name is like that of the other kind's record.
		{create(allocation("a", "10.2.0.0/24", "10.2.0.0/24")), "10.2.0.0/24", "10.2.0.0/24"},
	} {
		_, err := storetest.CommitOne(t.Context(), s, stored, c.write, create(allocation("a", "w", "10.7.0.0/16")))
		var overlap *mysql.OverlapError
		require.ErrorAs(t, err, &overlap)
		require.ErrorIs(t, err, mysql.ErrOverlap)
		require.NotErrorIs(t, err, store.ErrUnknown)
		if c.prefix != "10.0.0.0/8" { // which of those in one commit is named depends on their names
			require.Equal(t, c.write.Record.Key, overlap.Record)
			require.Equal(t, netip.MustParsePrefix(c.prefix), overlap.Prefix)
			require.Equal(t, netip.MustParsePrefix(c.standing), overlap.Standing)
			require.ErrorContains(t, err, c.prefix)
		}
		require.ErrorContains(t, err, `pool "a"`)
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
	s := open(t, sharedServer(t).dsn(), newSchema())
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

// TestOverlapByHand writes SQL as people do: a second row that begins at an address is refused by the primary key. What
// is within another row is not, as the package comment says, but the next commit beside it is.
func TestOverlapByHand(t *testing.T) {
	dsn, schema := sharedServer(t).dsn(), newSchema()
	s := open(t, dsn, schema)
	h, err := storetest.CommitOne(t.Context(), s, head("a"), create(allocation("a", "x", "10.0.0.0/24")))
	require.NoError(t, err)
	db := connect(t, dsn)
	insert := func(first, last string) error {
		_, err := db.ExecContext(t.Context(), "INSERT INTO "+quoted(schema)+".address (pool, family, first, last, kind, "+
			"name, prefix) VALUES ('a', 4, INET6_ATON(?), INET6_ATON(?), 'allocation', 'z', '10.0.0.0/24')", first, last)
		return err
	}
	var refused *driver.MySQLError
	require.ErrorAs(t, insert("10.0.0.0", "10.0.0.7"), &refused)
	require.Equal(t, uint16(1062), refused.Number)
	require.NoError(t, insert("10.0.0.8", "10.0.0.15"))
	_, err = storetest.CommitOne(t.Context(), s, h, create(allocation("a", "y", "10.0.0.9/32")))
	require.ErrorIs(t, err, mysql.ErrOverlap)
}

// TestOverlapAsPrefixes commits pairs of prefixes, most of which have much in common: the second one is refused just if
// they overlap.
func TestOverlapAsPrefixes(t *testing.T) {
	s := open(t, sharedServer(t).dsn(), newSchema())
	random := rand.New(rand.NewPCG(1, 2))
	h, err := storetest.CommitOne(t.Context(), s, head("a"))
	require.NoError(t, err)
	overlapped := 0
	for range 300 {
		a, b := relatedPrefixes(random)
		h, err = storetest.CommitOne(t.Context(), s, h, put(allocation("a", "x", a.String())),
			remove(allocation("a", "y", "")))
		require.NoError(t, err)
		next, err := storetest.CommitOne(t.Context(), s, h, put(allocation("a", "y", b.String())))
		if a.Overlaps(b) {
			overlapped++
			require.ErrorIs(t, err, mysql.ErrOverlap, "%v %v", a, b)
			continue
		}
		require.NoError(t, err, "%v %v", a, b)
		h = next
	}
	require.Greater(t, overlapped, 30)
	require.Less(t, overlapped, 270)
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
