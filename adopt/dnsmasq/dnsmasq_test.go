package dnsmasq_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt/dnsmasq"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
)

// Written by dnsmasq 2.90.
func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, dnsmasq.Read, "testdata/dnsmasq.leases",
		"10.0.0.163/32 id:01960106940a90 until 2026-11-22T20:36:14Z client-id=01960106940a90 "+
			"hardware=96:01:06:94:0a:90 hostname=first (line 1)",
		"10.0.0.164/32 hw:96:01:06:94:0a:91 hardware=96:01:06:94:0a:91 (line 2)",
		"2001:db8::120/128 duid:000100013295f29e960106940a90/na/06950a90 until 2026-11-22T20:36:14Z "+
			"duid=000100013295f29e960106940a90 ia=na iaid=06950a90 (line 4)")
}

// A temporary address, hardware that is not Ethernet, and a client without hardware.
const others = "0 06-02:00:00:00:00:01 10.0.0.1 a *\n0 00- 10.0.0.2 * ff:01\n\nduid 00:01\n0 T5 2001:db8::5 b 00:03\n"

func TestOtherLines(t *testing.T) {
	require.Equal(t, []string{
		"10.0.0.1/32 hw:02:00:00:00:00:01 hardware=02:00:00:00:00:01 hostname=a (line 1)",
		"10.0.0.2/32 id:ff01 client-id=ff01 (line 2)",
		"2001:db8::5/128 duid:0003/ta/00000005 duid=0003 hostname=b ia=ta iaid=00000005 (line 5)",
	}, adopttest.Texts(t, dnsmasq.Read(strings.NewReader(others))))
}

func TestWrongFilesAreRefused(t *testing.T) {
	adopttest.RequireErrors(t, dnsmasq.Read, others, map[string]string{
		"1 2 3":                                 `line 1: "1 2 3" has 3 fields, want 5`,
		"\nsoon 02:00:00:00:00:01 10.0.0.1 * *": `line 2: "soon" is no time`,
		"0 zz 10.0.0.1 * *":                     `"zz" is no hardware address`,
		"0 02:00:00:00:00:01 10.0.0.01 * *":     "line 1: cannot parse",
		"0 02:00:00:00:00:01 2001:db8::1 * *":   "2001:db8::1 is no IPv4 address",
		"0 00- 10.0.0.1 * *":                    "the lease of 10.0.0.1 has no client",
		"0 02:00:00:00:00:01 10.0.0.1 * x":      `"x" is not hexadecimal digits`,
		"duid 00\n0 x 2001:db8::1 * 00":         `line 2: "x" is no IAID`,
		"duid 00\n0 1 10.0.0.1 * 00":            "10.0.0.1/32 is no IPv6 prefix",
		"duid 00\n0 1 2001:db8::1 * *":          "the lease of 2001:db8::1/128 has no client",
		"\n" + strings.Repeat("a", 1<<21):       "line 2: it is longer than 1048576 bytes",
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, dnsmasq.Read, []string{"testdata/dnsmasq.leases"}, others)
}
