package measure

import (
	"math"
	"math/bits"
	"time"
)

// Histogram counts durations in classes that are a sixty-fourth wide or less, so that any number of them takes little
// room. The zero Histogram is empty. It is used by one goroutine at a time.
type Histogram struct {
	counts  []int // by class
	total   int
	longest time.Duration
}

// classBits is the base 2 logarithm of how many classes there are from one power of two to the next.
const classBits = 6

// class is the class of a duration that is not negative. Those below 64 ns have a class each.
func class(d time.Duration) int {
	shift := max(0, bits.Len64(uint64(d))-classBits-1)
	return shift<<classBits + int(d>>shift)
}

// highest is the longest duration of the class.
func highest(class int) time.Duration {
	shift := max(0, class>>classBits-1)
	return time.Duration(class-shift<<classBits+1)<<shift - 1
}

// Add counts a duration. One below 0 counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	for c := class(d); c >= len(h.counts); {
		h.counts = append(h.counts, 0)
	}
	h.counts[class(d)]++
	h.total++
	h.longest = max(h.longest, d)
}

// Count is how many durations there are.
func (h *Histogram) Count() int { return h.total }

// Longest is the longest duration, as it was; 0 if there is none.
func (h *Histogram) Longest() time.Duration { return h.longest }

// Quantile is the shortest duration that a share q of all do not exceed, or up to a sixty-fourth more; 0 if there is
// none. A q of 0.5 is the median.
func (h *Histogram) Quantile(q float64) time.Duration {
	left := max(1, int(math.Ceil(q*float64(h.total))))
	for c, count := range h.counts {
		if left -= count; left <= 0 {
			return min(highest(c), h.longest)
		}
	}
	return h.longest
}
