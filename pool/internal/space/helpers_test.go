package space_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

var everyStrategy = []space.Strategy{
	space.Lowest, space.Next, space.Random, space.Highest, space.Spread, space.Best,
}

var strategies = map[string]space.Strategy{
	"lowest": space.Lowest, "next": space.Next, "random": space.Random, "highest": space.Highest, "spread": space.Spread,
	"best": space.Best,
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func setOf(t require.TestingT, texts ...string) *netipx.IPSet {
	sets := &netipx.IPSet{}
	for _, text := range texts {
		r, err := cidr.ParseRange(text)
		require.NoError(t, err)
		sets = cidr.Union(sets, cidr.SetOf(r))
	}
	return sets
}

func partOf(t require.TestingT, texts ...string) *space.Part {
	return space.NewPart(setOf(t, texts...).Ranges())
}

// rulesOf are rules with a family for each set that is not nil, IPv4 first, of which so many addresses more are
// reserved.
func rulesOf(strategy space.Strategy, reserved uint64, sets ...*netipx.IPSet) space.Rules {
	rules := space.Rules{Strategy: strategy}
	for i, set := range sets {
		if set != nil {
			rules.Families = append(rules.Families, space.FamilyRules{
				Family: space.Family(i), Set: set, Total: cidr.Size(set).Add(cidr.CountOf(reserved)),
			})
		}
	}
	return rules
}

func newSpace(t require.TestingT, rules space.Rules) *space.Space {
	s, err := space.New(rules, rand.New(rand.NewPCG(1, 2)).Uint64)
	require.NoError(t, err)
	return s
}

// spaceOf is a space of one family that hands out what the texts say.
func spaceOf(t require.TestingT, texts ...string) *space.Space {
	return strategic(t, space.Lowest, texts...)
}

func strategic(t require.TestingT, strategy space.Strategy, texts ...string) *space.Space {
	set := setOf(t, texts...)
	if space.FamilyOf(set.Ranges()[0].From()) == space.V4 {
		return newSpace(t, rulesOf(strategy, 0, set))
	}
	return newSpace(t, rulesOf(strategy, 0, nil, set))
}

func exactly(text string) *space.Want {
	p := prefix(text)
	return &space.Want{Family: space.FamilyOf(p.Addr()), Exact: p}
}

func take(t require.TestingT, s *space.Space, w *space.Want) string {
	p, err := s.Take(w)
	require.NoError(t, err)
	return p.String()
}

func refused(s *space.Space, w *space.Want) error {
	_, err := s.Take(w)
	return err
}

// view is all that can be seen of a space.
type view struct {
	counts  []space.Counts
	cursors []netip.Addr
	records [4]int
	free    [2][]netipx.IPRange
	taken   [2][]netipx.IPRange
}

func viewOf(s *space.Space) view {
	v := view{counts: s.Counts(), cursors: s.Cursors()}
	for c := range v.records {
		v.records[c] = s.Tally(space.Counter(c))
	}
	for f := range v.free {
		v.free[f] = s.FreeSet(space.Family(f)).Ranges()
		v.taken[f] = s.TakenSet(space.Family(f)).Ranges()
	}
	return v
}

func count(n uint64) cidr.Count { return cidr.CountOf(n) }

func requireSame(t testing.TB, want, got *space.Space) {
	t.Helper()
	require.Equal(t, viewOf(want), viewOf(got))
}
