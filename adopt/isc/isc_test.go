package isc_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
	"github.com/ipalloc/ipalloc/adopt/isc"
)

// Written by dhcpd 4.4.3: of DHCPv4 for udhcpc, where two of three clients have the same hardware; of DHCPv6 for
// dhclient, one of whose runs has released what it had.
func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, isc.Read, "testdata/dhcpd.leases",
		"10.0.0.10/32 id:01960106940a90 until 2026-11-22T20:36:05Z client-id=01960106940a90 "+
			"hardware=96:01:06:94:0a:90 hostname=first (line 9)",
		"10.0.0.11/32 id:ff00226162 until 2026-11-22T20:36:06Z client-id=ff00226162 "+
			"hardware=96:01:06:94:0a:90 hostname=third (line 31)")
	adopttest.RequireFile(t, isc.Read, "testdata/dhcpd6.leases",
		"2001:db8::1042/128 duid:0003000162ba3c60ebcb/ta/3c60ebcb until 2026-11-23T02:30:48Z "+
			"duid=0003000162ba3c60ebcb ia=ta iaid=3c60ebcb (line 31)",
		"2001:db8::200/128 duid:00030001020000000077/na/00000077 until 2026-11-23T02:30:54Z "+
			"duid=00030001020000000077 ia=na iaid=00000077 (line 61)",
		"2001:db8:f0ff::/56 duid:00030001020000000077/pd/00000077 until 2026-11-23T02:30:54Z "+
			"duid=00030001020000000077 ia=pd iaid=00000077 (line 71)")
}

// What else dhcpd.leases(5) has: other byte orders, leases without end, other states and declarations.
const others = `authoring-byte-order big-endian; # as on other machines
failover peer "dhcp" state { my state normal at 0 2026/11/22 18:36:05; partner state normal at never; }
host h1 { dynamic; hardware ethernet 02:00:00:00:00:01; fixed-address 10.0.0.99; }
class "a"; group { host x { } }
lease 10.0.0.1 { ends never; binding state active; hardware ethernet 02:00:00:00:00:01; uid 1:2:ff; }
lease 10.0.0.2 { ends epoch 1795385831; # Sun Nov 22 22:17:11 2026
  hardware ethernet 02:00:00:00:00:02; on commit { set x = "}"; if known { execute("a"); } } }
lease 10.0.0.3 { ends never; binding state abandoned; }
lease 10.0.0.4 { ends never; binding state backup; hardware ethernet 02:00:00:00:00:04; }
lease 10.0.0.5 { ends never; hardware ethernet 02:00:00:00:00:05; abandoned; }
lease 10.0.0.6 { ends never; hardware ethernet 02:00:00:00:00:06; }
lease 10.0.0.6 { ends never; binding state expired; }
ia-na "\000\000\001\002\"\\" { cltt 1 2026/11/23 00:30:45; iaaddr 2001:db8::9 { binding state active; ends never; } }
`

func TestOtherRecords(t *testing.T) {
	require.Equal(t, []string{
		"10.0.0.1/32 id:0102ff client-id=0102ff hardware=02:00:00:00:00:01 (line 5)",
		"10.0.0.2/32 hw:02:00:00:00:00:02 until 2026-11-22T22:17:11Z hardware=02:00:00:00:00:02 (line 6)",
		`2001:db8::9/128 duid:225c/na/00000102 duid=225c ia=na iaid=00000102 (line 13)`,
	}, adopttest.Texts(t, isc.Read(strings.NewReader(others))))
}

func TestWrongFilesAreRefused(t *testing.T) {
	const lease = "lease 10.0.0.1 { ends never; hardware ethernet 02:00:00:00:00:01; }\n"
	adopttest.RequireErrors(t, isc.Read, lease, map[string]string{
		"hello;":                                               `line 1: "hello" does not stand in a file of leases`,
		"hello":                                                `line 1: the end of the file is within "hello"`,
		lease + "lease 10.0.0.2 { ends never;":                 `line 2: the block of "lease" has no end`,
		"lease 2001:db8::1 { }":                                `"2001:db8::1" is no IPv4 address`,
		"lease 10.0.0.1 { }":                                   "line 1: it has no end",
		"lease 10.0.0.1 { ends soon; }":                        `"soon" is no end of a lease`,
		"lease 10.0.0.1 { ends 0 2026/13/40 1; }":              `is no end of a lease`,
		"lease 10.0.0.1 { ends epoch -1; }":                    "is no time in seconds",
		"lease 10.0.0.1 { ends never; }":                       "the lease of 10.0.0.1 has no client",
		"lease 10.0.0.1 { hardware ethernet zz; ends never; }": `"zz" is no hardware address`,
		"lease 10.0.0.1 { uid xx; }":                           `"xx" is neither a string nor bytes`,
		`lease 10.0.0.1 { uid "a`:                              "a string has no closing quote",
		`lease 10.0.0.1 { uid "\777"; }`:                       `"\\777" is no byte`,
		"lease 10.0.0.1 { ends never }":                        `"ends" has no semicolon`,
		`ia-na "ab" { }`:                                       `"ab" is no IAID with a DUID`,
		`ia-na "abcdefg" { iaaddr 10.0.0.1 { } }`:              `"10.0.0.1" is no IPv6 address`,
		strings.Repeat("group { ", 200):                        "blocks are in more than 100 blocks",
		"a" + strings.Repeat(" a", 1<<20):                      "a statement is longer than 1048576 bytes",
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, isc.Read, []string{"testdata/dhcpd.leases", "testdata/dhcpd6.leases"}, others)
}
