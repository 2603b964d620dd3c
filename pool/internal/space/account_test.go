package space_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// requireCounts compares the only family's counts, of which Total is not given.
func requireCounts(t *testing.T, s *space.Space, used, cooling, free, outOfRange uint64) {
	t.Helper()
	got := s.Counts()
	require.Len(t, got, 1)
	require.Equal(t, space.Counts{
		Total: count(used + cooling + free), Used: count(used), Cooling: count(cooling), Free: count(free),
		OutOfRange: count(outOfRange),
	}, got[0])
}

// What is held partly out of range is counted address by address, and leaves the counts as it came.
func TestPartlyOutOfRange(t *testing.T) {
	s := spaceOf(t, "10.0.0.4-10.0.0.9", "10.0.0.11", "10.0.0.14-10.0.0.40")
	wide := prefix("10.0.0.0/28") // 9 of 16 may be handed out
	require.False(t, s.Hold(wide, space.Held))
	requireCounts(t, s, 9, 0, 25, 7)
	in, outside := s.Inside(wide)
	require.Equal(t, []netip.Prefix{
		prefix("10.0.0.4/30"), prefix("10.0.0.8/31"), prefix("10.0.0.11/32"), prefix("10.0.0.14/31"),
	}, in)
	require.Equal(t, count(7), outside)

	s.Change(wide, space.Held, space.Cooling)
	requireCounts(t, s, 0, 9, 25, 7)
	s.Change(wide, space.Cooling, space.Held)
	requireCounts(t, s, 9, 0, 25, 7)
	s.Change(wide, space.Held, space.Cooling)
	start := s.Mark()
	require.NoError(t, s.Free(wide, space.Cooling))
	requireCounts(t, s, 0, 0, 34, 0)
	require.True(t, s.IsFreeWithin(wide))
	s.Rollback(start)
	requireCounts(t, s, 0, 9, 25, 7)
	require.NoError(t, s.Free(wide, space.Cooling))
	s.Keep()
	requireCounts(t, s, 0, 0, 34, 0)
}

// A prefix of which the second part is free already is given back not at all.
func TestFreeIsAllOrNothing(t *testing.T) {
	s := spaceOf(t, "10.0.0.0-10.0.0.3", "10.0.0.8-10.0.0.11")
	require.False(t, s.Hold(prefix("10.0.0.0/28"), space.Held))
	require.NoError(t, s.Free(prefix("10.0.0.8/31"), space.Held))
	before := viewOf(s)
	mark := s.Mark()
	require.ErrorIs(t, s.Free(prefix("10.0.0.0/28"), space.Cooling), allocator.ErrNotTaken)
	require.ErrorIs(t, s.Free(prefix("10.0.0.8/31"), space.Cooling), allocator.ErrNotTaken)
	for _, p := range []netip.Prefix{{}, netip.PrefixFrom(addr("10.0.0.1"), 28)} {
		require.ErrorIs(t, s.Free(p, space.Held), allocator.ErrInvalid)
	}
	require.Equal(t, before, viewOf(s))
	require.Equal(t, mark, s.Mark())
}

// Two records that overlap clash; what both hold is taken once.
func TestHoldTellsClashes(t *testing.T) {
	s := spaceOf(t, "10.0.0.0/24")
	require.False(t, s.Hold(prefix("10.0.0.5/32"), space.Held))
	require.False(t, s.Hold(prefix("10.0.0.8/29"), space.Cooling))
	require.False(t, s.Hold(prefix("192.0.2.0/24"), space.Held))
	require.True(t, s.Hold(prefix("10.0.0.0/28"), space.Held))
	require.True(t, s.Hold(prefix("10.0.0.0/28"), space.Held))
	require.Equal(t, []netip.Prefix{prefix("10.0.0.0/28")}, s.TakenSet(space.V4).Prefixes())
	requireCounts(t, s, 8, 8, 240, 256)
	require.False(t, s.Changed())
	s.Hold(netip.Prefix{}, space.Cooling)
	requireCounts(t, s, 8, 8, 240, 256)
}

// A family that the rules do not have is counted after those that they have, and leaves when nothing of it is held.
func TestFamilyThatIsLeft(t *testing.T) {
	s, sh := spaceOf(t, "2001:db8::/64"), &shelf{}
	require.False(t, s.Hold(prefix("10.0.0.0/30"), space.Cooling))
	require.Equal(t, []space.Counts{
		{Family: space.V6, Total: cidr.Pow2(64), Free: cidr.Pow2(64)},
		{Family: space.V4, OutOfRange: count(4)},
	}, s.Counts())
	require.True(t, s.InUse(space.V4, space.Cooling).IsZero())
	sh.commit(t, s)
	require.Contains(t, string(sh.head), `"left":[{"family":"IPv4"`)
	other := spaceOf(t, "2001:db8::/64")
	sh.load(t, other)
	requireSame(t, s, other)
	require.Equal(t, s.Counts(), sh.read(t).Counts())
	require.False(t, spaceOf(t, "2001:db8::/48").TakeOver(s))

	require.NoError(t, other.Free(prefix("10.0.0.0/31"), space.Cooling))
	require.Equal(t, count(2), other.OutOfRange(space.V4))
	require.NoError(t, other.Free(prefix("10.0.0.2/31"), space.Cooling))
	require.Len(t, other.Counts(), 1)
	sh.commit(t, other)
	require.NotContains(t, string(sh.head), "left")
	require.True(t, spaceOf(t, "2001:db8::/48").TakeOver(other))
}

func TestTakeOver(t *testing.T) {
	old := newSpace(t, rulesOf(space.Next, 2, setOf(t, "10.0.0.0/24"), setOf(t, "2001:db8::/64")))
	take(t, old, &space.Want{Bits: 28})
	old.Change(prefix("10.0.0.0/28"), space.Held, space.Cooling)
	old.Add(space.Expiring, 1)
	old.Add(space.Aside, 2)
	old.Add(space.Delegated, 3)
	old.Add(space.Holding, 4)

	// IPv6 goes, of which nothing is taken.
	next := newSpace(t, rulesOf(space.Next, 0, setOf(t, "10.0.0.0/20")))
	require.True(t, next.TakeOver(old))
	require.Empty(t, next.Cursors())
	next.KeepCursors(old)
	require.Equal(t, view{
		counts:  []space.Counts{{Total: count(4096), Cooling: count(16), Free: count(4080)}},
		cursors: []netip.Addr{addr("10.0.0.16")}, records: [4]int{1, 2, 3, 4},
	}, view{counts: next.Counts(), cursors: next.Cursors(), records: viewOf(next).records})
	require.Equal(t, old.TakenSet(space.V4), next.TakenSet(space.V4))

	take(t, old, &space.Want{Family: space.V6, Bits: 128})
	require.False(t, newSpace(t, old.Rules()).TakeOver(spaceWith(t, old.Rules(), "192.0.2.0/24")))
	require.False(t, spaceOf(t, "10.0.0.0/20").TakeOver(old), "an IPv6 address is taken")
	smaller := rulesOf(space.Next, 0, setOf(t, "10.0.0.0/29"), setOf(t, "2001:db8::/64"))
	require.False(t, newSpace(t, smaller).TakeOver(old))
}

// spaceWith is a space in which a prefix is held.
func spaceWith(t *testing.T, rules space.Rules, held string) *space.Space {
	s := newSpace(t, rules)
	s.Hold(prefix(held), space.Held)
	return s
}

// Counters of records stop at 0, and come back with a rollback as they were.
func TestAddStopsAtZero(t *testing.T) {
	s := spaceOf(t, "10.0.0.0/24")
	s.Add(space.Aside, 2)
	start := s.Mark()
	s.Add(space.Aside, -5)
	require.Zero(t, s.Tally(space.Aside))
	s.Rollback(start)
	require.Equal(t, 2, s.Tally(space.Aside))
	s.Add(space.Aside, 0)
	require.Equal(t, start, s.Mark())
}
