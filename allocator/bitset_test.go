package allocator_test

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/bits-and-blooms/bitset"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/internal/bench"
)

// flat is a naive reference for large spaces: a bit for each address of an IPv4 prefix, set if it is free.
type flat struct {
	prefix netip.Prefix
	size   uint
	free   *bitset.BitSet
}

func newFlat(prefix netip.Prefix) *flat {
	f := &flat{prefix: prefix, size: 1 << (32 - prefix.Bits())}
	f.free = bitset.New(f.size).FlipRange(0, f.size)
	return f
}

func (f *flat) addr(i uint) netip.Addr {
	b := f.prefix.Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(i))
	return netip.AddrFrom4(b)
}

// count counts the free addresses from first to last.
func (f *flat) count(first, last uint) uint { return f.free.OnesBetween(first, last+1) }

// set makes the addresses from first to last free or taken, and returns how many of them changed.
func (f *flat) set(first, last uint, free bool) uint {
	changed := f.count(first, last)
	if free {
		changed = last - first + 1 - changed
	}
	for i := first; i <= last; i++ {
		f.free.SetTo(i, free)
	}
	return changed
}

// first returns the lowest free block of size addresses that starts at from or above.
func (f *flat) first(from, size uint) (uint, bool) {
	for i := (from + size - 1) / size * size; ; i += size {
		next, ok := f.free.NextSet(i)
		if !ok {
			return 0, false
		}
		i = next / size * size
		if i >= from && f.count(i, i+size-1) == size {
			return i, true
		}
	}
}

// countBlocks counts the free blocks of size addresses.
func (f *flat) countBlocks(size uint) uint {
	n := uint(0)
	for i, ok := f.first(0, size); ok; i, ok = f.first(i+size, size) {
		n++
	}
	return n
}

// runs are the free addresses as ranges.
func (f *flat) runs() []netipx.IPRange {
	var runs []netipx.IPRange
	for start, ok := f.free.NextSet(0); ok; {
		end, found := f.free.NextClear(start)
		if !found {
			end = f.size
		}
		runs = append(runs, netipx.IPRangeFrom(f.addr(start), f.addr(end-1)))
		start, ok = f.free.NextSet(end)
	}
	return runs
}

// A space of a million addresses is changed at random. In the second round it is full of holes.
func TestAgainstBitset(t *testing.T) {
	for seed := range uint64(2) {
		m := newBitsetMachine(t, "10.16.0.0/12")
		random := rand.New(rand.NewPCG(seed, 7))
		for range 100_000 * (seed % 2) {
			i := random.UintN(m.flat.size)
			m.take(i, 0)
		}
		for step := range 3_000 {
			if step%500 == 0 {
				m.checkAll()
			}
			order := random.IntN(20)
			first := random.UintN(m.flat.size)
			m.step(random.IntN(6), first, min(first+random.UintN(1<<order), m.flat.size-1), order)
		}
		m.checkAll()
	}
}

// FuzzOccupy does what the bytes say, five for each step, to a /16 and to its reference.
func FuzzOccupy(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\xff\xff\x01\x00\x3f\x00\xc0"))
	f.Add([]byte("\x02\x12\x34\x00\x00\x13\x12\x34\x00\x00\x24\x00\x00\x00\x00\x01\x00\x00\xff\xff"))
	f.Fuzz(func(t *testing.T, steps []byte) {
		m := newBitsetMachine(t, "10.0.0.0/16")
		for ; len(steps) >= 5; steps = steps[5:] {
			first, last := uint(binary.BigEndian.Uint16(steps[1:])), uint(binary.BigEndian.Uint16(steps[3:]))
			m.step(int(steps[0]&15)%6, min(first, last), max(first, last), int(steps[0]>>4))
		}
		m.checkAll()
	})
}

// bitsetMachine changes an allocator and a flat reference alike.
type bitsetMachine struct {
	t    *testing.T
	flat *flat
	a    *allocator.Allocator
}

func newBitsetMachine(t *testing.T, prefix string) *bitsetMachine {
	return &bitsetMachine{t, newFlat(netip.MustParsePrefix(prefix)), bench.NewAllocator(prefix)}
}

// step is one of six steps, on the range from first to last or on the block of 2^order addresses around first.
func (m *bitsetMachine) step(kind int, first, last uint, order int) {
	switch kind {
	case 0:
		m.occupy(first, last)
	case 1:
		m.vacate(first, last)
	case 2:
		m.take(first, order)
	case 3:
		m.release(first, order)
	case 4:
		m.takeFirst(first, order)
	default:
		m.count(first, last)
	}
}

func (m *bitsetMachine) rangeOf(first, last uint) netipx.IPRange {
	return netipx.IPRangeFrom(m.flat.addr(first), m.flat.addr(last))
}

func (m *bitsetMachine) occupy(first, last uint) {
	got, err := m.a.Occupy(m.rangeOf(first, last))
	require.NoError(m.t, err)
	require.Equal(m.t, countOf(m.flat.set(first, last, false)), got, "Occupy(%v)", m.rangeOf(first, last))
}

func (m *bitsetMachine) vacate(first, last uint) {
	got, err := m.a.Vacate(m.rangeOf(first, last))
	require.NoError(m.t, err)
	require.Equal(m.t, countOf(m.flat.set(first, last, true)), got, "Vacate(%v)", m.rangeOf(first, last))
}

// block is the block of 2^order addresses around i: its first address and its size, and the prefix.
func (m *bitsetMachine) block(i uint, order int) (first, size uint, p netip.Prefix) {
	first = i >> order << order
	return first, 1 << order, netip.PrefixFrom(m.flat.addr(first), 32-order)
}

func (m *bitsetMachine) take(i uint, order int) {
	first, size, p := m.block(i, order)
	allFree := m.flat.count(first, first+size-1) == size
	require.Equal(m.t, allFree, m.a.IsFree(p), "IsFree(%v)", p)
	err := m.a.Take(p)
	require.Equal(m.t, allFree, err == nil, "Take(%v): %v", p, err)
	if allFree {
		m.flat.set(first, first+size-1, false)
	}
}

func (m *bitsetMachine) release(i uint, order int) {
	first, size, p := m.block(i, order)
	allTaken := m.flat.count(first, first+size-1) == 0
	require.Equal(m.t, allTaken, m.a.IsTaken(p), "IsTaken(%v)", p)
	err := m.a.Release(p)
	require.Equal(m.t, allTaken, err == nil, "Release(%v): %v", p, err)
	if allTaken {
		m.flat.set(first, first+size-1, true)
	}
}

func (m *bitsetMachine) takeFirst(from uint, order int) {
	want, ok := m.flat.first(from, 1<<order)
	got, err := m.a.TakeFirstFrom(m.flat.addr(from), 32-order)
	require.Equal(m.t, ok, err == nil, "TakeFirstFrom(%v, %d): %v", m.flat.addr(from), 32-order, err)
	if ok {
		_, size, p := m.block(want, order)
		require.Equal(m.t, p, got)
		m.flat.set(want, want+size-1, false)
	}
}

func (m *bitsetMachine) count(first, last uint) {
	require.Equal(m.t, countOf(m.flat.count(first, last)), m.a.FreeIn(m.rangeOf(first, last)),
		"FreeIn(%v)", m.rangeOf(first, last))
}

func (m *bitsetMachine) checkAll() {
	require.NoError(m.t, m.a.Check())
	require.Equal(m.t, countOf(m.flat.free.Count()), m.a.Free())
	require.Equal(m.t, m.flat.runs(), slices.Collect(m.a.FreeRanges()))
	largest, some := m.a.LargestFree()
	for bits := 32; bits >= m.flat.prefix.Bits(); bits-- {
		blocks := m.flat.countBlocks(1 << (32 - bits))
		got, err := m.a.CountFree(bits)
		require.NoError(m.t, err)
		require.Equal(m.t, countOf(blocks), got, "CountFree(%d)", bits)
		require.Equal(m.t, some && bits >= largest, blocks > 0, "LargestFree: %d", largest)
	}
}

func countOf(n uint) cidr.Count { return cidr.CountOf(uint64(n)) }
