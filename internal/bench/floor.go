// Package bench holds the benchmark cases of the library's hot paths, so that the benchmarks of its packages and
// the checker in internal/hotpath run the same.
package bench

import "math/bits"

// Floor is a bare bitmap of a /16 in two levels: the least that anything which finds the lowest free of 65,536
// addresses has to do. It knows no prefixes, no sets and no families.
type Floor struct {
	summary [16]uint64 // a bit for each word with something free
	words   [1024]uint64
}

// NewFloor returns a floor with all free.
func NewFloor() *Floor {
	f := &Floor{}
	for i := range f.words {
		f.words[i] = ^uint64(0)
	}
	for i := range f.summary {
		f.summary[i] = ^uint64(0)
	}
	return f
}

// TakeFirst takes the lowest free address; -1 if there is none.
func (f *Floor) TakeFirst() int {
	for i, s := range f.summary {
		if s == 0 {
			continue
		}
		w := i<<6 | bits.TrailingZeros64(s)
		b := bits.TrailingZeros64(f.words[w])
		f.words[w] &^= 1 << b
		if f.words[w] == 0 {
			f.summary[i] &^= 1 << (w & 63)
		}
		return w<<6 | b
	}
	return -1
}

// Release frees an address.
func (f *Floor) Release(n int) {
	f.words[n>>6] |= 1 << (n & 63)
	f.summary[n>>12] |= 1 << (n >> 6 & 63)
}
