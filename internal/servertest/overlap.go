package servertest

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// Overlap is what the error of a commit that would give an address twice is to say.
type Overlap struct {
	Record store.Key
	Prefix netip.Prefix
	// Standing is not valid where it is another prefix of the commit, or where several are.
	Standing netip.Prefix
}

// OverlapRefused has commits give an address twice. Each is refused, and changes nothing.
func (d Driver) OverlapRefused(t *testing.T, check func(err error, want Overlap)) {
	s := d.OpenNew(t)
	stored, err := storetest.CommitOne(t.Context(), s, Head("a"),
		Create(Allocation("a", "x", "10.0.0.1/32 2001:db8::/64")), Create(Allocation("a", "y", "10.1.0.0/16")),
		Create(Holding(store.KindCooling, "a", "10.2.0.0/24", "10.2.0.0/24")),
	)
	require.NoError(t, err)
	for _, c := range []struct {
		write            store.Write
		prefix, standing string
	}{
		{Create(Allocation("a", "z", "10.0.0.1/32")), "10.0.0.1/32", "10.0.0.1/32"},
		{Put(Allocation("a", "z", "10.0.0.0/8")), "10.0.0.0/8", ""},
		{Put(Allocation("a", "y", "10.1.0.0/16 2001:db8::7/128")), "2001:db8::7/128", "2001:db8::/64"},
		{Create(Allocation("a", "z", "10.9.0.0/24 10.1.255.255/32")), "10.1.255.255/32", "10.1.0.0/16"},
		{Create(Allocation("a", "z", "10.1.0.0/24")), "10.1.0.0/24", "10.1.0.0/16"},
		{Create(Holding(store.KindCooling, "a", "10.0.0.1/32", "10.0.0.1/32")), "10.0.0.1/32", "10.0.0.1/32"},
		// The name is like that of the other kind's record.
		{Create(Allocation("a", "10.2.0.0/24", "10.2.0.0/24")), "10.2.0.0/24", "10.2.0.0/24"},
	} {
		_, err := storetest.CommitOne(t.Context(), s, stored, c.write, Create(Allocation("a", "w", "10.7.0.0/16")))
		require.ErrorIs(t, err, d.ErrOverlap)
		require.NotErrorIs(t, err, store.ErrUnknown)
		require.ErrorContains(t, err, `pool "a"`)
		want := Overlap{Record: c.write.Record.Key, Prefix: netip.MustParsePrefix(c.prefix)}
		if c.standing != "" {
			want.Standing = netip.MustParsePrefix(c.standing)
		}
		check(err, want)
		got, err := s.Get(t.Context(), stored.Key)
		require.NoError(t, err)
		require.Equal(t, stored.Revision, got.Revision)
		_, err = s.Get(t.Context(), Allocation("a", "w", "").Key)
		require.ErrorIs(t, err, store.ErrNotFound)
	}
}

// OverlapAtTheEnd has addresses change hands within one commit, in any order of its writes: only what holds at its end
// counts. Who holds an address in other pools, or holds it twice, is no matter.
func (d Driver) OverlapAtTheEnd(t *testing.T) {
	s := d.OpenNew(t)
	h, err := storetest.CommitOne(t.Context(), s, Head("a"),
		Create(Allocation("a", "x", "10.0.0.1/32 10.0.0.0/24 10.0.0.1/32")), Create(Allocation("a", "y", "10.0.1.0/24")),
		Create(Allocation("b", "x", "10.0.0.0/8")),
		Create(Holding(store.KindSpace, "a", "1", "10.0.0.0/8")), Create(Holding("unknown", "a", "1", "10.0.0.0/8")),
	)
	require.NoError(t, err)
	for _, writes := range [][]store.Write{
		{Put(Allocation("a", "x", "10.0.1.0/24")), Put(Allocation("a", "y", "10.0.0.0/24"))}, // swap
		{Put(Allocation("a", "y", "10.0.1.0/24")), Put(Allocation("a", "x", "10.0.0.0/24"))},
		{Create(Allocation("a", "a new one", "10.0.1.0/24")), Remove(Allocation("a", "y", ""))},
		{Remove(Allocation("a", "a new one", "")), Create(Holding(store.KindCooling, "a", "10.0.1.0/24", "10.0.1.0/24"))},
		{Create(Allocation("a", "z", "10.0.1.0/25")), Remove(Holding(store.KindCooling, "a", "10.0.1.0/24", ""))},
	} {
		h, err = storetest.CommitOne(t.Context(), s, h, writes...)
		require.NoError(t, err)
	}
	found, err := s.Find(t.Context(), "a", netip.MustParseAddr("10.0.1.1"))
	require.NoError(t, err)
	require.Equal(t, "z", found.Name)
}

// RelatedPrefixes are of the same family, most often, and alike up to some bit, at which or near which one or both may
// end: many are neighbours.
func RelatedPrefixes(random *rand.Rand) (a, b netip.Prefix) {
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
