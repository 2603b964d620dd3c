package view_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool/view"
)

// Each cell has a place of its own, and cells that follow each other touch.
func TestHilbertIsABijectionOfUnitSteps(t *testing.T) {
	for bits := 0; bits <= 14; bits++ {
		seen := map[[2]int]bool{}
		lastX, lastY := -1, 0
		for i := range 1 << bits {
			x, y, width, height := view.GridAt(bits, i)
			require.Equal(t, 1<<bits, width*height)
			require.Contains(t, []int{height, 2 * height}, width)
			if x < 0 || x >= width || y < 0 || y >= height || seen[[2]int{x, y}] {
				require.Failf(t, "outside of the grid or seen before", "bits %d, cell %d: %d,%d", bits, i, x, y)
			}
			seen[[2]int{x, y}] = true
			if step := abs(x-lastX) + abs(y-lastY); step != 1 {
				require.Failf(t, "not a unit step", "bits %d, cell %d: %d", bits, i, step)
			}
			lastX, lastY = x, y
		}
	}
}

func abs(n int) int { return max(n, -n) }

// An aligned block is a square or a rectangle of 2:1, and has exactly its cells.
func TestHilbertBlocks(t *testing.T) {
	for bits := 0; bits <= 9; bits++ {
		for n := 0; n <= bits; n++ {
			for first := 0; first < 1<<bits; first += 1 << n {
				x, y, width, height := view.GridBlock(bits, first, n)
				require.Equal(t, 1<<n, width*height)
				require.LessOrEqual(t, max(width, height), 2*min(width, height))
				for i := first; i < first+1<<n; i++ {
					cx, cy, _, _ := view.GridAt(bits, i)
					require.True(t, cx >= x && cx < x+width && cy >= y && cy < y+height,
						"bits %d, block %d of 2^%d, cell %d", bits, first, n, i)
				}
			}
		}
	}
}
