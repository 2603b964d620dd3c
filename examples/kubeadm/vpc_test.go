package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// cells are the cells of a subnet's line: CIDR, addresses, reserved, for nodes, first and last.
func (r result) subnet(name string) string { return r.row(name, r.second(name)) }

// second is the second cell of the line that begins with a word.
func (r result) second(first string) string {
	for _, cells := range r.lines() {
		if len(cells) > 1 && cells[0] == first {
			return cells[1]
		}
	}
	return ""
}

func TestVPCOfPublicAndPrivateSubnets(t *testing.T) {
	for _, cloud := range []string{"aws", "azure"} {
		r := newDesk(t).ok("vpc", "-cloud", cloud, "-zones", "a,b,c", "10.0.0.0/16", "public/24", "private/19")
		for name, want := range map[string]string{
			"public-a":  "10.0.0.0/24 256 5 251 10.0.0.4 10.0.0.254",
			"public-b":  "10.0.1.0/24 256 5 251 10.0.1.4 10.0.1.254",
			"public-c":  "10.0.2.0/24 256 5 251 10.0.2.4 10.0.2.254",
			"private-a": "10.0.32.0/19 8192 5 8187 10.0.32.4 10.0.63.254",
			"private-b": "10.0.64.0/19 8192 5 8187 10.0.64.4 10.0.95.254",
			"private-c": "10.0.96.0/19 8192 5 8187 10.0.96.4 10.0.127.254",
		} {
			require.Equal(t, want, r.second(name)+" "+r.subnet(name), cloud)
		}
		require.Contains(t, r.stdout, "\nfree: 10.0.3.0/24,10.0.4.0/22,10.0.8.0/21,10.0.16.0/20,10.0.128.0/17\n")
	}
}

// A network of which every address is in a subnet, cut in any order of lengths.
func TestVPCIsCutWhole(t *testing.T) {
	r := newDesk(t).ok("vpc", "10.0.0.0/16", "a/18", "b/24", "c/17", "d/24", "e/23", "f/22", "g/21", "h/20", "i/19")
	require.Equal(t, "10.0.0.0/18", r.second("a"))
	require.Equal(t, "10.0.128.0/17", r.second("c"))
	require.Contains(t, r.stdout, "\nfree: nothing\n")
}

func TestVPCThatIsTooSmall(t *testing.T) {
	d := newDesk(t)
	d.keep("vpc", "10.0.0.0/16", "a/17")
	d.refused([]string{"vpc", "-db", d.db, "10.0.0.0/16", "b/18", "c/17"},
		`allocate for "c"`, "exhausted", "nothing was cut")
	r := d.keep("vpc", "10.0.0.0/16", "b/17", "a/17")
	require.Equal(t, "10.0.128.0/17", r.second("b"))
	require.Equal(t, "10.0.0.0/17", r.second("a"), "stays where it is")
	d.refused([]string{"vpc", "-db", d.db, "10.0.0.0/16", "a/18"}, `"a"`, "owner holds something else")
	r = d.keep("vpc", "10.0.0.0/16,10.9.0.0/16", "c/20")
	require.Equal(t, "10.9.0.0/20", r.second("c"), "the network has grown")
}

func TestVPCOfIPv6(t *testing.T) {
	d := newDesk(t)
	for _, cloud := range []string{"aws", "azure"} {
		r := d.ok("vpc", "-cloud", cloud, "2001:db8:42::/56", "a/64", "b/64")
		require.Equal(t, "18446744073709551616 5 18446744073709551611 2001:db8:42:1::4 2001:db8:42:1:ffff:ffff:ffff:fffe",
			r.subnet("b"))
	}
}

// A dual-stack subnet gets a prefix of each family, both or none.
func TestVPCOfBothFamilies(t *testing.T) {
	d := newDesk(t)
	network := "10.0.0.0/24,2001:db8:42::/56"
	r := d.keep("vpc", network, "public/26/64", "private/27/64", "old/28")
	require.Equal(t, [][]string{
		{"public", "10.0.0.0/26", "64", "5", "59", "10.0.0.4", "10.0.0.62"},
		{"public", "2001:db8:42::/64", "18446744073709551616", "5", "18446744073709551611", "2001:db8:42::4",
			"2001:db8:42:0:ffff:ffff:ffff:fffe"},
		{"private", "10.0.0.64/27", "32", "5", "27", "10.0.0.68", "10.0.0.94"},
		{"private", "2001:db8:42:1::/64", "18446744073709551616", "5", "18446744073709551611", "2001:db8:42:1::4",
			"2001:db8:42:1:ffff:ffff:ffff:fffe"},
		{"old", "10.0.0.96/28", "16", "5", "11", "10.0.0.100", "10.0.0.110"},
	}, r.lines()[1:6])
	d.refused([]string{"vpc", "-db", d.db, network, "more/25/64", "too/25/64"}, "exhausted", "nothing was cut")
	require.Equal(t, "2001:db8:42:2::/64", d.keep("vpc", network, "more/25/64").lines()[2][1], "none was lost")
}

func TestVPCRules(t *testing.T) {
	d := newDesk(t)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"10.0.0.0/15", "a/24"}, "10.0.0.0/15 cannot be a network of aws, want a length of /16 to /28"},
		{[]string{"10.0.0.0/16", "a/29"}, `subnet "a": aws has no IPv4 subnets of length /29, want /16 to /28`},
		{[]string{"-cloud", "azure", "10.0.0.0/16", "a/30"}, `subnet "a": azure has no IPv4 subnets of length /30`},
		{[]string{"2001:db8::/56", "a/62"}, "aws has no IPv6 subnets of length /62, want /44 to /64 in steps of 4"},
		{[]string{"-cloud", "azure", "2001:db8::/56", "a/60"}, "azure has no IPv6 subnets of length /60, want /64"},
		{[]string{"10.0.0.0/16", "a/24", "a/25"}, `subnet "a" is there twice`},
		{[]string{"10.0.0.0/28", "a/16"}, `subnet "a": a /16 does not fit into [10.0.0.0/28]`},
	} {
		d.refused(append([]string{"vpc", "-db", d.db}, c.args...), c.want)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"10.0.0.1/16", "a/24"}, `"10.0.0.1/16"`},
		{[]string{"10.0.0.0/16", "a"}, `the subnet "a" is not a name and a length`},
		{[]string{"10.0.0.0/16", "/24"}, `the subnet "/24" is not a name and a length`},
		{[]string{"10.0.0.0/16", "a/24/64"}, `the subnet "a/24/64" is not a name and a length for each family`},
		{[]string{"10.0.0.0/16", "a/33"}, `"33" is not a prefix length, want 1 to 32`},
		{[]string{"-cloud", "gcp", "10.0.0.0/16", "a/24"}, "is not known, want aws or azure"},
	} {
		r := d.try(append([]string{"vpc"}, c.args...)...)
		require.Equal(t, 2, r.status)
		require.Contains(t, r.stderr, c.want)
	}
}

// A subnet is a pool that hands out addresses for nodes, and none of the five that the cloud keeps.
func TestNodesInASubnet(t *testing.T) {
	d := newDesk(t)
	d.keep("vpc", "10.0.0.0/16", "public/28")
	s, err := bolt.Open(t.Context(), d.db, nil)
	require.NoError(t, err)
	defer s.Close()
	p, err := pool.Open(t.Context(), s, "vpc/public", nil)
	require.NoError(t, err)
	var given []string
	for i := range 12 {
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: string(rune('a' + i))})
		if i == 11 {
			require.ErrorIs(t, err, pool.ErrExhausted)
			break
		}
		require.NoError(t, err)
		given = append(given, join(a.Prefixes))
	}
	require.Equal(t, "10.0.0.4", given[0])
	require.Equal(t, "10.0.0.14", given[10])
}
