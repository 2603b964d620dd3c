package config_test

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
)

const good = `
networks:
- name: office
  interface: eth0
  subnets:
  - subnet: 192.0.2.0/24
    pools: [192.0.2.10-192.0.2.99]
`

func TestDefaults(t *testing.T) {
	c, err := config.Read([]byte(good))
	require.NoError(t, err)
	require.Equal(t, "file:///var/lib/dhcpalloc/leases.db", c.Store)
	require.Equal(t, 30*time.Second, c.Offer)
	require.Equal(t, 24*time.Hour, c.Quarantine)
	require.Equal(t, time.Hour, c.Sticky)
	require.Equal(t, 64, c.Quota)
	require.Equal(t, 4096, c.Busy)
	n := c.Networks[0]
	require.Equal(t, []time.Duration{12 * time.Hour, 12 * time.Hour, 12 * time.Hour},
		[]time.Duration{n.MinLease, n.Lease, n.MaxLease})
}

func TestExampleOfTheReadme(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(text)
	require.NotNil(t, example)
	c, err := config.Read(example[1])
	require.NoError(t, err)
	require.Len(t, c.Networks[0].Subnets, 2)
}

func TestWhatIsWrongIsNamed(t *testing.T) {
	with := func(line string) string { return good + "    " + line + "\n" }
	for _, test := range [][2]string{
		{"", "it is empty"},
		{good + "---\n{}\n", "more than one document"},
		{"stor: x\n" + good, `line 1: "stor" is no key of a config`},
		{with("dsn: [192.0.2.53]"), `line 8: "dsn" is no key of a subnet`},
		{"offer: soon\n" + good, "soon"},
		{"offer: 1ms\n" + good, "offer: 1ms is under a second"},
		{"duid: xyz\n" + good, `"xyz" is not 1 to 255 bytes`},
		{"busy: -1\n" + good, "busy: -1 is not positive"},
		{"networks: []", "networks: there is none"},
		{strings.Replace(good, "office", `""`, 1), "number 1 has no name"},
		{strings.Replace(good, "  interface: eth0\n", "", 1), "it has no interface, and is not relayed"},
		{strings.Replace(good, "192.0.2.0/24", "192.0.2.1/24", 1), "it has host bits, want 192.0.2.0/24"},
		{strings.Replace(good, "192.0.2.99]", "192.0.3.99]", 1), `pools: "192.0.2.10-192.0.3.99" is not in the subnet`},
		{strings.Replace(good, "192.0.2.99]", "192.0.2.9]", 1), "192.0.2.10-192.0.2.9"},
		{good + strings.Replace(good[10:], "eth0", "eth1", 1), `network "office": the name is used twice`},
		{good + strings.Replace(good[10:], "office", "lab", 1), `interface "eth0" is that of network "office" too`},
		{with("gateway: 192.0.3.1"), "gateway: 192.0.3.1 is not in the subnet"},
		{with(`dns: ["2001:db8::1"]`), "dns: 2001:db8::1 is not of the subnet's family"},
		{with("mtu: 60"), "mtu: 60 is under 68"},
		{with("routes: [{to: 10.0.0.1/8, via: 192.0.2.1}]"), "routes: to 10.0.0.1/8 via 192.0.2.1"},
		{with(`prefixes: [{prefix: "2001:db8::/48", length: 56}]`), "prefixes: of 2001:db8::/48"},
		{with("domain: a..b"), `domain: "a..b" is no domain name`},
		{with("reservations: [{address: 192.0.2.7}]"), "want one of hardware, clientID and duid"},
		{with("reservations: [{hardware: zz, address: 192.0.2.7}]"), `"zz" is no hardware address`},
		{with(`reservations: [{hardware: "02:00:00:00:00:01", address: 192.0.3.7}]`), "192.0.3.7 is not in the subnet"},
		{with(`reservations: [{duid: "0001", address: 192.0.2.7}]`), "DHCPv4 clients have a clientID"},
		{
			with(`reservations: [{clientID: "01", address: 192.0.2.7}, {clientID: "02", address: 192.0.2.7}]`),
			"reservations: 02: 192.0.2.7 is the gateway, excluded or reserved for another client",
		},
	} {
		_, err := config.Read([]byte(test[0]))
		require.ErrorIs(t, err, config.ErrInvalid, test[0])
		require.ErrorContains(t, err, test[1], test[0])
		require.NotContains(t, err.Error(), "config.", "no names of Go's types")
	}
}

// FuzzRead reads any text. It must not panic, and every error is ErrInvalid.
func FuzzRead(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"networks": [{"name": "a", "relayed": true, "subnets": [{"subnet": "2001:db8::/64"}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := config.Read(text)
		if err != nil {
			require.ErrorIs(t, err, config.ErrInvalid)
			return
		}
		require.NotEmpty(t, c.Networks)
	})
}
