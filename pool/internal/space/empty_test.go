package space_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// A family may hand out nothing at all. What is held there is out of range; the other family is as ever.
func TestEmptySet(t *testing.T) {
	for _, strategy := range everyStrategy {
		for _, set := range []*netipx.IPSet{nil, {}} {
			rules := space.Rules{Strategy: strategy, Families: []space.FamilyRules{
				{Family: space.V4, Set: set, Total: cidr.CountOf(256)},
				{Family: space.V6, Set: setOf(t, "2001:db8::/126"), Total: cidr.CountOf(4)},
			}}
			s, sh := newSpace(t, rules), &shelf{}
			require.Equal(t, space.Counts{Total: count(256), Reserved: count(256)}, s.Counts()[0])
			within := &space.Want{Bits: 32, Tiers: []*space.Part{partOf(t, "10.0.0.0/24"), {}}}
			for _, w := range []*space.Want{{Bits: 32}, {Bits: 0}, within} {
				require.ErrorIs(t, refused(s, w), allocator.ErrExhausted)
			}
			require.ErrorIs(t, refused(s, &space.Want{Bits: 33}), allocator.ErrInvalid)
			require.ErrorIs(t, refused(s, exactly("10.0.0.0/32")), allocator.ErrOutside)
			require.True(t, s.Has(space.V4))
			require.False(t, s.Covers(prefix("10.0.0.0/32")))
			require.True(t, s.IsFreeWithin(prefix("10.0.0.0/8")))
			require.Empty(t, s.FreeSet(space.V4).Ranges())
			require.Empty(t, s.TakenSet(space.V4).Ranges())

			require.False(t, s.Hold(prefix("10.0.0.0/30"), space.Cooling))
			require.Equal(t, count(4), s.OutOfRange(space.V4))
			_, err := s.Take(&space.Want{Family: space.V6, Bits: 128})
			require.NoError(t, err)
			sh.commit(t, s)
			other := newSpace(t, rules)
			sh.load(t, other)
			requireSame(t, s, other)
			next := newSpace(t, rules)
			require.False(t, next.TakeOver(other), "something is out of range")
			require.NoError(t, other.Free(prefix("10.0.0.0/30"), space.Cooling))
			require.True(t, next.TakeOver(other))
			requireCountsZero(t, other.Counts()[0])
		}
	}
}

func requireCountsZero(t *testing.T, c space.Counts) {
	require.True(t, c.Used.IsZero() && c.Cooling.IsZero() && c.Free.IsZero() && c.OutOfRange.IsZero())
}
