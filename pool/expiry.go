package pool

import (
	"container/heap"
	"iter"
)

// expiry is a heap of the holdings in memory that expire, the earliest first. Each knows its place, counted from 1.
// Adding, moving and removing one costs O(log n).
type expiry []*kept

// Len, Less, Swap, Push and Pop are for package heap.
func (e expiry) Len() int           { return len(e) }
func (e expiry) Less(i, j int) bool { return e[i].expires < e[j].expires }
func (e expiry) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].place, e[j].place = int32(i+1), int32(j+1)
}

func (e *expiry) Push(x any) {
	k := x.(*kept)
	*e = append(*e, k)
	k.place = int32(len(*e))
}

func (e *expiry) Pop() any {
	last := len(*e) - 1
	k := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	k.place = 0
	return k
}

// replace puts in k, if it expires, in the place of old, if that does. Either may be nil.
func (e *expiry) replace(old, k *kept) {
	expires := k != nil && k.ends()
	switch {
	case old == nil || old.place == 0:
		if expires {
			heap.Push(e, k)
		}
	case expires:
		(*e)[old.place-1], k.place, old.place = k, old.place, 0
		heap.Fix(e, int(k.place)-1)
	default:
		heap.Remove(e, int(old.place)-1)
	}
}

// inOrder iterates over the holdings, the earliest first. The heap must not change during the
// iteration. Cost: O(k log k) for the first k.
func (e expiry) inOrder() iter.Seq[*kept] {
	return func(yield func(*kept) bool) {
		if len(e) == 0 {
			return
		}
		front := frontier{all: e, next: []int{0}}
		for len(front.next) > 0 {
			i := front.next[0]
			if !yield(e[i]) {
				return
			}
			heap.Pop(&front)
			for _, child := range []int{2*i + 1, 2*i + 2} {
				if child < len(e) {
					heap.Push(&front, child)
				}
			}
		}
	}
}

// frontier is a heap of the places in another heap that come next in its order: all that is above them has come.
type frontier struct {
	all  expiry
	next []int
}

func (f *frontier) Len() int           { return len(f.next) }
func (f *frontier) Less(i, j int) bool { return f.all.Less(f.next[i], f.next[j]) }
func (f *frontier) Swap(i, j int)      { f.next[i], f.next[j] = f.next[j], f.next[i] }
func (f *frontier) Push(x any)         { f.next = append(f.next, x.(int)) }
func (f *frontier) Pop() any {
	last := f.next[len(f.next)-1]
	f.next = f.next[:len(f.next)-1]
	return last
}
