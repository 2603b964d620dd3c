package space_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// drawIn draws a prefix of any length in a larger one.
func drawIn(t *rapid.T, within netip.Prefix, shortest int) netip.Prefix {
	bits := rapid.IntRange(shortest, within.Addr().BitLen()).Draw(t, "bits")
	subnets := cidr.Pow2(bits - within.Bits()).Uint64()
	p, _ := cidr.Subnet(within, bits, cidr.CountOf(rapid.Uint64Range(0, subnets-1).Draw(t, "subnet")))
	return p
}

// Prefixes that reach over many pieces, and pieces that are cut, changed, joined and replaced, give what was
// committed, to a handle that lags behind and to one that is new. The model is set algebra.
func TestPiecesAgainstSets(t *testing.T) {
	small := space.Limits{Inline: 40, MinPiece: 60, MaxPiece: 120, MinChanges: 40, MaxChanges: 80}
	rapid.Check(t, func(t *rapid.T) {
		within := rapid.SampledFrom([]netip.Prefix{prefix("10.0.0.0/15"), prefix("2001:db8::/108")}).Draw(t, "pool")
		open := func() *space.Space {
			s := spaceOf(t, within.String())
			s.SetLimits(small)
			return s
		}
		s, lagging, sh := open(), open(), &shelf{}
		f := space.FamilyOf(within.Addr())
		free := cidr.SetOf(netipx.RangeOfPrefix(within))
		sh.commit(t, s)
		for range rapid.IntRange(1, 40).Draw(t, "commits") {
			for range rapid.IntRange(1, 20).Draw(t, "changes") {
				p := drawIn(t, within, within.Bits()+rapid.SampledFrom([]int{0, 8, 12}).Draw(t, "shortest"))
				one := cidr.SetOf(netipx.RangeOfPrefix(p))
				if free.ContainsPrefix(p) {
					require.Equal(t, p.String(), take(t, s, exactly(p.String())))
					free = cidr.Difference(free, one)
				} else if !cidr.Overlaps(free, one) {
					require.NoError(t, s.Free(p, space.Held))
					free = cidr.Union(free, one)
				}
			}
			sh.commit(t, s)
			if rapid.IntRange(0, 3).Draw(t, "catch up") == 0 {
				sh.load(t, lagging)
				require.Equal(t, free.Ranges(), lagging.FreeSet(f).Ranges())
				if rapid.Bool().Draw(t, "switch") {
					s, lagging = lagging, s
				}
			}
			require.Equal(t, free.Ranges(), s.FreeSet(f).Ranges())
		}
		fresh := open()
		sh.load(t, fresh)
		require.Equal(t, free.Ranges(), fresh.FreeSet(f).Ranges())
		require.Equal(t, s.Counts(), fresh.Counts())
	})
}

// alternate takes each second address of a prefix.
func alternate(t testing.TB, s *space.Space, p netip.Prefix) {
	w := &space.Want{Family: space.FamilyOf(p.Addr())}
	for a := p.Addr(); p.Contains(a); a = a.Next().Next() {
		w.Exact = netip.PrefixFrom(a, a.BitLen())
		_, err := s.Take(w)
		require.NoError(t, err)
	}
}

// With the usual thresholds, a commit to fragmented space writes a few KiB, and all is one record again when it is
// packed again.
func TestCommitsAreSmall(t *testing.T) {
	pool := prefix("10.0.0.0/14")
	s, sh := spaceOf(t, pool.String()), &shelf{}
	sh.commit(t, s)
	require.Empty(t, sh.records)
	alternate(t, s, pool)
	sh.commit(t, s)
	require.Greater(t, len(sh.records), 1)
	random := rand.New(rand.NewPCG(1, 1))
	total, commits := 0, 1000
	for range commits {
		a, _ := cidr.Nth(cidr.SetOf(netipx.RangeOfPrefix(pool)), cidr.CountOf(random.Uint64N(1<<18)))
		p := netip.PrefixFrom(a, 32)
		if s.IsFreeWithin(p) {
			take(t, s, exactly(p.String()))
		} else {
			require.NoError(t, s.Free(p, space.Held))
		}
		before := ids(sh.records)
		sh.commit(t, s)
		total += len(sh.head)
		for id, data := range sh.records {
			if !slices.Contains(before, id) {
				total += len(data)
			}
		}
	}
	t.Logf("%d bytes a commit, %d pieces", total/commits, len(sh.records))
	require.Less(t, total/commits, 8<<10)

	other := spaceOf(t, pool.String())
	sh.load(t, other)
	requireSame(t, s, other)
	for _, p := range s.TakenSet(space.V4).Prefixes() {
		require.NoError(t, s.Free(p, space.Held))
	}
	for range 40 { // one piece is replaced with each
		sh.commit(t, s)
		require.NoError(t, s.Free(prefix(take(t, s, &space.Want{Bits: 32})), space.Held))
	}
	for i := range 1000 {
		p := take(t, s, exactly(fmt.Sprintf("10.%d.%d.%d/32", i%4, i%256, i/4%256)))
		require.NoError(t, s.Free(prefix(p), space.Held))
		sh.commit(t, s)
	}
	require.Empty(t, sh.records)
	sh.load(t, other)
	requireSame(t, s, other)
}

// A space that has been committed is written whole after what the journal does not have.
func TestWhatTheJournalDoesNotHaveIsCommitted(t *testing.T) {
	for name, change := range map[string]func(*space.Space){
		"kept": func(s *space.Space) {
			take(t, s, exactly("10.0.0.7/32"))
			s.Keep()
		},
		"held": func(s *space.Space) { require.False(t, s.Hold(prefix("10.0.0.7/32"), space.Held)) },
		"taken over": func(s *space.Space) {
			old := spaceOf(t, "10.0.0.0/16")
			take(t, old, exactly("10.0.0.7/32"))
			require.True(t, s.TakeOver(old))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, limits := range []space.Limits{{Inline: 700}, {MinPiece: 1, MinChanges: 50, MaxChanges: 50}} {
				s, other, sh := spaceOf(t, "10.0.0.0/16"), spaceOf(t, "10.0.0.0/16"), &shelf{}
				s.SetLimits(limits)
				sh.commit(t, s)
				sh.load(t, other)
				change(s)
				require.False(t, s.Changed())
				sh.commit(t, s)
				sh.load(t, other)
				require.Equal(t, "10.0.0.7/32", other.TakenSet(space.V4).Prefixes()[0].String())
				requireSame(t, s, other)
			}
		})
	}
}

// fewPieces is a space and a shelf that has it in one piece for each of the first four pages of 10.0.0.0/16, which keep
// all changes.
func fewPieces(t *testing.T) (*space.Space, *shelf) {
	s, sh := spaceOf(t, "10.0.0.0/16"), &shelf{}
	s.SetLimits(space.Limits{Inline: 40, MinPiece: 300, MaxPiece: 300, MinChanges: 1 << 20, MaxChanges: 1 << 20})
	alternate(t, s, prefix("10.0.0.0/18"))
	sh.commit(t, s)
	require.GreaterOrEqual(t, len(sh.records), 4)
	return s, sh
}

// A prefix that lies in several pieces is a change of each of them, cut where they are.
func TestPrefixInSeveralPieces(t *testing.T) {
	s, sh := fewPieces(t)
	other := spaceOf(t, "10.0.0.0/16")
	sh.load(t, other)
	for _, p := range s.TakenSet(space.V4).Prefixes() {
		require.NoError(t, s.Free(p, space.Held))
	}
	records := ids(sh.records)
	for _, change := range []func(){
		func() { take(t, s, exactly("10.0.0.0/16")) },
		func() { require.NoError(t, s.Free(prefix("10.0.0.0/19"), space.Held)) },
		func() { require.NoError(t, s.Free(prefix("10.0.128.0/17"), space.Held)) },
	} {
		change()
		sh.commit(t, s)
		require.ElementsMatch(t, records, ids(sh.records), "no piece is replaced")
		sh.load(t, other)
		requireSame(t, s, other)
		fresh := spaceOf(t, "10.0.0.0/16")
		sh.load(t, fresh)
		requireSame(t, s, fresh)
	}
}

// Heads that were encoded for nothing share no bytes with those that come after them.
func TestHeadsDoNotShareChanges(t *testing.T) {
	s, sh := fewPieces(t)
	for i := range 40 {
		take(t, s, exactly(fmt.Sprintf("10.0.0.%d/32", 2*i+1)))
		sh.commit(t, s)
		take(t, s, exactly("10.0.0.255/32"))
		head, _, err := s.Encode(1)
		require.NoError(t, err)
		s.Rollback(space.Mark{})
		changes := head.Spaces[0].Pieces[0].Changes
		want := slices.Clone(changes)
		take(t, s, exactly("10.0.0.253/32"))
		_, _, err = s.Encode(1)
		require.NoError(t, err)
		s.Rollback(space.Mark{})
		require.Equal(t, want, changes)
	}
}

// A piece that a head makes larger than it was is another piece, also for a handle that knows its record.
func TestPieceOfAnotherRangeIsNotKnown(t *testing.T) {
	s, sh := fewPieces(t)
	require.Empty(t, s.Missing(sh.read(t)))
	head := sh.read(t)
	pieces := &head.Spaces[0].Pieces
	last := len(*pieces) - 1
	grown := (*pieces)[last-1].ID
	*pieces = (*pieces)[:last]
	require.NoError(t, head.Check([]space.Family{space.V4}))
	require.Equal(t, []string{grown}, s.Missing(head))
	require.ErrorIs(t, s.Load(head, sh.records), space.ErrCorrupt)
	require.ErrorIs(t, spaceOf(t, "10.0.0.0/16").Load(head, sh.records), space.ErrCorrupt)
}
