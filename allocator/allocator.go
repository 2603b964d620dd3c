package allocator

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/sentinel"
)

// Errors that an [Allocator] returns, wrapped in a message that quotes the argument. Test for them with [errors.Is].
var (
	// ErrExhausted is returned when the searched addresses include no free prefix of the requested length.
	ErrExhausted = sentinel.ErrExhausted
	// ErrTaken is returned when an address of the prefix is taken.
	ErrTaken = sentinel.ErrTaken
	// ErrNotTaken is returned when an address of a prefix to release is free.
	ErrNotTaken = errors.New("not taken")
	// ErrOutside is returned when an address of the prefix is not in the allocator's set.
	ErrOutside = errors.New("outside of the set")
	// ErrInvalid is returned for an argument that no allocator of the family accepts, such as a prefix with host bits,
	// a prefix of the other family, or a length that no prefix of the family has.
	ErrInvalid = sentinel.ErrInvalid
	// ErrCorrupt is returned when bytes to decode are not an encoding.
	ErrCorrupt = errors.New("corrupt")
	// ErrNewerFormat is returned when the encoding to decode has a version that only a newer release knows.
	ErrNewerFormat = sentinel.ErrNewerFormat
)

// Allocator hands out the addresses of a set, all of one family, one by one or as prefixes of any length.
//
// The zero Allocator has no addresses and no family; use [New]. An Allocator must not be copied; use [Allocator.Clone].
// It is not safe for concurrent use, but any number of goroutines may read it while none changes it.
//
// A method costs O(levels) unless it says otherwise. There are at most 6 levels for IPv4 and 22 for IPv6, and mostly 2
// to 4, whatever the size of the set and however many addresses are taken. No method allocates on the heap unless it
// says so or returns an error, with one exception: a change may copy the tree to a larger block of memory when the set
// becomes more fragmented than before, or fragmented in another way. That cost is amortized.
//
// A prefix argument must be masked: it must have no host bits. An IPv4-mapped IPv6 address, such as ::ffff:192.0.2.1,
// is an IPv6 address, as in package netip.
type Allocator struct {
	tree     tree
	universe []span
	total    cidr.Count
	free     cidr.Count
	is4      bool
}

// span is a range of addresses, both ends included.
type span struct{ first, last uint128 }

// New returns an allocator for the addresses of set, all of them free.
//
// Errors: [ErrInvalid] if set has addresses of both families, or is empty and so has no family; see [Empty].
//
// Cost: O(ranges in the set × levels), and memory for them.
func New(set *netipx.IPSet) (*Allocator, error) {
	if set == nil || len(set.Ranges()) == 0 {
		return nil, fmt.Errorf("%w: the set to allocate from is empty; want at least one address, or use Empty", ErrInvalid)
	}
	ranges := set.Ranges()
	first, last := ranges[0].From(), ranges[len(ranges)-1].To()
	if first.BitLen() != last.BitLen() {
		return nil, fmt.Errorf("%w: the set to allocate from has addresses of both families, %v and %v; "+
			"want one allocator for each", ErrInvalid, first, last)
	}
	a := &Allocator{is4: first.Is4(), tree: newTree(first.Is4())}
	for _, r := range ranges {
		s := a.spanOf(r)
		a.universe = append(a.universe, s)
		a.tree.paintRange(s, true)
		a.total = a.total.Add(cidr.RangeSize(r))
	}
	a.free = a.total
	return a, nil
}

// Empty returns an allocator without addresses, of the IPv4 family if is4 and of the IPv6 family otherwise. Every
// search returns [ErrExhausted], and every prefix of the family is outside its set. Unlike the zero Allocator, it has a
// family, and can be encoded and decoded.
//
// Cost: O(1), and memory for the allocator.
func Empty(is4 bool) *Allocator { return &Allocator{is4: is4, tree: newTree(is4)} }

// Is4 reports whether the allocator's addresses are IPv4.
func (a *Allocator) Is4() bool { return a.is4 }

// Total returns the number of addresses in the set. Cost: O(1).
func (a *Allocator) Total() cidr.Count { return a.total }

// Free returns the number of free addresses. Cost: O(1).
func (a *Allocator) Free() cidr.Count { return a.free }

// Taken returns the number of taken addresses. Cost: O(1).
func (a *Allocator) Taken() cidr.Count { return a.total.Sub(a.free) }

// Set returns the allocator's set: all addresses, free and taken. Cost: O(n log n) for n ranges in the set, and memory
// for them.
func (a *Allocator) Set() *netipx.IPSet {
	ranges := make([]netipx.IPRange, len(a.universe))
	for i, s := range a.universe {
		ranges[i] = a.rangeOf(s)
	}
	return cidr.SetOf(ranges...)
}

// TakeFirst takes the lowest free prefix of the length bits, and returns it. A length of 32 for IPv4 or 128 for IPv6
// takes one address. All addresses of the prefix are in the set.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have.
func (a *Allocator) TakeFirst(bits int) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err != nil {
		return netip.Prefix{}, err
	}
	x, ok := a.tree.takeFirst(order)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%w: no free /%d among %v addresses, of which %v are free",
			ErrExhausted, bits, a.total, a.free)
	}
	return a.taken(x, order, bits), nil
}

// TakeFirstFrom takes the lowest free prefix of the length bits that starts at addr or above, and returns it. The
// search ends at the end of the set and does not continue at its start. The zone of addr is ignored.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have, and for an address that is invalid
// or of the other family.
func (a *Allocator) TakeFirstFrom(addr netip.Addr, bits int) (netip.Prefix, error) {
	if err := a.checkFamily(addr); err != nil {
		return netip.Prefix{}, err
	}
	if a.isZero() {
		return a.TakeFirst(bits)
	}
	return a.TakeFirstIn(bits, netipx.IPRangeFrom(addr.WithZone(""), a.highest().addr(a.is4)))
}

// TakeFirstIn takes the lowest free prefix of the length bits that lies in the first of the ranges, and returns it. If
// there is none, it tries the second range, and so on. A prefix must lie in one of the ranges entirely.
//
// Errors: [ErrExhausted], also if no range is valid and of the family; [ErrInvalid] for a length that the family does
// not have.
//
// Cost: O(ranges tried × levels).
func (a *Allocator) TakeFirstIn(bits int, ranges ...netipx.IPRange) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err != nil {
		return netip.Prefix{}, err
	}
	for _, r := range ranges {
		if !r.IsValid() || r.From().Is4() != a.is4 {
			continue
		}
		if x, ok := a.firstIn(a.spanOf(r), order); ok {
			a.tree.paint(x, order, false)
			return a.taken(x, order, bits), nil
		}
	}
	return netip.Prefix{}, fmt.Errorf("%w: no free /%d in the given ranges", ErrExhausted, bits)
}

// firstIn returns the first address of the lowest free block of the order in s.
func (a *Allocator) firstIn(s span, order uint) (uint128, bool) {
	x := s.first.floor(order)
	if x != s.first {
		x = x.last(order).next()
		if x.less(s.first) || a.highest().less(x) {
			return uint128{}, false // no multiple of the size is at s.first or above
		}
	}
	x, ok := a.tree.first(order, x)
	return x, ok && !s.last.less(x.last(order))
}

// taken updates the count of free addresses after a block was taken, and returns the block as a prefix.
func (a *Allocator) taken(x uint128, order uint, bits int) netip.Prefix {
	a.free = a.free.Sub(sizeOf(order))
	return netip.PrefixFrom(x.addr(a.is4), bits)
}

// Take takes p, of which every address must be free. If some may be taken already, use
// [Allocator.Occupy].
//
// Errors, after which nothing has changed: [ErrTaken] if an address of p is taken; [ErrOutside]; [ErrInvalid].
func (a *Allocator) Take(p netip.Prefix) error {
	x, order, err := a.block(p)
	if err != nil {
		return err
	}
	if a.tree.flip(x, order, false) {
		a.free = a.free.Sub(sizeOf(order))
		return nil
	}
	if !a.covers(x, order) {
		return fmt.Errorf("%v: %w", p, ErrOutside)
	}
	return fmt.Errorf("%v: %w", p, ErrTaken)
}

// Release frees p, of which every address must be taken. The addresses need not have been taken together: two /25 may
// be released as one /24, and a /24 as two /25. If some addresses may be free already, use [Allocator.Vacate].
//
// Errors, after which nothing has changed: [ErrNotTaken] if an address of p is free; [ErrOutside]; [ErrInvalid].
func (a *Allocator) Release(p netip.Prefix) error {
	x, order, err := a.block(p)
	if err != nil {
		return err
	}
	if !a.covers(x, order) {
		return fmt.Errorf("%v: %w", p, ErrOutside)
	}
	if !a.tree.flip(x, order, true) {
		return fmt.Errorf("%v: %w", p, ErrNotTaken)
	}
	a.free = a.free.Add(sizeOf(order))
	return nil
}

// IsFree reports whether every address of p is in the set and free. For an invalid p, it returns false.
func (a *Allocator) IsFree(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.tree.fillOf(x, order) == allFree
}

// IsTaken reports whether every address of p is in the set and taken. For an invalid p, it returns false.
func (a *Allocator) IsTaken(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.covers(x, order) && a.tree.fillOf(x, order) == nothingFree
}

// Covers reports whether every address of p is in the set, free or taken. For an invalid p, it returns false. Cost:
// O(log n) for n ranges in the set.
func (a *Allocator) Covers(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.covers(x, order)
}

// FreeRanges returns an iterator over the free addresses as ranges, in order. No two of the ranges touch. The allocator
// must not be changed during the iteration. Cost: O(levels × ranges of the set + runs of free or taken addresses), and
// a few heap allocations for each range of the set.
func (a *Allocator) FreeRanges() iter.Seq[netipx.IPRange] { return a.ranges(true) }

// TakenRanges returns an iterator over the taken addresses as ranges, in the way of [Allocator.FreeRanges].
func (a *Allocator) TakenRanges() iter.Seq[netipx.IPRange] { return a.ranges(false) }

func (a *Allocator) ranges(free bool) iter.Seq[netipx.IPRange] {
	return func(yield func(netipx.IPRange) bool) {
		for _, s := range a.universe {
			if !a.tree.eachRun(s.first, s.last, free, func(first, last uint128) bool {
				return yield(a.rangeOf(span{first, last}))
			}) {
				return
			}
		}
	}
}

// Clone returns a copy that shares no memory with a. Cost: O(n) for the n bytes that a takes, and memory for the copy.
func (a *Allocator) Clone() *Allocator {
	c := *a
	c.tree.nodes = slices.Clone(a.tree.nodes)
	c.tree.slab = slices.Clone(a.tree.slab)
	c.tree.orders = slices.Clone(a.tree.orders)
	c.universe = slices.Clone(a.universe)
	return &c
}

// sizeOf returns the number of addresses in a block of the order.
func sizeOf(order uint) cidr.Count {
	if order < 64 {
		return cidr.CountOf(1 << order)
	}
	return cidr.Pow2(int(order))
}

func (a *Allocator) width() int {
	if a.is4 {
		return 32
	}
	return 128
}

// highest returns the last address of the family.
func (a *Allocator) highest() uint128 { return uint128{}.last(uint(a.width())) }

func (a *Allocator) order(bits int) (uint, error) {
	if a.isZero() {
		return 0, fmt.Errorf("%w: the zero Allocator has no addresses; use New", ErrExhausted)
	}
	if width := a.width(); bits < 0 || bits > width {
		return 0, fmt.Errorf("%w: prefix length %d: want 0 to %d", ErrInvalid, bits, width)
	}
	return uint(a.width() - bits), nil
}

func (a *Allocator) checkFamily(addr netip.Addr) error {
	if !a.isZero() && (!addr.IsValid() || addr.Is4() != a.is4) {
		return fmt.Errorf("%w: address %v: want an %s address", ErrInvalid, addr, a.family())
	}
	return nil
}

// isZero reports whether a is the zero Allocator, which has no tree.
func (a *Allocator) isZero() bool { return len(a.tree.nodes) == 0 }

func (a *Allocator) family() string {
	if a.is4 {
		return "IPv4"
	}
	return "IPv6"
}

// block checks p and returns it as a start and an order.
func (a *Allocator) block(p netip.Prefix) (uint128, uint, error) {
	if a.isZero() {
		return uint128{}, 0, fmt.Errorf("%v: %w: the zero Allocator has no addresses; use New", p, ErrOutside)
	}
	if !p.IsValid() || p.Addr().Is4() != a.is4 {
		return uint128{}, 0, fmt.Errorf("%w: prefix %v: want an %s prefix", ErrInvalid, p, a.family())
	}
	x, order := keyOf(p.Addr()), uint(a.width()-p.Bits())
	if x != x.floor(order) {
		return uint128{}, 0, fmt.Errorf("%w: prefix %v has host bits: want %v", ErrInvalid, p, p.Masked())
	}
	return x, order, nil
}

// covers reports whether the block of 2^order addresses at x is in the set.
func (a *Allocator) covers(x uint128, order uint) bool {
	return a.coversSpan(span{x, x.last(order)})
}

// coversSpan reports whether all addresses of s are in the set.
func (a *Allocator) coversSpan(s span) bool {
	if len(a.universe) == 0 {
		return false
	}
	low, high := 0, len(a.universe)-1
	for low < high { // the range that s lies in, if any does, is the first that ends at s.last or above
		middle := int(uint(low+high) >> 1)
		if a.universe[middle].last.less(s.last) {
			low = middle + 1
		} else {
			high = middle
		}
	}
	u := &a.universe[low]
	return !s.first.less(u.first) && !u.last.less(s.last)
}

func (a *Allocator) spanOf(r netipx.IPRange) span { return span{keyOf(r.From()), keyOf(r.To())} }

func (a *Allocator) rangeOf(s span) netipx.IPRange {
	return netipx.IPRangeFrom(s.first.addr(a.is4), s.last.addr(a.is4))
}
