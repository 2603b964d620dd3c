package allocator_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/internal/bench"
)

func BenchmarkAllocator(b *testing.B) {
	for _, c := range bench.AllocatorCases() {
		b.Run(c.Name, c.Run)
	}
}
