package space_test

import (
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// shapes are spaces with half of their addresses taken, as one block or as every second one.
func shapes(b *testing.B, strategy space.Strategy, run func(b *testing.B, s *space.Space)) {
	for _, size := range []string{"16", "12"} {
		pool := prefix("10.0.0.0/" + size)
		b.Run("size=/"+size+"/fill=0/shape=packed", func(b *testing.B) {
			run(b, strategic(b, strategy, pool.String()))
		})
		b.Run("size=/"+size+"/fill=50/shape=packed", func(b *testing.B) {
			s := strategic(b, strategy, pool.String())
			take(b, s, &space.Want{Bits: pool.Bits() + 1})
			s.Keep()
			run(b, s)
		})
		b.Run("size=/"+size+"/fill=50/shape=fragmented", func(b *testing.B) {
			s := strategic(b, strategy, pool.String())
			alternate(b, s, pool)
			s.Keep()
			run(b, s)
		})
	}
}

// One address is taken and given back, and both are kept.
func BenchmarkTakeFree(b *testing.B) {
	for name, strategy := range strategies {
		b.Run("strategy="+name, func(b *testing.B) {
			shapes(b, strategy, func(b *testing.B, s *space.Space) {
				w := &space.Want{Bits: 32}
				b.ReportAllocs()
				for b.Loop() {
					p, err := s.Take(w)
					if err != nil {
						b.Fatal(err)
					}
					if err := s.Free(p, space.Held); err != nil {
						b.Fatal(err)
					}
					s.Keep()
				}
			})
		})
	}
}

// One address, which is taken anywhere, is committed.
func BenchmarkEncode(b *testing.B) {
	shapes(b, space.Lowest, func(b *testing.B, s *space.Space) {
		head, _, err := s.Encode(0)
		require.NoError(b, err)
		s.Committed(head)
		random, revision := rand.New(rand.NewPCG(1, 1)), int64(0)
		all := s.Rules().Families[0].Set.Ranges()[0]
		first := all.From().As4()
		b.ReportAllocs()
		for b.Loop() {
			x := random.Uint32N(1 << 16)
			a := netip.AddrFrom4([4]byte{first[0], first[1], byte(x >> 8), byte(x)})
			p := netip.PrefixFrom(a, 32)
			if _, err := s.Take(&space.Want{Exact: p}); err != nil {
				if err := s.Free(p, space.Held); err != nil {
					b.Fatal(err)
				}
			}
			revision++
			head, _, err := s.Encode(revision)
			if err != nil {
				b.Fatal(err)
			}
			s.Committed(head)
		}
	})
}
