package adopt_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/adopt"
)

func TestFiles(t *testing.T) {
	for _, test := range []struct {
		file, format string
		want         []string
	}{
		// Written by dhcpd 4.4.3 for udhcpc, of whose three clients two have the same hardware.
		{"dhcpd.leases", "isc", []string{
			"10.0.0.10/32 id:01960106940a90 2026-11-22T20:36:05Z first",
			"10.0.0.11/32 id:ff00226162 2026-11-22T20:36:06Z third",
		}},
		{"dnsmasq.leases", "dnsmasq", []string{
			"10.0.0.163/32 id:01960106940a90 2026-11-22T20:36:14Z first",
			"10.0.0.164/32 hw:96:01:06:94:0a:91 never ",
			"2001:db8::120/128 duid:000100013295f29e960106940a90/na/06950a90 2026-11-22T20:36:14Z ",
		}},
		{"kea-leases4.csv", "kea", []string{
			"10.0.0.20/32 id:01020100000000 2026-11-22T22:17:11Z ",
			"10.0.0.21/32 hw:02:01:00:00:00:01 2026-11-22T22:17:11Z node-1",
		}},
		{"kea-leases6.csv", "kea", []string{
			"2001:db8::121/128 duid:00030001020100000001/na/00000001 2026-11-22T22:17:11Z ",
			"2001:db8:f000::/56 duid:00030001020100000001/pd/00000002 2026-11-22T22:17:11Z ",
		}},
	} {
		t.Run(test.file, func(t *testing.T) {
			text, err := os.ReadFile("testdata/" + test.file)
			require.NoError(t, err)
			known, err := adopt.Formats[test.format](text)
			require.NoError(t, err)
			var got []string
			for _, k := range known {
				ends := "never"
				if !k.Ends.IsZero() {
					ends = k.Ends.Format(time.RFC3339)
				}
				got = append(got, fmt.Sprintf("%v %s %s %s", k.Prefix, k.Owner, ends, k.Client.Hostname))
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestWrongFilesAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"isc:ia-na \"x\" {\n}\n":                             `leases of DHCPv6 ("ia-na ")`,
		"isc:lease 10.0.0.1 {\n  binding state active;\n}\n": "lease 10.0.0.1: it has no end",
		"isc:hello":     "no lease is in it",
		"dnsmasq:1 2 3": `line 1: "1 2 3" has 3 fields`,
		"dnsmasq:soon 02:00:00:00:00:01 10.0.0.1 * *":               `"soon" is no time`,
		"dnsmasq:0 zz 10.0.0.1 * *":                                 `"zz" is no hardware address`,
		"dnsmasq:0 02:00:00:00:00:01 fe80::1 * *":                   `"fe80::1" is no IPv4 address`,
		"kea:address,state\n":                                       `no column "valid_lifetime"`,
		"kea:address,valid_lifetime,expire,state\n10.0.0.1,1,2,0\n": "line 2: the lease of 10.0.0.1 has no client",
	} {
		format, file, _ := cut(text)
		_, err := adopt.Formats[format]([]byte(file))
		require.ErrorIs(t, err, adopt.ErrInvalid, text)
		require.ErrorContains(t, err, want)
	}
}

func cut(text string) (format, file string, ok bool) {
	for i := range text {
		if text[i] == ':' {
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

// FuzzFormats reads any bytes in all formats. What is read has a prefix and an owner, and no prefix is read twice.
func FuzzFormats(f *testing.F) {
	for _, file := range []string{"dhcpd.leases", "dnsmasq.leases", "kea-leases4.csv", "kea-leases6.csv"} {
		text, err := os.ReadFile("testdata/" + file)
		require.NoError(f, err)
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for name, read := range adopt.Formats {
			known, err := read(text)
			if err != nil {
				require.ErrorIs(t, err, adopt.ErrInvalid, name)
			}
			seen := map[string]bool{}
			for _, k := range known {
				require.True(t, k.Prefix.IsValid())
				require.NotEmpty(t, k.Owner)
				require.False(t, seen[k.Prefix.String()])
				seen[k.Prefix.String()] = true
			}
		}
	})
}
