package allocator

import (
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// Errors that an [Allocator] returns, for use with [errors.Is]. The message around them quotes the prefix.
var (
	// ErrExhausted says that no free block of the length is left where it was looked for.
	ErrExhausted = errors.New("exhausted")
	// ErrTaken says that some address of the prefix is taken.
	ErrTaken = errors.New("taken")
	// ErrNotTaken says that some address of the prefix is free, so that it cannot be released.
	ErrNotTaken = errors.New("not taken")
	// ErrOutside says that some address of the prefix is not one that the allocator hands out.
	ErrOutside = errors.New("outside of the set")
	// ErrInvalid says that an argument cannot be meant: a prefix with host bits, of the other family, or a
	// length that no prefix of the family has.
	ErrInvalid = errors.New("invalid")
	// ErrCorrupt says that bytes to decode are not what was encoded.
	ErrCorrupt = errors.New("corrupt")
)

// Allocator hands out the addresses of one set, all of one family, singly or as prefixes of any length.
//
// The zero Allocator hands out nothing and has no family; use [New]. An Allocator must not be copied (see
// [Allocator.Clone]). It is not safe for concurrent use, except that any number of goroutines may read it while none
// changes it. It does no I/O, starts no goroutine and knows no clock.
//
// Unless said otherwise, a method costs O(levels): at most 6 for IPv4 and 22 for IPv6, and mostly 2 to 4,
// whatever the size of the set, the number of addresses taken and their pattern; and it does not allocate on the
// heap, except that taking or releasing may copy the structure to a larger place when it becomes more fragmented, or
// fragmented in another way, than it has been; that cost is amortized.
//
// Prefixes given to it must be masked (no host bits). An IPv4-mapped IPv6 address (4in6, such as ::ffff:192.0.2.1) is
// an IPv6 one here, as it is for package netip.
type Allocator struct {
	tree     tree
	universe []span
	total    cidr.Count
	free     cidr.Count
	is4      bool
}

// span is a range of addresses, both ends included.
type span struct{ first, last uint128 }

// New returns an allocator for the addresses of set, all of them free. The set must be of one family, and must not
// be empty, because an empty one has no family: see [Empty]. Otherwise the error wraps [ErrInvalid].
//
// Cost: O(ranges in the set × levels).
func New(set *netipx.IPSet) (*Allocator, error) {
	if set == nil || len(set.Ranges()) == 0 {
		return nil, fmt.Errorf("%w: the set to allocate from is empty", ErrInvalid)
	}
	ranges := set.Ranges()
	first, last := ranges[0].From(), ranges[len(ranges)-1].To()
	if first.BitLen() != last.BitLen() {
		return nil, fmt.Errorf("%w: the set to allocate from has addresses of both families, %v and %v; "+
			"use an allocator for each", ErrInvalid, first, last)
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

// Empty returns an allocator of the IPv4 family, or of the IPv6 one, that hands out nothing: every search is
// [ErrExhausted] and every prefix of the family is [ErrOutside]. Unlike the zero Allocator it has a family, and can
// be encoded and decoded.
//
// Cost: O(1).
func Empty(is4 bool) *Allocator { return &Allocator{is4: is4, tree: newTree(is4)} }

// Is4 reports whether the allocator's addresses are IPv4.
func (a *Allocator) Is4() bool { return a.is4 }

// Total is the number of addresses in the set.
func (a *Allocator) Total() cidr.Count { return a.total }

// Free is the number of addresses that are free.
func (a *Allocator) Free() cidr.Count { return a.free }

// Taken is the number of addresses of the set that are taken.
func (a *Allocator) Taken() cidr.Count { return a.total.Sub(a.free) }

// Set returns the addresses that the allocator hands out, free or taken. Cost: O(ranges in the set).
func (a *Allocator) Set() *netipx.IPSet {
	ranges := make([]netipx.IPRange, len(a.universe))
	for i, s := range a.universe {
		ranges[i] = a.rangeOf(s)
	}
	return cidr.SetOf(ranges...)
}

// TakeFirst takes the lowest free prefix of the length bits: an address for 32 (IPv4) or 128 (IPv6). A prefix starts at
// a multiple of its size and is wholly in the set.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have.
func (a *Allocator) TakeFirst(bits int) (netip.Prefix, error) {
	order, err := a.order(bits)
	if err != nil {
		return netip.Prefix{}, err
	}
	x, ok := a.tree.takeFirst(order)
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%w: no free /%d is left of %v addresses, %v of them free",
			ErrExhausted, bits, a.total, a.free)
	}
	return a.taken(x, order, bits), nil
}

// TakeFirstFrom takes the lowest free prefix of the length bits that starts at addr or above. It does not
// go round to the start of the set.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have or an address of the
// other family.
func (a *Allocator) TakeFirstFrom(addr netip.Addr, bits int) (netip.Prefix, error) {
	if err := a.checkFamily(addr); err != nil {
		return netip.Prefix{}, err
	}
	if a.isZero() {
		return a.TakeFirst(bits)
	}
	return a.TakeFirstIn(bits, netipx.IPRangeFrom(addr.WithZone(""), a.highest().addr(a.is4)))
}

// TakeFirstIn takes a free prefix of the length bits that lies wholly in one of the ranges. They are tried in the
// order given, and in each the lowest is taken. So sorted ranges, such as [netipx.IPSet.Ranges] returns,
// give the lowest of all, and others say what is preferred.
//
// Errors: [ErrExhausted]; [ErrInvalid] for a length that the family does not have. A range that is not
// valid or not of the family has nothing free.
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
	return netip.Prefix{}, fmt.Errorf("%w: no free /%d is left in the ranges asked for", ErrExhausted, bits)
}

// firstIn returns the start of the lowest free block of the order in s.
func (a *Allocator) firstIn(s span, order uint) (uint128, bool) {
	x := s.first.floor(order)
	if x != s.first {
		x = x.last(order).next()
		if x.less(s.first) || a.highest().less(x) {
			return uint128{}, false // there is no multiple of the size above s.first
		}
	}
	x, ok := a.tree.first(order, x)
	return x, ok && !s.last.less(x.last(order))
}

// taken counts a block that was taken from the tree, and returns it as a prefix.
func (a *Allocator) taken(x uint128, order uint, bits int) netip.Prefix {
	a.free = a.free.Sub(sizeOf(order))
	return netip.PrefixFrom(x.addr(a.is4), bits)
}

// Take takes p, wherever it lies in the set.
//
// Errors: [ErrTaken] if any address of p is taken; [ErrOutside]; [ErrInvalid].
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

// Release frees p. The whole of it must be taken, but it need not have been taken in one: a /24 may be released as
// two /25, or two /25 as a /24.
//
// Errors: [ErrNotTaken] if any address of p is free; [ErrOutside]; [ErrInvalid].
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

// IsFree reports whether every address of p is in the set and free.
func (a *Allocator) IsFree(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.tree.fillOf(x, order) == allFree
}

// IsTaken reports whether every address of p is in the set and taken.
func (a *Allocator) IsTaken(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.covers(x, order) && a.tree.fillOf(x, order) == nothingFree
}

// Covers reports whether every address of p is in the set, free or taken. Cost: O(log ranges in the set).
func (a *Allocator) Covers(p netip.Prefix) bool {
	x, order, err := a.block(p)
	return err == nil && a.covers(x, order)
}

// FreeRanges iterates over the free addresses as ranges, in order; no two of them touch. The allocator must not be
// changed meanwhile. Cost: O(1) for each run of like addresses, O(levels) to start.
func (a *Allocator) FreeRanges() iter.Seq[netipx.IPRange] { return a.ranges(true) }

// TakenRanges iterates over the addresses of the set that are taken, as [Allocator.FreeRanges] does.
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

// Clone returns a copy that shares nothing with a. Cost: O(memory of a).
func (a *Allocator) Clone() *Allocator {
	c := *a
	c.tree.nodes = slices.Clone(a.tree.nodes)
	c.tree.slab = slices.Clone(a.tree.slab)
	c.universe = slices.Clone(a.universe)
	return &c
}

// sizeOf is the number of addresses in a block.
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

// highest is the last address of the family.
func (a *Allocator) highest() uint128 { return uint128{}.last(uint(a.width())) }

func (a *Allocator) order(bits int) (uint, error) {
	if a.isZero() {
		return 0, fmt.Errorf("%w: the zero Allocator has no addresses, use New", ErrExhausted)
	}
	if width := a.width(); bits < 0 || bits > width {
		return 0, fmt.Errorf("%w: prefix length %d: want 0 to %d", ErrInvalid, bits, width)
	}
	return uint(a.width() - bits), nil
}

func (a *Allocator) checkFamily(addr netip.Addr) error {
	if !a.isZero() && (!addr.IsValid() || addr.Is4() != a.is4) {
		return fmt.Errorf("%w: %v is not an %s address, as the allocator's are", ErrInvalid, addr, a.family())
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
		return uint128{}, 0, fmt.Errorf("%v: %w: the zero Allocator has no addresses, use New", p, ErrOutside)
	}
	if !p.IsValid() || p.Addr().Is4() != a.is4 {
		return uint128{}, 0, fmt.Errorf("%w: %v is not an %s prefix, as the allocator's are", ErrInvalid, p, a.family())
	}
	x, order := keyOf(p.Addr()), uint(a.width()-p.Bits())
	if x != x.floor(order) {
		return uint128{}, 0, fmt.Errorf("%w: %v has host bits set, want %v", ErrInvalid, p, p.Masked())
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
