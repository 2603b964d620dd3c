package allocator_test

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// A controller marks the addresses that its objects hold, and asks for the next free one.
func Example() {
	set, err := cidr.ParseSet("10.0.0.2-10.0.0.100")
	if err != nil {
		fmt.Println(err)
		return
	}
	a, err := allocator.New(set)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, used := range []string{"10.0.0.2/32", "10.0.0.4/31"} {
		if err := a.Take(netip.MustParsePrefix(used)); err != nil {
			fmt.Println(err)
		}
	}
	for range 3 {
		p, err := a.TakeFirst(32)
		fmt.Println(p, err)
	}
	fmt.Println(a.Free(), "of", a.Total(), "are free")
	// Output:
	// 10.0.0.3/32 <nil>
	// 10.0.0.6/32 <nil>
	// 10.0.0.7/32 <nil>
	// 93 of 99 are free
}

// Prefixes of different lengths come from one space.
func ExampleAllocator_TakeFirst() {
	set, _ := cidr.ParseSet("10.0.0.0/16")
	vpc, _ := allocator.New(set)
	for _, bits := range []int{24, 20, 24, 28} {
		p, err := vpc.TakeFirst(bits)
		fmt.Println(p, err)
	}
	_, err := vpc.TakeFirst(15)
	fmt.Println(err)
	// Output:
	// 10.0.0.0/24 <nil>
	// 10.0.16.0/20 <nil>
	// 10.0.1.0/24 <nil>
	// 10.0.2.0/28 <nil>
	// exhausted: no free /15 among 65536 addresses, of which 60912 are free
}

// To take the next address after the last one, rather than the lowest, start above the last one, and then at the start
// of the set.
func ExampleAllocator_TakeFirstFrom() {
	set, _ := cidr.ParseSet("192.0.2.0/30")
	a, _ := allocator.New(set)
	last := netip.MustParseAddr("192.0.2.1")
	for range 4 {
		p, err := a.TakeFirstFrom(last.Next(), 32)
		if err != nil {
			p, err = a.TakeFirst(32)
		}
		fmt.Println(p.Addr(), err)
		last = p.Addr()
	}
	// Output:
	// 192.0.2.2 <nil>
	// 192.0.2.3 <nil>
	// 192.0.2.0 <nil>
	// 192.0.2.1 <nil>
}

// The second range is used only when the first is full.
func ExampleAllocator_TakeFirstIn() {
	set, _ := cidr.ParseSet("192.0.2.0/28")
	a, _ := allocator.New(set)
	ranges, _ := cidr.ParseRanges("192.0.2.14-192.0.2.15", "192.0.2.4-192.0.2.5")
	for range 3 {
		p, err := a.TakeFirstIn(32, ranges...)
		fmt.Println(p.Addr(), err)
	}
	// Output:
	// 192.0.2.14 <nil>
	// 192.0.2.15 <nil>
	// 192.0.2.4 <nil>
}

func ExampleAllocator_Release() {
	set, _ := cidr.ParseSet("2001:db8::/48")
	a, _ := allocator.New(set)
	p, _ := a.TakeFirst(56)
	fmt.Println(p, a.Release(netip.MustParsePrefix("2001:db8::/64")))
	fmt.Println(a.Release(p))
	// Output:
	// 2001:db8::/56 <nil>
	// 2001:db8::/56: not taken
}

// A controller marks the addresses that its objects hold. Some objects hold the same addresses, or addresses outside
// the set, and marking them again does no harm.
func ExampleAllocator_Occupy() {
	set, _ := cidr.ParseSet("10.0.0.0/24")
	a, _ := allocator.New(set)
	inUse, _ := cidr.ParseRanges("10.0.0.1", "10.0.0.0-10.0.0.9", "10.0.0.250-10.0.1.50")
	for range 2 {
		for _, r := range inUse {
			taken, err := a.Occupy(r)
			fmt.Println(cidr.FormatRange(r), taken, err)
		}
	}
	fmt.Println(a.Free(), "are free")
	// Output:
	// 10.0.0.1 1 <nil>
	// 10.0.0.0-10.0.0.9 9 <nil>
	// 10.0.0.250-10.0.1.50 6 <nil>
	// 10.0.0.1 0 <nil>
	// 10.0.0.0-10.0.0.9 0 <nil>
	// 10.0.0.250-10.0.1.50 0 <nil>
	// 240 are free
}

func ExampleAllocator_Vacate() {
	set, _ := cidr.ParseSet("10.0.0.0/24")
	a, _ := allocator.New(set)
	_ = a.Take(netip.MustParsePrefix("10.0.0.4/30"))
	r, _ := cidr.ParseRange("10.0.0.0-10.0.0.5")
	fmt.Println(a.Vacate(r))
	fmt.Println(a.Vacate(r))
	// Output:
	// 2 <nil>
	// 0 <nil>
}

// There is room for 255 more /24 prefixes, and the largest free prefix is a /17.
func ExampleAllocator_CountFree() {
	set, _ := cidr.ParseSet("10.0.0.0/16")
	a, _ := allocator.New(set)
	_ = a.Take(netip.MustParsePrefix("10.0.7.5/32"))
	fmt.Println(a.CountFree(24))
	fmt.Println(a.LargestFree())
	// Output:
	// 255 <nil>
	// 17 true
}

func ExampleAllocator_FreeRanges() {
	set, _ := cidr.ParseSet("10.0.0.0/28")
	a, _ := allocator.New(set)
	_ = a.Take(netip.MustParsePrefix("10.0.0.4/30"))
	for r := range a.FreeRanges() {
		fmt.Println("free ", cidr.FormatRange(r))
	}
	for r := range a.TakenRanges() {
		fmt.Println("taken", cidr.FormatRange(r))
	}
	// Output:
	// free  10.0.0.0/30
	// free  10.0.0.8/29
	// taken 10.0.0.4/30
}

func ExampleDecode() {
	set, _ := cidr.ParseSet("10.0.0.0/8")
	a, _ := allocator.New(set)
	for range 100_000 {
		_, _ = a.TakeFirst(32)
	}
	b, err := a.MarshalBinary()
	fmt.Println(len(b), "bytes", err)
	again, err := allocator.Decode(b)
	fmt.Println(again.Taken(), err)
	_, err = allocator.Decode(b[1:])
	fmt.Println(err != nil)
	// Output:
	// 24 bytes <nil>
	// 100000 <nil>
	// true
}

// A large set is stored in pieces, so that a program can write only the pieces that changed.
func ExampleAllocator_AppendFree() {
	set, _ := cidr.ParseSet("10.0.0.0/16")
	a, _ := allocator.New(set)
	for n := 0; n < 65536; n += 2 {
		_ = a.Take(netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}), 32))
	}
	for rest := netipx.RangeOfPrefix(netip.MustParsePrefix("0.0.0.0/0")); rest.IsValid(); {
		piece, next, err := a.AppendFree(nil, rest, 3000)
		fmt.Println(rest.From(), len(piece), "bytes", err)
		rest = next
	}
	// Output:
	// 0.0.0.0 3084 bytes <nil>
	// 10.0.96.0 3080 bytes <nil>
	// 10.0.192.0 2054 bytes <nil>
}
