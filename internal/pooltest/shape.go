package pooltest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Shape is a pool of one IPv4 prefix that is measured, with what is held in it.
type Shape struct {
	name   string
	prefix netip.Prefix
	held   int
	every  int // of how many addresses one is held
}

// Packed is a /16 of which so many addresses are held, without a gap.
func Packed(held int) Shape {
	return Shape{fmt.Sprintf("v4-16/packed/held=%d", held), netip.MustParsePrefix("10.0.0.0/16"), held, 1}
}

// EveryOther is the prefix of the length bits at 10.0.0.0 of which every other address is held: the
// most fragmented free space possible.
func EveryOther(bits int) Shape {
	held := 1 << (31 - bits)
	return Shape{
		fmt.Sprintf("v4-%d/every-other/held=%d", bits, held),
		netip.PrefixFrom(netip.MustParseAddr("10.0.0.0"), bits), held, 2,
	}
}

// String is the name of a benchmark of the shape.
func (s Shape) String() string { return s.name }

// Owner is the i-th owner, from 0; those who hold a shape are the first ones. It is as long as a UID.
func Owner(i int) string { return fmt.Sprintf("6f1d2c3b-0000-4000-8000-%012d", i) }

// Build makes the pool in the store.
func (s Shape) Build(b *testing.B, in store.Store) *pool.Pool {
	b.Helper()
	ranges, err := cidr.ParseRanges(s.prefix.String())
	require.NoError(b, err)
	spec := pool.Spec{Ranges: ranges, IPv4: pool.FamilySpec{AllocateReserved: true}}
	p, err := pool.Create(b.Context(), in, Name, spec, nil)
	require.NoError(b, err)
	AllocateAll(b, p, s.claims())
	return p
}

func (s Shape) claims() []pool.Claim {
	claims, addr := make([]pool.Claim, s.held), s.prefix.Addr()
	for i := range claims {
		claims[i].Owner = Owner(i)
		if s.every == 2 {
			claims[i].Requests = []pool.Request{pool.ExactAddr(addr)}
			addr = addr.Next().Next()
		}
	}
	return claims
}
