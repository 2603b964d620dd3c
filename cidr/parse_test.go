package cidr_test

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/cidr"
)

// requireRefused requires an error that says everything an error must say. Rule and want are parts of what
// its fields say.
func requireRefused(t require.TestingT, err error, input, rule, want string) {
	require.Error(t, err, "%q is accepted", input)
	var fault *cidr.ParseError
	require.ErrorAs(t, err, &fault)
	require.Equal(t, input, fault.Input)
	require.NotEmpty(t, fault.Rule)
	require.NotEmpty(t, fault.Want)
	require.Contains(t, fault.Rule, rule)
	require.Contains(t, fault.Want, want)

	message := err.Error()
	require.Regexp(t, `^[a-z]`, message)
	if len(input) <= 100 {
		require.Contains(t, message, strconv.Quote(input))
	}
	require.Less(t, len(message), 1500)
	require.Contains(t, message, fault.Rule)
	require.Contains(t, message, fault.Want)
	require.NotContains(t, message, "\n")
}

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func span(from, to string) netipx.IPRange {
	return netipx.IPRangeFrom(netip.MustParseAddr(from), netip.MustParseAddr(to))
}

func TestRangeForms(t *testing.T) {
	none := netip.Prefix{}
	for _, test := range []struct {
		text   string
		want   netipx.IPRange
		subnet netip.Prefix
	}{
		{"192.0.2.7", span("192.0.2.7", "192.0.2.7"), none},
		{"0.0.0.0", span("0.0.0.0", "0.0.0.0"), none},
		{"255.255.255.255", span("255.255.255.255", "255.255.255.255"), none},
		{"2001:db8::1", span("2001:db8::1", "2001:db8::1"), none},
		{"2001:0DB8:0000::0001", span("2001:db8::1", "2001:db8::1"), none},
		{"::", span("::", "::"), none},
		{"64:ff9b::192.0.2.1", span("64:ff9b::c000:201", "64:ff9b::c000:201"), none},
		{"192.0.2.0/24", span("192.0.2.0", "192.0.2.255"), prefix("192.0.2.0/24")},
		{"192.0.2.1/32", span("192.0.2.1", "192.0.2.1"), prefix("192.0.2.1/32")},
		{"0.0.0.0/0", span("0.0.0.0", "255.255.255.255"), prefix("0.0.0.0/0")},
		{"2001:db8::/64", span("2001:db8::", "2001:db8::ffff:ffff:ffff:ffff"), prefix("2001:db8::/64")},
		{"::/0", span("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), prefix("::/0")},
		{"2001:db8::1/128", span("2001:db8::1", "2001:db8::1"), prefix("2001:db8::1/128")},
		{"192.0.2.10-192.0.2.20", span("192.0.2.10", "192.0.2.20"), none},
		{"192.0.2.10-192.0.2.10", span("192.0.2.10", "192.0.2.10"), none},
		{"192.0.2.255-192.0.3.0", span("192.0.2.255", "192.0.3.0"), none},
		{"2001:db8::1-2001:db8:1::", span("2001:db8::1", "2001:db8:1::"), none},
		{"192.0.2.10-192.0.2.20/24", span("192.0.2.10", "192.0.2.20"), prefix("192.0.2.0/24")},
		{"192.0.2.0-192.0.2.255/24", span("192.0.2.0", "192.0.2.255"), prefix("192.0.2.0/24")},
		{"192.0.2.7-192.0.2.7/32", span("192.0.2.7", "192.0.2.7"), prefix("192.0.2.7/32")},
		{"10.0.0.1-192.0.2.1/0", span("10.0.0.1", "192.0.2.1"), prefix("0.0.0.0/0")},
		{"2001:db8::10-2001:db8::ffff/64", span("2001:db8::10", "2001:db8::ffff"), prefix("2001:db8::/64")},
	} {
		t.Run(test.text, func(t *testing.T) {
			for _, parser := range []cidr.Parser{{}, {MaskHostBits: true}} {
				r, subnet, err := parser.SubnetRange(test.text)
				require.NoError(t, err)
				assert.Equal(t, test.want, r)
				assert.Equal(t, test.subnet, subnet)
			}
			r, err := cidr.ParseRange(test.text)
			require.NoError(t, err)
			assert.Equal(t, test.want, r)
			s, err := cidr.ParseSet(test.text)
			require.NoError(t, err)
			assert.Equal(t, []netipx.IPRange{test.want}, s.Ranges())
		})
	}
}

// rejections are the texts that no parser accepts in any form, with a part of the rule and of what would
// be right.
var rejections = []struct{ text, rule, want string }{
	{"", "must not be empty", `"192.0.2.0/24"`},
	{" ", "spaces", `"192.0.2.1"`},
	{" 10.0.0.1", "spaces", `"10.0.0.1"`},
	{"10.0.0.1 ", "spaces", `"10.0.0.1"`},
	{"10.0.0.1\n", "spaces", `"10.0.0.1"`},
	{"10.0.0.1\u00a0", "spaces", `"10.0.0.1"`},
	{"10.0.0.1 - 10.0.0.9", "spaces", `"10.0.0.1-10.0.0.9"`},
	{"10.0.0.1-\t10.0.0.9/24", "spaces", `"10.0.0.1-10.0.0.9/24"`},
	{"10.0.0.0 /24", "spaces", `"10.0.0.0/24"`},
	{"10.0.0.1 10.0.0.2", "spaces", `a CIDR "192.0.2.0/24"`},
	{"10.0.0.1,10.0.0.2", "not a list with commas", "a separate text"},
	{"10.0.0.0/24, fd00::/64", "not a list with commas", "a separate text"},

	{"010.0.0.1", `"010.0.0.1" must have no leading zeros`, `"10.0.0.1"`},
	{"10.0.0.00", "no leading zeros", `"10.0.0.0"`},
	{"10.0.0.1-10.0.0.09", `"10.0.0.09" must have no leading zeros`, `"10.0.0.9"`},
	{"010.0.0.0/24", `"010.0.0.0" must have no leading zeros`, `"10.0.0.0"`},
	{"64:ff9b::192.0.02.1", "no leading zeros", `"64:ff9b::c000:201"`},
	{"::ffff:192.0.02.1", "no leading zeros", `"192.0.2.1"`},
	{"10.0.0.0/024", `the length "024" must have no leading zeros`, `"/0" to "/32"`},
	{"10.0.0.0/00", "no leading zeros", `"/0" to "/32"`},
	{"fd00::/064", "no leading zeros", `"/0" to "/128"`},
	{"10.0.0.1-10.0.0.9/024", "no leading zeros", `"/0" to "/32"`},

	{"fe80::1%eth0", "zones", `"fe80::1"`},
	{"fe80::1%", "zones", `"fe80::1"`},
	{"fe80::%eth0/64", "zones", `"fe80::1"`},
	{"fe80::1%eth-0-fe80::9%eth-0/64", "zones", `"fe80::1"`},
	{"10.0.0.1%eth0", "zones", `"fe80::1"`},

	{"::ffff:192.0.2.1", "IPv4-mapped", `"192.0.2.1"`},
	{"::ffff:c000:201", "IPv4-mapped", `"192.0.2.1"`},
	{"0:0:0:0:0:ffff:c000:201", "IPv4-mapped", `"192.0.2.1"`},
	{"::ffff:192.0.2.0/120", `"::ffff:192.0.2.0" is an IPv4-mapped`,
		`"192.0.2.0", with a length (if any) that is 96 less`},
	{"::ffff:0:0/96", "IPv4-mapped", `"0.0.0.0"`},
	{"::ffff:0:0/80", "IPv4-mapped", `"0.0.0.0"`},
	{"::ffff:10.0.0.1-::ffff:10.0.0.9", "IPv4-mapped", `"10.0.0.1"`},
	{"::1-::ffff:10.0.0.9", "IPv4-mapped", `"10.0.0.9"`},
	{"10.0.0.1-::ffff:10.0.0.9", "IPv4-mapped", `"10.0.0.9"`},

	{"10.0.0.1-fd00::1", "one family", `"192.0.2.1-192.0.2.9"`},
	{"fd00::1-10.0.0.1", "one family", `"2001:db8::1-2001:db8::9"`},
	{"::-255.255.255.255/0", "one family", `"192.0.2.1-192.0.2.9"`},

	{"10.0.0.9-10.0.0.1", "first bound must not be after the last", `"10.0.0.1-10.0.0.9"`},
	{"10.0.0.9-10.0.0.8/24", "first bound must not be after the last", `"10.0.0.8-10.0.0.9/24"`},
	{"10.0.0.9-10.0.0.8/99", "first bound must not be after the last", `bounds "192.0.2.1-192.0.2.9"`},
	{"fd00::2-fd00::1", "first bound must not be after the last", `"fd00::1-fd00::2"`},

	{"10.0.0.1-10.0.1.1/24", "in one /24 subnet", `at most "10.0.0.255", or a length of at most "/23"`},
	{"10.0.0.127-10.0.0.128/25", "in one /25 subnet", `at most "10.0.0.127", or a length of at most "/24"`},
	{"10.0.0.1-10.0.0.2/32", "in one /32 subnet", `at most "10.0.0.1", or a length of at most "/30"`},
	{"1.0.0.0-128.0.0.0/1", "in one /1 subnet", `at most "127.255.255.255", or a length of at most "/0"`},
	{"fd00::1-fd00:0:0:1::1/64", "in one /64 subnet", `"fd00::ffff:ffff:ffff:ffff", or a length of at most "/63"`},

	{"10.0.0.0/33", `"33" must be from 0 to 32`, `"/0" to "/32"`},
	{"10.0.0.0/99999999999999999999", "must be from 0 to 32", `"/0" to "/32"`},
	{"fd00::/129", `"129" must be from 0 to 128`, `"/0" to "/128"`},
	{"10.0.0.1-10.0.0.9/33", "must be from 0 to 32", `"/0" to "/32"`},
	{"10.0.0.0/", "must be a number", `"/0" to "/32"`},
	{"10.0.0.0/x", "must be a number", `"/0" to "/32"`},
	{"10.0.0.0/+8", "must be a number", `"/0" to "/32"`},
	{"10.0.0.0/-1", `"-1" must be a number`, `"/0" to "/32"`},
	{"10.0.0.0/255.255.255.0", "must be a number", `"/0" to "/32"`},
	{"10.0.0.1-10.0.0.9/", "must be a number", `"/0" to "/32"`},
	{"10.0.0.1-10.0.0.9/24/25", `"24/25" must be a number`, `"/0" to "/32"`},
	{"10.0.0.0/24/25", "one address and one length", `"192.0.2.0/24"`},
	{"10.0.0.1/24-10.0.0.9", "first bound of a range has no length", `"192.0.2.1-192.0.2.9/24"`},
	{"10.0.0.1/24-10.0.0.9/24", "first bound of a range has no length", `"192.0.2.1-192.0.2.9/24"`},
	{"10.0.0.1-10.0.0.2-10.0.0.3", "two bounds", `"192.0.2.1-192.0.2.9"`},

	{"-", "an address is missing", `"192.0.2.1"`},
	{"/", "an address is missing", `"192.0.2.1"`},
	{"/24", "an address is missing", `"192.0.2.1"`},
	{"10.0.0.1-", "an address is missing", `"192.0.2.1"`},
	{"-10.0.0.1", "an address is missing", `"192.0.2.1"`},
	{"10.0.0.1-/24", "an address is missing", `"192.0.2.1"`},
	{"10.0.0.256", "four numbers from 0 to 255", `"192.0.2.1"`},
	{"010.0.0.256", "four numbers from 0 to 255", `"192.0.2.1"`},
	{"10.0.0", "four numbers from 0 to 255", `"192.0.2.1"`},
	{"10.0.0.1.2", "four numbers from 0 to 255", `"192.0.2.1"`},
	{"10.0.0.0x1", "four numbers from 0 to 255", `"192.0.2.1"`},
	{"10.0.0.1-10.0.0.300", `"10.0.0.300" must be an IPv4 address`, `"192.0.2.1"`},
	{"10.0.0/24", `"10.0.0" must be an IPv4 address`, `"192.0.2.1"`},
	{"10.0.0.1-9", `"9" must be an IP address`, `"2001:db8::1"`},
	{"fd00:::1", "eight groups", `"2001:db8::1"`},
	{"fd00::1::2", "eight groups", `"2001:db8::1"`},
	{"1:2:3:4:5:6:7:8:9", "eight groups", `"2001:db8::1"`},
	{"fd00::12345", "eight groups", `"2001:db8::1"`},
	{"[fd00::1]", "eight groups", `"2001:db8::1"`},
	{"192.0.2.1:80", "eight groups", `"2001:db8::1"`},
	{"localhost", `"localhost" must be an IP address`, `"2001:db8::1"`},
	{"167772161", "must be an IP address", `"192.0.2.1"`},
	{"10.0.0.1–10.0.0.9", "must be an IPv4 address", `"192.0.2.1"`},
	{"\xff\x00", "must be an IP address", `"192.0.2.1"`},
}

func TestRangeRejections(t *testing.T) {
	for _, test := range rejections {
		t.Run(test.text, func(t *testing.T) {
			for _, parser := range []cidr.Parser{{}, {MaskHostBits: true}} {
				r, subnet, err := parser.SubnetRange(test.text)
				requireRefused(t, err, test.text, test.rule, test.want)
				assert.Equal(t, netipx.IPRange{}, r)
				assert.Equal(t, netip.Prefix{}, subnet)

				_, err = parser.Range(test.text)
				requireRefused(t, err, test.text, test.rule, test.want)
				s, err := parser.Set("192.0.2.1", test.text, "also wrong")
				requireRefused(t, err, test.text, test.rule, test.want)
				assert.Nil(t, s)

				_, err = parser.Prefix(test.text)
				requireRefused(t, err, test.text, "", "")
			}
			_, err := cidr.ParseRange(test.text)
			requireRefused(t, err, test.text, test.rule, test.want)
			_, err = cidr.ParseSet(test.text)
			requireRefused(t, err, test.text, test.rule, test.want)
			_, err = cidr.ParseAddr(test.text)
			requireRefused(t, err, test.text, "", "")
		})
	}
}

func TestErrorMessage(t *testing.T) {
	_, err := cidr.ParseRange("10.0.0.9-10.0.0.1")
	assert.EqualError(t, err,
		`cannot parse "10.0.0.9-10.0.0.1": the first bound must not be after the last; want "10.0.0.1-10.0.0.9"`)
}

// Of a long input, the message quotes the beginning, and cuts no character in two.
func TestErrorsQuoteLittle(t *testing.T) {
	long := func(text string) string { return strings.Repeat(text, 1<<16) }
	for _, test := range []struct{ input, rule string }{
		{long("1"), `1"... (65536 bytes) must be an IP address`},
		{long("."), `."... (65536 bytes) must be an IPv4 address`},
		{long(":"), `:"... (65536 bytes) must be an IPv6 address`},
		{long("0") + "1.2.3.4", `0"... (65543 bytes) must have no leading zeros`},
		{"10.0.0.0/" + long("1"), `1"... (65536 bytes) must be from 0 to 32`},
		{"10.0.0.0/" + long("0"), `0"... (65536 bytes) must have no leading zeros`},
		{"10.0.0.0/" + long("x"), `x"... (65536 bytes) must be a number`},
		{long("\xff"), `"... (65536 bytes) must be an IP address`},
		{long(" "), "spaces"},
		{"fe80::1%" + long("x"), "zones"},
	} {
		_, err := cidr.ParseRange(test.input)
		requireRefused(t, err, test.input, test.rule, "")
	}
	input := "x" + strings.Repeat("é", 5000)
	_, err := cidr.ParseRange(input)
	quoted := `"x` + strings.Repeat("é", 49) + `"... (10001 bytes)`
	assert.EqualError(t, err, "cannot parse "+quoted+": "+quoted+` must be an IP address; `+
		`want an address, as in "192.0.2.1" or "2001:db8::1"`)
}

func TestSpacesAroundDash(t *testing.T) {
	spaced := cidr.Parser{SpacesAroundDash: true}
	for _, test := range []struct{ text, same string }{
		{"192.0.2.10 - 192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"192.0.2.10 -192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"192.0.2.10-   192.0.2.20/24", "192.0.2.10-192.0.2.20/24"},
		{"2001:db8::1  -  2001:db8::9/64", "2001:db8::1-2001:db8::9/64"},
		{"192.0.2.10-192.0.2.20", "192.0.2.10-192.0.2.20"},
		{"192.0.2.0/24", "192.0.2.0/24"},
		{"192.0.2.7", "192.0.2.7"},
	} {
		want, wantSubnet, err := cidr.Parser{}.SubnetRange(test.same)
		require.NoError(t, err)
		r, subnet, err := spaced.SubnetRange(test.text)
		require.NoError(t, err)
		assert.Equal(t, want, r)
		assert.Equal(t, wantSubnet, subnet)
		s, err := spaced.Set(test.text)
		require.NoError(t, err)
		assert.Equal(t, []netipx.IPRange{want}, s.Ranges())
		if test.text != test.same {
			_, err = cidr.ParseRange(test.text)
			requireRefused(t, err, test.text, "spaces are not allowed", strconv.Quote(test.same))
		}
	}
	for _, test := range []struct{ text, rule, want string }{
		{" 10.0.0.1 - 10.0.0.9", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.1 - 10.0.0.9 ", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.1 - 10.0.0.9 /24", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9/24"`},
		{"10.0.0.1\t- 10.0.0.9", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.1 -\n10.0.0.9", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.1 -\u00a010.0.0.9", "spaces are allowed only around the dash", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.1 ", "spaces are allowed only around the dash", `"10.0.0.1"`},
		{"10.0.0.1 - 10.0.0.2 - 10.0.0.3", "spaces are allowed only around the dash", "bounds"},
		{"10.0.0.1 - ", "an address is missing", `"192.0.2.1"`},
		{" - 10.0.0.1", "an address is missing", `"192.0.2.1"`},
		{"10.0.0.9 - 10.0.0.1", "first bound must not be after the last", `"10.0.0.1-10.0.0.9"`},
		{"10.0.0.0/ -1", `"-1" must be a number`, `"/0" to "/32"`},
	} {
		_, err := spaced.Range(test.text)
		requireRefused(t, err, test.text, test.rule, test.want)
	}
	_, err := spaced.Prefix("10.0.0.0 /24")
	requireRefused(t, err, "10.0.0.0 /24", "spaces are allowed only around the dash", `"10.0.0.0/24"`)
}

func TestHostBits(t *testing.T) {
	masking := cidr.Parser{MaskHostBits: true}
	for _, test := range []struct{ text, masked string }{
		{"192.0.2.192/24", "192.0.2.0/24"},
		{"192.0.2.1/31", "192.0.2.0/31"},
		{"255.255.255.255/0", "0.0.0.0/0"},
		{"2001:db8::1/64", "2001:db8::/64"},
		{"2001:db8:0:1::/63", "2001:db8::/63"},
		{"ffff::/0", "::/0"},
	} {
		t.Run(test.text, func(t *testing.T) {
			want := strconv.Quote(test.masked)
			_, err := cidr.ParseRange(test.text)
			requireRefused(t, err, test.text, "no host bits", want)
			_, err = cidr.ParseSet(test.text)
			requireRefused(t, err, test.text, "no host bits", want)
			_, err = cidr.ParsePrefix(test.text)
			requireRefused(t, err, test.text, "no host bits", want)

			p, err := masking.Prefix(test.text)
			require.NoError(t, err)
			assert.Equal(t, prefix(test.masked), p)
			r, subnet, err := masking.SubnetRange(test.text)
			require.NoError(t, err)
			assert.Equal(t, prefix(test.masked), subnet)
			assert.Equal(t, netipx.RangeOfPrefix(subnet), r)
			s, err := masking.Set(test.text)
			require.NoError(t, err)
			assert.Equal(t, []netipx.IPRange{r}, s.Ranges())
		})
	}
}

func TestPrefixForm(t *testing.T) {
	for _, text := range []string{"0.0.0.0/0", "10.0.0.0/8", "192.0.2.1/32", "::/0", "2001:db8::/64", "::1/128"} {
		p, err := cidr.ParsePrefix(text)
		require.NoError(t, err)
		assert.Equal(t, prefix(text), p)
	}
	for _, test := range []struct{ text, rule, want string }{
		{"192.0.2.1", "a CIDR has a length", `"192.0.2.1/32"`},
		{"::1", "a CIDR has a length", `"::1/128"`},
		{"10.0.0.0-10.0.0.255", "one address and one length", `"192.0.2.0/24"`},
		{"10.0.0.0-10.0.0.255/24", "one address and one length", `"192.0.2.0/24"`},
		{"10.0.0.0/24/25", "one address and one length", `"192.0.2.0/24"`},
		{"10.0.0.0/24-10.0.1.0", `"24-10.0.1.0" must be a number`, `"/0" to "/32"`},
		{"10.0.0.0/-1", `"-1" must be a number`, `"/0" to "/32"`},
		{"10.0.0.0/33", "from 0 to 32", `"/0" to "/32"`},
		{"/24", "an address is missing", `"192.0.2.0/24"`},
		{"10.0.0.0/24 ", "spaces", `"10.0.0.0/24"`},
		{"::ffff:10.0.0.0/104", "IPv4-mapped", `"10.0.0.0"`},
		{"fe80::%eth0/64", "zones", `"fe80::1"`},
	} {
		p, err := cidr.ParsePrefix(test.text)
		requireRefused(t, err, test.text, test.rule, test.want)
		assert.Equal(t, netip.Prefix{}, p)
	}
}

func TestAddrForm(t *testing.T) {
	for _, text := range []string{"0.0.0.0", "192.0.2.1", "::", "2001:db8::1", "64:ff9b::192.0.2.1"} {
		addr, err := cidr.ParseAddr(text)
		require.NoError(t, err)
		assert.Equal(t, netip.MustParseAddr(text), addr)
	}
	for _, test := range []struct{ text, rule, want string }{
		{"", "must not be empty", `"192.0.2.1"`},
		{"192.0.2.1/32", "no length", `"192.0.2.1"`},
		{"192.0.2.1-192.0.2.1", "no second bound", `"192.0.2.1"`},
		{"192.0.2.01", "no leading zeros", `"192.0.2.1"`},
		{"::ffff:192.0.2.1", "IPv4-mapped", `"192.0.2.1"`},
		{"fe80::1%eth0", "zones", `"fe80::1"`},
		{"192.0.2.1 ", "spaces", `"192.0.2.1"`},
		{"nonsense", "must be an IP address", `"192.0.2.1"`},
	} {
		addr, err := cidr.ParseAddr(test.text)
		requireRefused(t, err, test.text, test.rule, test.want)
		assert.Equal(t, netip.Addr{}, addr)
	}
}

func TestSetOfTexts(t *testing.T) {
	s, err := cidr.ParseSet("fd00::/64", "10.0.0.5", "10.0.0.0-10.0.0.4", "10.0.0.3-10.0.0.8/28", "10.0.0.10")
	require.NoError(t, err)
	assert.Equal(t, []netipx.IPRange{
		span("10.0.0.0", "10.0.0.8"),
		span("10.0.0.10", "10.0.0.10"),
		span("fd00::", "fd00::ffff:ffff:ffff:ffff"),
	}, s.Ranges())

	s, err = cidr.ParseSet()
	require.NoError(t, err)
	assert.Empty(t, s.Ranges())
}

// form tells the parts of a text apart. It knows nothing of addresses.
var form = regexp.MustCompile(`^([^-/]*)(?:-([^-/]*))?(?:/(0|[1-9][0-9]{0,2}))?$`)

// spacedDash is the first dash of a text with the spaces around it.
var spacedDash = regexp.MustCompile(`^([^-]*?) *- *`)

// reference is the rules of the package once more, as one expression over the standard library.
func reference(text string, p cidr.Parser) (r netipx.IPRange, subnet netip.Prefix, ok bool) {
	if p.SpacesAroundDash {
		text = spacedDash.ReplaceAllString(text, "$1-")
	}
	parts := form.FindStringSubmatch(text)
	if parts == nil {
		return r, subnet, false
	}
	first, last, length := parts[1], parts[2], parts[3]
	isRange := strings.Contains(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := netip.ParseAddr(first)
	to, err2 := netip.ParseAddr(last)
	if err1 != nil || err2 != nil || from.Zone()+to.Zone() != "" || from.Is4In6() || to.Is4In6() {
		return r, subnet, false
	}
	if length != "" {
		bits, _ := strconv.Atoi(length)
		var err error
		if subnet, err = from.Prefix(bits); err != nil || !subnet.Contains(to) {
			return r, subnet, false
		}
		if !isRange {
			if subnet.Addr() != from && !p.MaskHostBits {
				return r, subnet, false
			}
			return netipx.RangeOfPrefix(subnet), subnet, true
		}
	}
	r = netipx.IPRangeFrom(from, to)
	return r, subnet, r.IsValid()
}

// texts draws texts that are right, or nearly.
func texts() *rapid.Generator[string] {
	part := rapid.OneOf(
		rapid.SampledFrom([]string{
			"10.0.0.0", "10.0.0.1", "10.0.0.255", "10.0.1.0", "010.0.0.1", "0.0.0.0", "255.255.255.255", "256.0.0.1", "10.0.0",
			"::", "::1", "fd00::", "fd00::1", "fd00:0:0:1::", "::ffff:10.0.0.1", "::ffff:0:0", "64:ff9b::10.0.0.1",
			"fe80::1%eth0", "",
		}),
		rapid.StringMatching(`[0-9a-f.:]{0,12}`),
	)
	length := rapid.SampledFrom([]string{
		"0", "1", "8", "08", "23", "24", "31", "32", "33", "64", "127", "128", "129", "-1", "", "x",
	})
	glue := rapid.SampledFrom([]string{"-", "-", "-", "-", " - ", " -", "-  ", "--", ","})
	return rapid.Custom(func(t *rapid.T) string {
		text := part.Draw(t, "first")
		if rapid.Bool().Draw(t, "range") {
			text += glue.Draw(t, "glue") + part.Draw(t, "last")
		}
		if rapid.Bool().Draw(t, "subnet") {
			text += "/" + length.Draw(t, "length")
		}
		return text
	})
}

// requireParsed requires that every function of the package treats text as the reference does.
func requireParsed(t require.TestingT, text string, parser cidr.Parser) {
	wantRange, wantSubnet, right := reference(text, parser)

	r, subnet, err := parser.SubnetRange(text)
	require.Equal(t, right, err == nil, "%q: %v", text, err)
	s, setErr := parser.Set(text)
	require.Equal(t, err, setErr)
	if !right {
		requireRefused(t, err, text, "", "")
		requireSuggestion(t, err)
		require.Equal(t, netipx.IPRange{}, r)
		require.Equal(t, netip.Prefix{}, subnet)
		require.Nil(t, s)
	} else {
		require.Equal(t, wantRange, r)
		require.Equal(t, wantSubnet, subnet)
		require.Equal(t, []netipx.IPRange{r}, s.Ranges())
		requireFormatted(t, r)
	}

	p, err := parser.Prefix(text)
	isCIDR := right && strings.Contains(text, "/") && !strings.Contains(text, "-")
	require.Equal(t, isCIDR, err == nil, "%q: %v", text, err)
	if isCIDR {
		require.Equal(t, wantSubnet, p)
	} else {
		requireRefused(t, err, text, "", "")
		require.Equal(t, netip.Prefix{}, p)
	}

	addr, err := cidr.ParseAddr(text)
	isAddr := right && !strings.ContainsAny(text, "/-")
	require.Equal(t, isAddr, err == nil, "%q: %v", text, err)
	if isAddr {
		require.Equal(t, wantRange.From(), addr)
	} else {
		requireRefused(t, err, text, "", "")
		require.Equal(t, netip.Addr{}, addr)
	}
}

// requireSuggestion requires that a text which an error suggests is right, if it suggests one.
func requireSuggestion(t require.TestingT, err error) {
	var fault *cidr.ParseError
	require.ErrorAs(t, err, &fault)
	if text, notOne := strconv.Unquote(fault.Want); notOne == nil {
		_, err := cidr.ParseRange(text)
		require.NoError(t, err, "%q suggests %q", fault.Input, text)
	}
}

// requireFormatted requires that a range that was parsed has a text that reads back as the same range.
func requireFormatted(t require.TestingT, r netipx.IPRange) {
	text := cidr.FormatRange(r)
	again, err := cidr.ParseRange(text)
	require.NoError(t, err)
	require.Equal(t, r, again, text)
	require.Equal(t, text, cidr.FormatRange(again))
}

func TestParserAgreesWithReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireParsed(t, texts().Draw(t, "text"), cidr.Parser{
			MaskHostBits: rapid.Bool().Draw(t, "mask"), SpacesAroundDash: rapid.Bool().Draw(t, "spaces"),
		})
	})
}

func FuzzRange(f *testing.F) {
	for _, test := range rejections {
		f.Add(test.text, false, false)
	}
	for _, text := range []string{
		"192.0.2.7", "192.0.2.192/24", "::/0", "192.0.2.10-192.0.2.20/24", "2001:db8::10 - 2001:db8::ffff",
	} {
		f.Add(text, true, true)
	}
	f.Fuzz(func(t *testing.T, text string, mask, spaces bool) {
		requireParsed(t, text, cidr.Parser{MaskHostBits: mask, SpacesAroundDash: spaces})
	})
}

func FuzzSet(f *testing.F) {
	f.Add("192.0.2.0/24", "fd00::/64", "192.0.2.7-192.0.3.9")
	f.Add("10.0.0.1", "10.0.0.2", "::-ffff::")
	f.Add("10.0.0.0/8", "10.0.0.9-10.0.0.1", "")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		given := []string{a, b, c}
		s, err := cidr.ParseSet(given...)
		for _, text := range given {
			r, rangeErr := cidr.ParseRange(text)
			if rangeErr != nil {
				require.Equal(t, rangeErr, err, "the first wrong text is reported")
				return
			}
			if s != nil {
				require.True(t, s.ContainsRange(r))
			}
		}
		require.NoError(t, err)
		formatted := cidr.FormatSet(s)
		again, err := cidr.ParseSet(formatted...)
		require.NoError(t, err)
		require.True(t, s.Equal(again), "%q", formatted)
		for _, text := range formatted {
			require.True(t, utf8.ValidString(text))
		}
	})
}
