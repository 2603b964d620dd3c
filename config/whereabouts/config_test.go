package whereabouts_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/config/whereabouts"
	"github.com/ipalloc/ipalloc/pool"
)

// ipam is a configuration with the given fields in its section ipam.
func ipam(fields string) string {
	return `{"cniVersion": "1.0.0", "name": "net", "type": "macvlan", "ipam": {"type": "whereabouts", ` + fields + `}}`
}

// one is the configuration in the text.
func one(t *testing.T, text string) whereabouts.Config {
	t.Helper()
	c, err := whereabouts.Parse([]byte(text))
	require.NoError(t, err)
	_, err = pool.New(c.Spec(), nil)
	require.NoError(t, err)
	return c
}

// sets are what each range hands out.
func sets(c whereabouts.Config) string {
	var texts []string
	for _, r := range c.Ranges {
		texts = append(texts, strings.Join(cidr.FormatSet(r.Set()), " "))
	}
	return strings.Join(texts, " | ")
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestFixtures(t *testing.T) {
	for file, want := range map[string]string{
		"dual-stack.json": "192.168.10.1-192.168.10.254 | 2001:db8::1-2001:db8::ffff:ffff:ffff:ffff",
		"exclude.json":    "192.0.2.197-192.0.2.222",
		// The gateway is the first address of the range.
		"range-dash.json":     "192.168.2.226-192.168.2.230",
		"nad-macvlan.yaml":    "192.168.20.10-192.168.20.100",
		"network-name-1.json": "192.0.2.193-192.0.2.198",
		"network-name-2.json": "192.0.2.1-192.0.2.254",
	} {
		c, err := manifest.ReadFile(filepath.Join("testdata", file), whereabouts.Read)
		require.NoError(t, err)
		assert.Equal(t, want, sets(c), file)
		assert.True(t, c.OverlappingRanges)
		assert.Empty(t, c.Ignored)
	}
	c, err := manifest.ReadFile("testdata/nad-macvlan.yaml", whereabouts.Read)
	require.NoError(t, err)
	assert.Equal(t, "macvlan-conf", c.Name)
	assert.Equal(t, "default", c.Namespace)
	assert.Equal(t, addr("192.168.20.1"), c.Gateway)
}

// Two networks of one name, whose ranges overlap, share one pool and never give the same address.
func TestOverlappingNetworks(t *testing.T) {
	small, err := whereabouts.ReadFile("testdata/network-name-1.json")
	require.NoError(t, err)
	large, err := whereabouts.ReadFile("testdata/network-name-2.json")
	require.NoError(t, err)
	require.Equal(t, small.NetworkName, large.NetworkName)
	spec := small.Spec()
	spec.Ranges = append(spec.Ranges, large.Spec().Ranges...)
	p, err := pool.New(spec, nil)
	require.NoError(t, err)
	held := map[netip.Prefix]bool{}
	for i := range 260 {
		c := small
		if i >= 6 {
			c = large
		}
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i), Requests: c.Requests()})
		if i < 254 {
			require.NoError(t, err)
			require.True(t, c.Ranges[0].Set().Contains(a.Prefixes[0].Addr()))
			require.False(t, held[a.Prefixes[0]], a.Prefixes)
			held[a.Prefixes[0]] = true
			continue
		}
		require.ErrorIs(t, err, pool.ErrExhausted)
	}
}

func TestRanges(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"host bits", ipam(`"range": "192.0.2.225/28"`), "192.0.2.225-192.0.2.238"},
		{"bounds", ipam(`"range": "10.0.0.0/24", "range_start": "10.0.0.10", "range_end": "10.0.0.19"`),
			"10.0.0.10-10.0.0.19"},
		{"bounds that are reserved", ipam(`"range": "10.0.0.0/29", "range_start": "10.0.0.0", "range_end": "10.0.0.7"`),
			"10.0.0.1-10.0.0.6"},
		{"one bound", ipam(`"range": "10.0.0.0/29", "range_end": "10.0.0.3"`), "10.0.0.1-10.0.0.3"},
		{"a dash", ipam(`"range": "10.0.0.5-10.0.0.9/24"`), "10.0.0.5-10.0.0.9"},
		{"both forms, the range first", ipam(`"range": "2001:db8::/126", "ipRanges": [{"range": "10.0.0.0/30"}]`),
			"2001:db8::1-2001:db8::3 | 10.0.0.1-10.0.0.2"},
		{"exclusions", ipam(`"range": "10.0.0.0/28", "exclude": ["10.0.0.5/30", "10.0.0.9", "10.0.0.14/32"]`),
			"10.0.0.1-10.0.0.3 10.0.0.8 10.0.0.10-10.0.0.13"},
		{"exclusions of one range", ipam(`"range": "10.0.0.0/30", "ipRanges": [
			{"range": "10.0.0.0/30", "exclude": ["10.0.0.1"]}]`), "10.0.0.1-10.0.0.2 | 10.0.0.2"},
		{"a gateway in one of the ranges", ipam(`"gateway": "10.0.0.1", "ipRanges": [{"range": "10.0.0.0/29"},
			{"range": "10.0.0.0/30"}, {"range": "2001:db8::/126"}]`),
			"10.0.0.2-10.0.0.6 | 10.0.0.2 | 2001:db8::1-2001:db8::3"},
		{"a gateway outside", ipam(`"range": "2001::0/126", "gateway": "2001::f:1"`), "2001::1-2001::3"},
		{"l3", ipam(`"range": "10.0.0.0/30", "enable_l3": true, "ipRanges": [{"range": "10.0.1.0/30"}]`),
			"10.0.0.0/30 | 10.0.1.0/30"},
		{"l3 of one range", ipam(`"range": "10.0.0.0/30", "ipRanges": [{"range": "10.0.1.0/30", "enable_l3": true}]`),
			"10.0.0.1-10.0.0.2 | 10.0.1.0/30"},
		{"/31", ipam(`"range": "10.0.0.0/31"`), "10.0.0.0/31"},
		{"/128", ipam(`"range": "2001:db8::9/128"`), "2001:db8::9"},
		{"names in another case", ipam(`"Range": "10.0.0.0/30", "GATEWAY": "10.0.0.1"`), "10.0.0.2"},
		{"empty is missing", ipam(`"range": "", "range_start": "", "gateway": "", "ipRanges": [{"range": "10.0.0.0/30"}]`),
			"10.0.0.1-10.0.0.2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := one(t, c.text)
			assert.Equal(t, c.want, sets(got))
			var all *netipx.IPSet
			for _, r := range got.Ranges {
				all = cidr.Union(all, r.Set())
				_, err := pool.New(r.Spec, nil)
				require.NoError(t, err)
			}
			spec := got.Spec()
			handedOut := cidr.Union(spec.Set(pool.IPv4), spec.Set(pool.IPv6))
			assert.Equal(t, cidr.FormatSet(all), cidr.FormatSet(handedOut), "the pool of all ranges")
		})
	}
}

// Each range gives an address of its own, also where two of them overlap.
func TestClaims(t *testing.T) {
	c := one(t, ipam(`"range": "10.0.0.0/29", "ipRanges": [{"range": "10.0.0.0/24"}, {"range": "2001:db8::/64"}]`))
	p, err := pool.New(c.Spec(), nil)
	require.NoError(t, err)
	for owner, want := range map[string]string{"pod/eth0": "[10.0.0.1/32 10.0.0.2/32 2001:db8::1/128]"} {
		for range 2 {
			a, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Requests: c.Requests()})
			require.NoError(t, err)
			assert.Equal(t, want, fmt.Sprint(a.Prefixes))
		}
	}
}

func TestRest(t *testing.T) {
	c := one(t, ipam(`"range": "10.0.0.5-10.0.0.9/24", "range_start": "10.0.0.7", "exclude": ["2001:db8::/64"],
		"ipRanges": [{"range": "10.1.0.0/16", "rnge": 1}], "network_name": "blue", "enable_overlapping_ranges": false,
		"node_slice_size": "/26", "reconciler_cron_expression": "30 4 * * *", "configuration_path": "/etc/w.conf",
		"addresses": [{"address": "192.0.2.9/24", "gateway": "192.0.2.1"}, {"address": "192.0.3.9/24"}],
		"routes": [{"dst": "0.0.0.0/0", "gw": "10.0.0.1"}], "dns": {"nameservers": ["10.0.0.2"], "domain": "example.test",
		"search": ["a", "b"], "options": ["ndots:2"]}, "log_file": "/tmp/x", "leader_lease_duration": 1500, "excldue": []`))
	assert.Equal(t, "blue", c.NetworkName)
	assert.False(t, c.OverlappingRanges)
	assert.Equal(t, 26, c.NodeSliceBits)
	assert.Equal(t, "30 4 * * *", c.ReconcilerSchedule)
	assert.Equal(t, "/etc/w.conf", c.ConfigurationPath)
	assert.Equal(t, []whereabouts.Address{
		{netip.MustParsePrefix("192.0.2.9/24"), addr("192.0.2.1")}, {Address: netip.MustParsePrefix("192.0.3.9/24")},
	}, c.Addresses)
	assert.Equal(t, []config.Route{{Destination: netip.MustParsePrefix("0.0.0.0/0"), Gateway: addr("10.0.0.1")}}, c.Routes)
	assert.Equal(t, config.DNS{Nameservers: []string{"10.0.0.2"}, Domain: "example.test", Search: []string{"a", "b"},
		Options: []string{"ndots:2"}}, c.DNS)
	assert.Equal(t, []string{"ipam.excldue", "ipam.range_start", "ipam.exclude[0]", "ipam.ipRanges[0].rnge"}, c.Ignored)

	c = one(t, ipam(`"range_end": "x", "exclude": ["y"], "ipRanges": [{"range": "10.1.0.0/16"}], "node_slice_size": "16"`))
	assert.Equal(t, []string{"ipam.range_end", "ipam.exclude"}, c.Ignored)
	assert.Equal(t, 16, c.NodeSliceBits)
	assert.Equal(t, netip.MustParsePrefix("10.1.0.0/16"), c.Ranges[0].Subnet)
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // the errors, in part
	}{
		{"no range", ipam(`"exclude": []`), []string{`ipam.range: there is no range, want one such as "192.0.2.0/24"`}},
		{"no range in ipRanges", ipam(`"ipRanges": [{}]`), []string{"ipam.ipRanges[0].range: is missing"}},
		{"no length", ipam(`"range": "10.0.0.0"`), []string{`ipam.range: "10.0.0.0" cannot be parsed: a CIDR has a length`}},
		{"a dash without a length", ipam(`"range": "10.0.0.1-10.0.0.9"`),
			[]string{`ipam.range: "10.0.0.1-10.0.0.9" has no length`}},
		{"a reversed dash", ipam(`"range": "10.0.0.9-10.0.0.1/24"`),
			[]string{`ipam.range: "10.0.0.9-10.0.0.1/24" cannot be`}},
		{"a dash over two subnets", ipam(`"range": "10.0.0.9-10.0.1.1/24"`),
			[]string{`ipam.range: "10.0.0.9-10.0.1.1/24" can`}},
		{"bounds outside", ipam(`"range": "10.0.0.0/24", "range_start": "10.0.1.1", "range_end": "2001:db8::1"`),
			[]string{`ipam.range_start: "10.0.1.1" is not in the range 10.0.0.0/24`, `ipam.range_end: "2001:db8::1" is not in`}},
		{"reversed", ipam(`"range": "10.0.0.0/24", "range_start": "10.0.0.9", "range_end": "10.0.0.8"`),
			[]string{`ipam.range_end: "10.0.0.8" makes the range 10.0.0.9-10.0.0.8, which is empty`}},
		{"an exclusion that is a range", ipam(`"range": "10.0.0.0/24", "exclude": ["10.0.0.1-10.0.0.2", "x"]`),
			[]string{`ipam.exclude[0]: "10.0.0.1-10.0.0.2" is a range, want a CIDR or an address`,
				`ipam.exclude[1]: "x" cannot`}},
		{"nothing left", ipam(`"range": "10.0.0.0/30", "exclude": ["10.0.0.2"], "gateway": "10.0.0.1"`),
			[]string{`ipam.range: "10.0.0.0/30" leaves nothing to hand out`}},
		{"a range of IPv4-mapped addresses", ipam(`"range": "::fff0:0:0/92"`),
			[]string{`ipam.range: "::fff0:0:0/92" does not make a pool: the range`}},
		{"blocks larger than the range", ipam(`"range": "10.0.0.0/24", "node_slice_size": "/23"`),
			[]string{`ipam.node_slice_size: "/23" is not a length of blocks of the first range, want "/24" to "/32"`}},
		{"blocks smaller than an address", ipam(`"range": "10.0.0.0/24", "node_slice_size": "33"`),
			[]string{`ipam.node_slice_size: "33" is not a length`}},
		{"a number of blocks", ipam(`"range": "10.0.0.0/24", "node_slice_size": 26`),
			[]string{`ipam.node_slice_size: "26" is a number, want a text`}},
		{"all of it", ipam(`"range": "10.0.0/24", "gateway": "g", "enable_overlapping_ranges": "no",
			"addresses": [{"gateway": 5}], "dns": {"search": [5]}, "network_name": {},
			"ipRanges": [{"range": "10.0.0.0/24", "range_start": "x"}, 5]`),
			[]string{"ipam.network_name: is an object", `ipam.enable_overlapping_ranges: "no" is a text`,
				`ipam.gateway: "g" cannot`, `ipam.dns.search[0]: "5" is a number`,
				"ipam.addresses[0].address: is missing", `ipam.addresses[0].gateway: "5"`,
				`ipam.range: "10.0.0/24" cannot`, `ipam.ipRanges[0].range_start: "x" cannot`, `ipam.ipRanges[1]: "5" is a number`}},
		{"no ipam", `{"type": "bridge"}`, []string{"ipam: is missing"}},
		{"a definition without a configuration", "kind: NetworkAttachmentDefinition\nmetadata: {}\nspec: {}",
			[]string{"spec.config: is missing"}},
		{"a definition whose configuration is no JSON",
			"kind: NetworkAttachmentDefinition\nmetadata: {}\nspec: {config: '{'}",
			[]string{`spec.config: the text is not JSON: unexpected EOF`}},
		{"two documents", "a: 1\n---\nb: 1\n", []string{"the text has no content, or several documents"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := manifest.Parse([]byte(c.text), whereabouts.Read)
			assert.Equal(t, whereabouts.Config{}, got)
			var messages []string
			for _, wrong := range config.FieldErrors(err) {
				messages = append(messages, wrong.Error())
			}
			text := strings.Join(messages, "\n")
			for _, want := range c.want {
				assert.Contains(t, text, want)
			}
			assert.Len(t, messages, len(c.want), text)
		})
	}
}

// Configurations of other plugins are refused, not misread.
func TestOtherPlugins(t *testing.T) {
	files, err := filepath.Glob("../hostlocal/testdata/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		_, err := whereabouts.ReadFile(file)
		require.ErrorContains(t, err, "ipam.range: there is no range", file)
	}
}

// Whereabouts ignores the addresses that a container asks for; they are read for programs that do not.
func TestRequested(t *testing.T) {
	c, err := whereabouts.Parse([]byte(`{"args": {"cni": {"ips": ["192.0.2.7"]}},
		"runtimeConfig": {"ips": ["192.0.2.8/24"]},
		"ipam": {"range": "192.0.2.0/24"}}`))
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("192.0.2.8")}, c.Requested)
	_, err = whereabouts.Parse([]byte(`{"runtimeConfig": {"ips": ["x"]}, "ipam": {"range": "192.0.2.0/24"}}`))
	assert.ErrorContains(t, err, `runtimeConfig.ips[0]: "x" cannot be parsed`)
}
