package space_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// In steady state a transaction allocates nothing on the heap, by any strategy, whether it is undone or kept.
func TestNoHeapAllocations(t *testing.T) {
	for name, strategy := range strategies {
		for shape, pool := range map[string]string{"16": "10.0.0.0/16", "64": "2001:db8::/64"} {
			t.Run(name+" of "+shape, func(t *testing.T) {
				s := strategic(t, strategy, pool)
				f := space.FamilyOf(prefix(pool).Addr())
				alternate(t, s, netip.PrefixFrom(prefix(pool).Addr(), f.Width()-12))
				s.Hold(outOfRange(f), space.Cooling)
				wants := []*space.Want{
					{Family: f, Bits: f.Width()},
					{Family: f, Bits: f.Width() - 3},
					{Family: f, Bits: f.Width(), Tiers: []*space.Part{space.NewPart(s.FreeSet(f).Ranges()[:100])}},
					{Family: f, Exact: netip.PrefixFrom(prefix(pool).Addr().Next(), f.Width())},
				}
				taken := make([]netip.Prefix, len(wants))
				transaction := func() {
					start := s.Mark()
					for i := len(wants) - 1; i >= 0; i-- {
						var err error
						if taken[i], err = s.Take(wants[i]); err != nil {
							t.Fatal(err)
						}
						s.Change(taken[i], space.Held, space.Cooling)
					}
					half := s.Mark()
					if s.Free(outOfRange(f), space.Cooling) != nil {
						t.Fatal("out of range")
					}
					for _, p := range taken {
						if s.Free(p, space.Cooling) != nil {
							t.Fatal(p)
						}
					}
					s.Add(space.Expiring, 1)
					s.Rollback(half)
					s.Rollback(start)
					if s.Changed() {
						t.Fatal("not undone")
					}
				}
				for range 1000 {
					transaction()
				}
				require.Zero(t, testing.AllocsPerRun(100, transaction))
			})
		}
	}
}

// outOfRange is a prefix that no pool of these tests hands out.
func outOfRange(f space.Family) netip.Prefix {
	if f == space.V4 {
		return prefix("192.0.2.0/24")
	}
	return prefix("2001:db8:ffff::/64")
}
