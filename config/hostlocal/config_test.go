package hostlocal_test

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/hostlocal"
	"github.com/ipalloc/ipalloc/config/manifest"
	"github.com/ipalloc/ipalloc/pool"
)

// ipam is a configuration with the given fields in its section ipam.
func ipam(fields string) string {
	return `{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": {"type": "host-local", ` + fields + `}}`
}

// one is the configuration in the text.
func one(t *testing.T, text string) hostlocal.Config {
	t.Helper()
	c, err := hostlocal.Parse([]byte(text))
	require.NoError(t, err)
	_, err = pool.New(c.Spec, nil)
	require.NoError(t, err)
	return c
}

// sets are what each set can hand out.
func sets(t *testing.T, c hostlocal.Config) string {
	t.Helper()
	requests, err := c.Requests()
	require.NoError(t, err)
	var texts []string
	for _, r := range requests {
		free := cidr.Intersection(r.Within, c.Spec.Set(pool.FamilyOf(r.Within.Ranges()[0].From())))
		texts = append(texts, strings.Join(cidr.FormatSet(free), " "))
	}
	return strings.Join(texts, " | ")
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestFixture(t *testing.T) {
	c, err := hostlocal.ReadFile("testdata/host-local.json")
	require.NoError(t, err)
	assert.Equal(t, "hostlocal-dual", c.Name)
	assert.Equal(t, "1.0.0", c.CNIVersion)
	assert.Equal(t, hostlocal.DefaultDataDir, c.DataDir)
	assert.Equal(t, "10.1.2.9-10.1.2.17 10.1.4.2-10.1.4.254 | 2001:db8:1::2-2001:db8:1:0:ffff:ffff:ffff:ffff", sets(t, c))
	assert.Equal(t, []config.Route{
		{Destination: netip.MustParsePrefix("0.0.0.0/0")}, {Destination: netip.MustParsePrefix("::/0")},
	}, c.Routes)
	assert.Equal(t, pool.NextFree, c.Spec.Strategy)
	assert.Empty(t, c.Ignored)
	r, ok := c.Sets[0].Of(addr("10.1.4.7"))
	assert.True(t, ok)
	assert.Equal(t, netip.MustParsePrefix("10.1.4.0/24"), r.Subnet)
	assert.Equal(t, addr("10.1.4.1"), r.Gateway)
	_, ok = c.Sets[0].Of(addr("10.1.2.8"))
	assert.False(t, ok)
}

// A container gets one address of each set, and the same ones when it asks again.
func TestClaims(t *testing.T) {
	c, err := hostlocal.ReadFile("testdata/host-local.json")
	require.NoError(t, err)
	p, err := pool.New(c.Spec, nil)
	require.NoError(t, err)
	for _, want := range []struct {
		owner  string
		wanted []netip.Addr
		got    string
	}{
		{"a", nil, "[10.1.2.9/32 2001:db8:1::2/128]"},
		{"b", nil, "[10.1.2.10/32 2001:db8:1::3/128]"},
		{"a", nil, "[10.1.2.9/32 2001:db8:1::2/128]"},
		{"c", []netip.Addr{addr("2001:db8:1::99")}, "[10.1.2.11/32 2001:db8:1::99/128]"},
		{"d", []netip.Addr{addr("10.1.4.2"), addr("10.1.4.2")}, "[10.1.4.2/32 2001:db8:1::9a/128]"},
	} {
		requests, err := c.Requests(want.wanted...)
		require.NoError(t, err)
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: want.owner, Requests: requests})
		require.NoError(t, err)
		assert.Equal(t, want.got, fmt.Sprint(a.Prefixes))
	}
}

func TestWantedAddressesLeftOver(t *testing.T) {
	c := one(t, ipam(`"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.1.0/24"}]]`))
	for _, wanted := range [][]netip.Addr{
		{addr("10.0.2.1")}, {addr("10.0.0.8"), addr("10.0.0.9")}, {addr("2001:db8::1")}, {{}},
	} {
		_, err := c.Requests(wanted...)
		require.ErrorIs(t, err, pool.ErrInvalid)
		assert.ErrorContains(t, err, fmt.Sprintf("the wanted address %v is in no set", wanted[len(wanted)-1]))
	}
}

func TestSets(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"the legacy form", ipam(`"subnet": "10.0.0.0/29"`), "10.0.0.2-10.0.0.6"},
		{"the legacy form with bounds",
			ipam(`"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.10", "rangeEnd": "10.0.0.19", "gateway": "10.0.0.15"`),
			"10.0.0.10-10.0.0.14 10.0.0.16/30"},
		{"both forms", ipam(`"subnet": "10.0.0.0/29", "ranges": [[{"subnet": "10.0.1.0/29"}]]`),
			"10.0.0.2-10.0.0.6 | 10.0.1.2-10.0.1.6"},
		{"ranges of the runtime come first", strings.TrimSuffix(ipam(`"subnet": "10.0.0.0/29"`), "}") +
			`, "runtimeConfig": {"ipRanges": [[{"subnet": "2001:db8::/125"}]]}}`, "2001:db8::2-2001:db8::7 | 10.0.0.2-10.0.0.6"},
		{"two parts of one subnet", ipam(`"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9"},
			{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.250"}]]`), "10.0.0.2-10.0.0.9 10.0.0.250-10.0.0.254"},
		{"one subnet with two gateways", ipam(`"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9"},
			{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.250", "gateway": "10.0.0.5"}]]`),
			"10.0.0.2-10.0.0.4 10.0.0.6-10.0.0.9 10.0.0.250-10.0.0.254"},
		{"a gateway outside of its subnet", ipam(`"ranges": [[{"subnet": "10.0.0.0/29", "gateway": "10.0.1.3"}],
			[{"subnet": "10.0.1.0/29"}]]`), "10.0.0.1-10.0.0.6 | 10.0.1.2 10.0.1.4-10.0.1.6"},
		{"bounds that are reserved", ipam(`"subnet": "10.0.0.0/29", "rangeStart": "10.0.0.0", "rangeEnd": "10.0.0.7"`),
			"10.0.0.2-10.0.0.6"},
		{"/30", ipam(`"subnet": "10.0.0.0/30"`), "10.0.0.2"},
		{"/31", ipam(`"subnet": "10.0.0.0/31"`), "10.0.0.0/31"},
		{"/31 with a gateway", ipam(`"subnet": "10.0.0.0/31", "gateway": "10.0.0.0"`), "10.0.0.1"},
		{"/32", ipam(`"subnet": "10.0.0.9/32"`), "10.0.0.9"},
		{"/127", ipam(`"subnet": "2001:db8::/127"`), "2001:db8::/127"},
		{"names in another case", ipam(`"Subnet": "10.0.0.0/29", "RANGESTART": "10.0.0.3"`), "10.0.0.3-10.0.0.6"},
		{"empty and null are missing", ipam(`"subnet": "10.0.0.0/29", "rangeStart": "", "gateway": null`),
			"10.0.0.2-10.0.0.6"},
		{"no type", `{"ipam": {"subnet": "10.0.0.0/29"}}`, "10.0.0.2-10.0.0.6"},
		{"the plugin with host-local, of several", `{"plugins": [{"type": "tuning"}, {"ipam": {"type": "static"}},
			` + ipam(`"subnet": "10.0.0.0/29"`) + `]}`, "10.0.0.2-10.0.0.6"},
		{"the first plugin with a section ipam", `{"plugins": [{"type": "tuning"}, {"ipam": {"subnet": "10.0.0.0/29"}}]}`,
			"10.0.0.2-10.0.0.6"},
		{"two sets of a family in CNI 0.3.0", `{"cniVersion": "0.3.0", "ipam": {
			"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "10.0.1.0/29"}]]}}`, "10.0.0.2-10.0.0.6 | 10.0.1.2-10.0.1.6"},
		{"two sets of a family before CNI 0.3.0 are one too many, but not of two", `{"cniVersion": "0.2.0", "ipam": {
			"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "2001:db8::/125"}]]}}`,
			"10.0.0.2-10.0.0.6 | 2001:db8::2-2001:db8::7"},
	} {
		t.Run(c.name, func(t *testing.T) { assert.Equal(t, c.want, sets(t, one(t, c.text))) })
	}
}

func TestRest(t *testing.T) {
	c := one(t, `{"name": "net", "cniVersion": "0.4.0", "ipam": {"type": "mine", "subnet": "10.0.0.0/24",
		"dataDir": "/run/x", "resolvConf": "/etc/resolv.conf", "rangestrat": "10.0.0.9", "ipRange": "10.0.0.0/28",
		"ranges": [[{"subnet": "10.0.1.0/24", "ipRange": 5}]],
		"routes": [{"dst": "3ffe:ffff:0:1ff::1/64"}, {"dst": "192.168.0.0/16", "gw": "10.0.0.5", "mtu": 1400, "table": 0}]},
		"args": {"cni": {"ips": ["10.0.0.7"]}}, "runtimeConfig": {"ips": ["10.0.1.7/24"], "other": 1}}`)
	zero := 0
	assert.Equal(t, []config.Route{
		{Destination: netip.MustParsePrefix("3ffe:ffff:0:1ff::1/64")},
		{Destination: netip.MustParsePrefix("192.168.0.0/16"), Gateway: addr("10.0.0.5"), MTU: 1400, Table: &zero},
	}, c.Routes)
	assert.Equal(t, []netip.Addr{addr("10.0.0.7"), addr("10.0.1.7")}, c.Requested)
	assert.Equal(t, []string{"ipam.rangestrat", "ipam.ipRange", "ipam.ranges[0][0].ipRange"}, c.Ignored)
	assert.Equal(t, "/run/x", c.DataDir)
	assert.Equal(t, "/etc/resolv.conf", c.ResolvConf)
	assert.Equal(t, "mine", c.Type)

	c = one(t, ipam(`"ranges": [[{"subnet": "10.0.1.0/24"}]], "gateway": "10.0.1.9"`))
	assert.Equal(t, []string{"ipam.gateway"}, c.Ignored)
	assert.Equal(t, addr("10.0.1.1"), c.Sets[0][0].Gateway)
}

func TestDefinition(t *testing.T) {
	text := "apiVersion: k8s.cni.cncf.io/v1\nkind: NetworkAttachmentDefinition\nmetadata: {name: n, namespace: s}\n" +
		"spec:\n  config: '" + `{"plugins": [{"ipam": {"type": "host-local", "subnet": "10.0.0.0/29"}}]}` + "'\n"
	c, err := manifest.Parse([]byte(text), hostlocal.Read)
	require.NoError(t, err)
	assert.Equal(t, "n", c.Name)
	assert.Equal(t, "s", c.Namespace)

	_, err = manifest.Parse([]byte(strings.Replace(text, "10.0.0.0", "10.0.0.1", 1)), hostlocal.Read)
	require.Len(t, config.FieldErrors(err), 1)
	wrong := config.FieldErrors(err)[0]
	assert.Equal(t, 5, wrong.Line)
	assert.Equal(t, "spec.config.plugins[0].ipam.subnet", wrong.Field)
}

func TestRefused(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       []string // the errors, in part
	}{
		{"no ranges", ipam(`"routes": []`), []string{"ipam.ranges: there are no ranges, want at least one"}},
		{"ranges in a file", ipam(`"rangeFromFile": "/run/x"`), []string{`ipam.rangeFromFile: "/run/x" names a file`}},
		{"no subnet", ipam(`"ranges": [[{"gateway": "10.0.0.1"}]]`), []string{"ipam.ranges[0][0].subnet: is missing"}},
		{"an empty set", ipam(`"ranges": [[]]`), []string{"ipam.ranges[0]: has no ranges"}},
		{"a set that is a range", ipam(`"ranges": [{"subnet": "10.0.0.0/24"}]`),
			[]string{"ipam.ranges[0]: is an object, want a list", "ipam.ranges[0]: has no ranges"}},
		{"host bits", ipam(`"subnet": "10.0.0.1/24"`),
			[]string{`ipam.subnet: "10.0.0.1/24" cannot be parsed: a CIDR has no host`}},
		{"an address for a subnet", ipam(`"subnet": "10.0.0.1"`), []string{`ipam.subnet: "10.0.0.1" cannot be parsed`}},
		{"bounds outside", ipam(`"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.1", "rangeEnd": "2001:db8::1"`),
			[]string{`ipam.rangeStart: "10.0.1.1" is not in the subnet 10.0.0.0/24`, `ipam.rangeEnd: "2001:db8::1" is not in`}},
		{"reversed", ipam(`"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"`),
			[]string{`ipam.rangeEnd: "10.0.0.8" makes the range 10.0.0.9-10.0.0.8, which is empty`}},
		{"rangeStart after the default", ipam(`"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.255"`),
			[]string{`ipam.rangeEnd: makes the range 10.0.0.255-10.0.0.254, which is empty`}},
		{"mixed gateway", ipam(`"subnet": "10.0.0.0/24", "gateway": "2001:db8::1"`),
			[]string{`ipam.gateway: "2001:db8::1" is IPv6, but its subnet is IPv4`}},
		{"mixed set", ipam(`"ranges": [[{"subnet": "10.0.0.0/24"}, {"subnet": "2001:db8::/64"}]]`),
			[]string{`ipam.ranges[0][1].subnet: "2001:db8::/64" is IPv6, but the set is IPv4`}},
		{"overlap in a set", ipam(`"ranges": [[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9"},
			{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9"}]]`),
			[]string{`ipam.ranges[0][1].subnet: "10.0.0.0/24" has the range 10.0.0.9-10.0.0.254, which overlaps ` +
				"10.0.0.1-10.0.0.9 of ipam.ranges[0][0].subnet"}},
		{"overlap between sets", ipam(`"subnet": "10.0.0.0/24", "ranges": [
			[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.9"}],
			[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.20", "rangeEnd": "10.0.0.29"}]]`),
			[]string{"ipam.ranges[0][0].subnet", "ipam.ranges[1][0].subnet"}},
		{"subnets that overlap", ipam(`"ranges": [[{"subnet": "10.0.0.0/16", "rangeEnd": "10.0.0.9"}],
			[{"subnet": "10.0.1.0/24"}], [{"subnet": "10.0.2.0/24"}]]`), []string{
			`ipam.ranges[1][0].subnet: "10.0.1.0/24" overlaps 10.0.0.0/16 of ipam.ranges[0][0].subnet`,
			`ipam.ranges[2][0].subnet: "10.0.2.0/24" overlaps 10.0.0.0/16`}},
		{"subnets that overlap, after one that does not", ipam(`"ranges": [[{"subnet": "10.0.0.0/24"}],
			[{"subnet": "10.1.0.0/16", "rangeEnd": "10.1.0.9"}], [{"subnet": "10.1.1.0/24"}]]`),
			[]string{`ipam.ranges[2][0].subnet: "10.1.1.0/24" overlaps 10.1.0.0/16 of ipam.ranges[1][0].subnet`}},
		{"two sets of a family before CNI 0.3.0",
			`{"ipam": {"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "10.0.1.0/29"}]]}}`,
			[]string{`ipam.ranges: has several sets of one family, which CNI "" does not support`}},
		{"two sets of a family in CNI 0.2.0", `{"cniVersion": "0.2.0", "ipam": {
			"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "10.0.1.0/29"}]]}}`,
			[]string{`ipam.ranges: has several sets of one family, which CNI "0.2.0" does not support, want a cniVersion`}},
		{"nothing left", ipam(`"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.1.9/32", "gateway": "10.0.1.9"}]]`),
			[]string{"ipam.ranges[1]: leaves nothing to hand out"}},
		{"twice", ipam(`"subnet": "10.0.0.0/24", "SUBNET": "10.0.1.0/24"`), []string{"ipam.SUBNET: is there twice"}},
		{"IPv4-mapped", ipam(`"subnet": "10.0.0.0/24", "rangeStart": "::ffff:10.0.0.9"`),
			[]string{`ipam.rangeStart: "::ffff:10.0.0.9" cannot be parsed`}},
		{"all of it", ipam(`"subnet": "10.0.0/24", "routes": [{"gw": "x"}, {"dst": "0.0.0.0/0", "mtu": -1}], "dataDir": 5`),
			[]string{"ipam.routes[0].dst: is missing", `ipam.routes[0].gw: "x"`, `ipam.routes[1].mtu: "-1" is out of range`,
				`ipam.dataDir: "5" is a number`, `ipam.subnet: "10.0.0/24" cannot be parsed`}},
		{"wanted addresses", strings.TrimSuffix(ipam(`"subnet": "10.0.0.0/24"`), "}") +
			`, "args": {"cni": {"ips": [5, "x/y"]}}, "runtimeConfig": 5}`,
			[]string{`args.cni.ips[0]: "5" is a number`, `args.cni.ips[1]: "x/y" cannot be parsed`,
				`runtimeConfig: "5" is a number`}},
		{"no ipam", `{"type": "bridge"}`, []string{"ipam: is missing"}},
		{"no plugin with ipam", `{"plugins": [{"type": "tuning"}]}`, []string{"plugins: has no plugin with a section ipam"}},
		{"another kind", `{"kind": "Pod"}`, []string{`kind: "Pod" is no kind of network`}},
		{"nothing", "", []string{"the text has no content"}},
		{"no JSON", `{"ipam": {`, []string{"the text is not JSON"}},
		{"a list", `[]`, []string{"is a list, want fields with values"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := hostlocal.Parse([]byte(c.text))
			assert.Equal(t, hostlocal.Config{}, got)
			var messages []string
			for _, wrong := range config.FieldErrors(err) {
				messages = append(messages, wrong.Error())
			}
			text := strings.Join(messages, "\n")
			for _, want := range c.want {
				assert.Contains(t, text, want)
			}
			if !strings.HasPrefix(c.name, "wanted") {
				assert.Len(t, messages, len(c.want), text)
			}
		})
	}
}

// Configurations of other plugins are refused, not misread.
func TestOtherPlugins(t *testing.T) {
	files, err := filepath.Glob("../whereabouts/testdata/*")
	require.NoError(t, err)
	for _, file := range append(files, "testdata/static.json", "testdata/dhcp.json") {
		_, err := manifest.ReadFile(file, hostlocal.Read)
		require.ErrorContains(t, err, "ipam.ranges: there are no ranges", file)
	}
	assert.NotEmpty(t, files)
}
