package pool_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/bench"
)

func BenchmarkPool(b *testing.B) {
	for _, c := range bench.PoolCases() {
		b.Run(c.Name, c.Run)
	}
}
