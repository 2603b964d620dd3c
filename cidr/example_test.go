package cidr_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
)

func Example() {
	pool, err := cidr.ParseSet("10.0.0.0/24", "10.0.1.10-10.0.1.19")
	if err != nil {
		fmt.Println(err)
		return
	}
	excluded, err := cidr.ParseSet("10.0.0.0-10.0.0.15", "10.0.1.12")
	if err != nil {
		fmt.Println(err)
		return
	}
	free := cidr.Difference(pool, excluded)
	fmt.Println(cidr.Size(free), "free of", cidr.Size(pool))
	fmt.Println(cidr.FormatSet(free))
	// Output:
	// 249 free of 266
	// [10.0.0.16-10.0.0.255 10.0.1.10/31 10.0.1.13-10.0.1.19]
}

func ExampleParseRange() {
	for _, text := range []string{
		"192.0.2.7", "192.0.2.0/24", "192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20/24", "2001:db8::/64",
	} {
		r, err := cidr.ParseRange(text)
		if err != nil {
			fmt.Println(err)
			continue
		}
		fmt.Println(r.From(), r.To(), cidr.RangeSize(r))
	}
	// Output:
	// 192.0.2.7 192.0.2.7 1
	// 192.0.2.0 192.0.2.255 256
	// 192.0.2.10 192.0.2.20 11
	// 192.0.2.10 192.0.2.20 11
	// 2001:db8:: 2001:db8::ffff:ffff:ffff:ffff 18446744073709551616
}

func ExampleParseRange_refused() {
	for _, text := range []string{
		"10.0.0.9-10.0.0.1", "10.0.0.1 - 10.0.0.9", "010.0.0.1", "10.0.0.1-10.0.1.9/24", "192.0.2.192/24",
	} {
		_, err := cidr.ParseRange(text)
		fmt.Println(strings.Replace(err.Error(), "; ", ";\n    ", 1)) // on two lines, to be read here
	}
	// Output:
	// cannot parse "10.0.0.9-10.0.0.1": the first bound must not be after the last;
	//     want "10.0.0.1-10.0.0.9"
	// cannot parse "10.0.0.1 - 10.0.0.9": spaces are not allowed;
	//     want "10.0.0.1-10.0.0.9"
	// cannot parse "010.0.0.1": the numbers of "010.0.0.1" must have no leading zeros;
	//     want "10.0.0.1"
	// cannot parse "10.0.0.1-10.0.1.9/24": both bounds must be in one /24 subnet;
	//     want a last bound of at most "10.0.0.255", or a length of at most "/23"
	// cannot parse "192.0.2.192/24": a CIDR has no host bits;
	//     want "192.0.2.0/24"
}

func ExampleParseError() {
	_, err := cidr.ParseSet("10.0.0.0/24", "fe80::1%eth0")
	var fault *cidr.ParseError
	if errors.As(err, &fault) {
		fmt.Println("input:", fault.Input)
		fmt.Println("rule: ", fault.Rule)
		fmt.Println("want: ", fault.Want)
	}
	// Output:
	// input: fe80::1%eth0
	// rule:  zones are not allowed
	// want:  the address without its zone, as in "fe80::1"
}

func ExampleParser() {
	parser := cidr.Parser{MaskHostBits: true}
	p, err := parser.Prefix("192.0.2.192/24")
	fmt.Println(p, err)
	// Output: 192.0.2.0/24 <nil>
}

func ExampleParser_spacesAroundDash() {
	parser := cidr.Parser{SpacesAroundDash: true}
	r, err := parser.Range("192.0.2.10 - 192.0.2.20")
	fmt.Println(r, err)
	// Output: 192.0.2.10-192.0.2.20 <nil>
}

func ExampleParser_SubnetRange() {
	r, subnet, err := cidr.Parser{}.SubnetRange("192.0.2.10-192.0.2.20/24")
	fmt.Println(r, subnet, err)
	// Output: 192.0.2.10-192.0.2.20 192.0.2.0/24 <nil>
}

func ExampleFormatSet() {
	s, _ := cidr.ParseSet("10.0.0.8", "10.0.0.0-10.0.0.3", "10.0.0.4/30", "fd00::/64")
	fmt.Println(cidr.FormatSet(s))
	// Output: [10.0.0.0-10.0.0.8 fd00::/64]
}

func ExampleCount() {
	all := cidr.Pow2(128).Add(cidr.Pow2(32)) // all addresses there are
	fmt.Println(all)
	fmt.Println(all.Sub(cidr.Pow2(128)).Uint64())
	fmt.Println(cidr.CountOf(1).Sub(cidr.CountOf(2)), all.Uint64())
	// Output:
	// 340282366920938463463374607436063178752
	// 4294967296
	// 0 18446744073709551615
}

// A /24 has 25 blocks of 10 addresses, and 6 addresses are left over.
func ExampleCount_Div() {
	size := cidr.PrefixSize(netip.MustParsePrefix("192.0.2.0/24"))
	fmt.Println(size.Div(cidr.CountOf(10)))
	// Output: 25 6
}

// A /48 has 65,536 subnets of length 64.
func ExampleCount_Rsh() {
	fmt.Println(cidr.PrefixSize(netip.MustParsePrefix("2001:db8::/48")).Rsh(128 - 64))
	// Output: 65536
}

func ExampleNth() {
	s, _ := cidr.ParseSet("10.0.0.250-10.0.1.5", "2001:db8::/64")
	addr, _ := cidr.Nth(s, cidr.CountOf(6))
	fmt.Println(addr)
	addr, _ = cidr.Nth(s, cidr.Pow2(63).Add(cidr.CountOf(12)))
	fmt.Println(addr)
	_, ok := cidr.Nth(s, cidr.Size(s))
	fmt.Println(ok)
	// Output:
	// 10.0.1.0
	// 2001:db8:0:0:8000::
	// false
}

func ExampleIndex() {
	s, _ := cidr.ParseSet("10.0.0.250-10.0.1.5")
	fmt.Println(cidr.Index(s, netip.MustParseAddr("10.0.1.0")))
	fmt.Println(cidr.Index(s, netip.MustParseAddr("10.0.2.0")))
	// Output:
	// 6 true
	// 0 false
}

func ExampleIntersection() {
	a, _ := cidr.ParseSet("10.0.0.0/24")
	b, _ := cidr.ParseSet("10.0.0.200-10.0.1.50")
	fmt.Println(cidr.Overlaps(a, b), cidr.FormatSet(cidr.Intersection(a, b)), cidr.FormatSet(cidr.Union(a, b)))
	// Output: true [10.0.0.200-10.0.0.255] [10.0.0.0-10.0.1.50]
}

func ExampleUsable() {
	for _, text := range []string{"192.0.2.0/24", "192.0.2.0/31", "2001:db8::/64", "2001:db8::/127"} {
		p := netip.MustParsePrefix(text)
		fmt.Println(cidr.Usable(p), cidr.Reserved(p))
	}
	// Output:
	// 192.0.2.1-192.0.2.254 [192.0.2.0 192.0.2.255]
	// 192.0.2.0-192.0.2.1 []
	// 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff [2001:db8::]
	// 2001:db8::-2001:db8::1 []
}

func ExampleSplit() {
	for subnet := range cidr.Split(netip.MustParsePrefix("10.0.0.0/22"), 24) {
		fmt.Println(subnet)
	}
	// Output:
	// 10.0.0.0/24
	// 10.0.1.0/24
	// 10.0.2.0/24
	// 10.0.3.0/24
}

func ExampleSubnet() {
	fmt.Println(cidr.Subnet(netip.MustParsePrefix("2001:db8::/32"), 64, cidr.CountOf(0xcafe)))
	fmt.Println(cidr.Subnet(netip.MustParsePrefix("10.0.0.0/22"), 24, cidr.CountOf(4)))
	// Output:
	// 2001:db8:0:cafe::/64 true
	// invalid Prefix false
}

func ExampleSubnetIndex() {
	site := netip.MustParsePrefix("2001:db8::/32")
	fmt.Println(cidr.SubnetIndex(site, netip.MustParsePrefix("2001:db8:0:cafe::/64")))
	fmt.Println(cidr.SubnetIndex(site, netip.MustParsePrefix("2001:db9::/64")))
	// Output:
	// 51966 true
	// 0 false
}

func ExamplePrefixes() {
	r, _ := cidr.ParseRange("10.0.0.1-10.0.0.9")
	fmt.Println(slices.Collect(cidr.Prefixes(r)))
	// Output: [10.0.0.1/32 10.0.0.2/31 10.0.0.4/30 10.0.0.8/31]
}

func ExampleParseRanges() {
	ranges, err := cidr.ParseRanges("10.10.10.2-10.10.10.100", "10.10.10.102", "2001:db8::/64")
	fmt.Println(len(ranges), ranges[1].From(), err)
	_, err = cidr.ParseRanges("10.10.10.2", "10.10.10.9/24")
	fmt.Println(err)
	// Output:
	// 3 10.10.10.102 <nil>
	// cannot parse "10.10.10.9/24": a CIDR has no host bits; want "10.10.10.0/24"
}
