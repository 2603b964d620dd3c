package pool_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// nthBlock is the block with the number i of eight addresses, from 10.0.0.0 on.
func nthBlock(i int) netip.Prefix {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24+uint32(i)<<3)
	return netip.PrefixFrom(netip.AddrFrom4(b), 29)
}

// halfOf is the first half of a block.
func halfOf(block netip.Prefix) netipx.IPRange {
	return netipx.RangeOfPrefix(netip.PrefixFrom(block.Addr(), 30))
}

// halves are the first halves of so many blocks: ranges that do not touch.
func halves(n int) []netipx.IPRange {
	ranges := make([]netipx.IPRange, n)
	for i := range ranges {
		ranges[i] = halfOf(nthBlock(i))
	}
	return ranges
}

// manySpecs are specs with n of something.
var manySpecs = []struct {
	name string
	spec func(n int) pool.Spec
}{
	{"ranges", func(n int) pool.Spec { return pool.Spec{Ranges: halves(n)} }},
	{"subnets", func(n int) pool.Spec {
		var spec pool.Spec
		for i := range n {
			p := nthBlock(i)
			spec.Subnets = append(spec.Subnets, pool.Subnet{Prefix: p, Gateway: p.Addr().Next()})
		}
		return spec
	}},
	{"ranges in subnets", func(n int) pool.Spec {
		var spec pool.Spec
		for i := range n / 2 {
			spec.Subnets = append(spec.Subnets, pool.Subnet{Prefix: nthBlock(i)})
			spec.Ranges = append(spec.Ranges, halfOf(nthBlock(i)))
		}
		return spec
	}},
	{"exclusions", func(n int) pool.Spec { return pool.Spec{Ranges: ranges("10.0.0.0/8"), Exclude: halves(n)} }},
	{"one band", func(n int) pool.Spec {
		return pool.Spec{Ranges: ranges("10.0.0.0/8"), Bands: []pool.Band{{Name: "band", Ranges: halves(n), Exclusive: true}}}
	}},
	{"bands", func(n int) pool.Spec {
		spec := pool.Spec{Ranges: ranges("10.0.0.0/8")}
		for i, r := range halves(n) {
			spec.Bands = append(spec.Bands, pool.Band{Name: fmt.Sprint(i), Ranges: []netipx.IPRange{r}})
		}
		return spec
	}},
}

var manySizes = []int{1000, 10_000, 100_000}

// BenchmarkSpec shows what a large spec costs. All but the allocations should rise about tenfold with each size, and
// the allocations should not rise.
func BenchmarkSpec(b *testing.B) {
	for _, c := range manySpecs {
		for _, n := range manySizes {
			spec := c.spec(n)
			at := func(op string) string { return fmt.Sprintf("%s/n=%d/%s", c.name, n, op) }
			b.Run(at("validate"), func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, spec.Validate())
				}
			})
			b.Run(at("new"), func(b *testing.B) {
				for b.Loop() {
					must(pool.New(spec, nil))
				}
			})
			b.Run(at("new and allocate"), func(b *testing.B) {
				for b.Loop() {
					allocate(b, must(pool.New(spec, nil)), pool.Claim{Owner: "a"})
				}
			})
			b.Run(at("create"), func(b *testing.B) {
				for b.Loop() {
					create(b, store.NewMemory(), spec)
				}
			})
			s := store.NewMemory()
			p := create(b, s, spec)
			b.Run(at("open"), func(b *testing.B) {
				for b.Loop() {
					open(b, s)
				}
			})
			b.Run(at("update"), func(b *testing.B) {
				for b.Loop() {
					require.NoError(b, p.Update(b.Context(), spec))
				}
			})
			b.Run(at("allocate and release"), func(b *testing.B) {
				for b.Loop() {
					allocate(b, p, pool.Claim{Owner: "a"})
					must(p.Release(b.Context(), pool.Held{Owner: "a"}))
				}
			})
		}
	}
}

// BenchmarkWithin shows what a claim in a set of many ranges costs.
func BenchmarkWithin(b *testing.B) {
	for _, n := range manySizes {
		set := cidr.SetOf(halves(n)...)
		p := must(pool.New(specOf("10.0.0.0/8"), nil))
		b.Run(fmt.Sprintf("n=%d/one request", n), func(b *testing.B) {
			for b.Loop() {
				allocate(b, p, pool.Claim{Owner: "a", Requests: []pool.Request{{Within: set}}})
				must(p.Release(b.Context(), pool.Held{Owner: "a"}))
			}
		})
		b.Run(fmt.Sprintf("n=%d/one request in a new set", n), func(b *testing.B) {
			for b.Loop() {
				other := *set
				allocate(b, p, pool.Claim{Owner: "a", Requests: []pool.Request{{Within: &other}}})
				must(p.Release(b.Context(), pool.Held{Owner: "a"}))
			}
		})
		requests := make([]pool.Request, min(pool.MaxRequests, 4*n))
		for i := range requests {
			requests[i].Within = set
		}
		b.Run(fmt.Sprintf("n=%d/%d requests", n, len(requests)), func(b *testing.B) {
			for b.Loop() {
				allocate(b, p, pool.Claim{Owner: "a", Requests: requests})
				must(p.Release(b.Context(), pool.Held{Owner: "a"}))
			}
		})
	}
}
