package static_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/static"
	"github.com/ipalloc/ipalloc/pool"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// ipam is a configuration with the given fields in its section ipam, and more fields beside it.
func ipam(fields, beside string) string {
	return `{"cniVersion": "1.0.0", "name": "net", "type": "macvlan"` + beside + `, "ipam": {"type": "static", ` +
		fields + `}}`
}

func TestFixture(t *testing.T) {
	c, err := static.ReadFile("testdata/static.json")
	require.NoError(t, err)
	assert.Equal(t, []static.Address{{prefix("191.168.1.7/24"), addr("191.168.1.1")}}, c.Addresses)
	assert.Equal(t, []config.Route{{Destination: prefix("0.0.0.0/0"), Gateway: addr("191.168.1.1")}}, c.Routes)
	assert.Equal(t, config.DNS{
		Nameservers: []string{"191.168.1.1"}, Domain: "example.test", Search: []string{"example.test"}}, c.DNS)
	assert.Empty(t, c.Ignored)
}

// What a container asks for replaces the addresses of the configuration; CNI_ARGS add to them.
func TestAddresses(t *testing.T) {
	own := `"addresses": [{"address": "10.0.0.7/24", "gateway": "10.0.0.1"}, {"address": "2001:db8::7/64"}]`
	args := static.Args{
		Addresses: []netip.Prefix{prefix("10.0.1.8/24")}, Gateways: []netip.Addr{addr("10.0.1.1"), addr("2001:db8::1")}}
	for _, c := range []struct {
		name, text string
		args       static.Args
		want       []static.Address
	}{
		{"its own", ipam(own, ""), static.Args{}, []static.Address{
			{prefix("10.0.0.7/24"), addr("10.0.0.1")}, {prefix("2001:db8::7/64"), netip.Addr{}}}},
		{"with CNI_ARGS", ipam(own, ""), args, []static.Address{
			{prefix("10.0.0.7/24"), addr("10.0.0.1")}, {prefix("2001:db8::7/64"), addr("2001:db8::1")},
			{prefix("10.0.1.8/24"), addr("10.0.1.1")}}},
		{"only CNI_ARGS", ipam(`"routes": []`, ""), args, []static.Address{{prefix("10.0.1.8/24"), addr("10.0.1.1")}}},
		{"args", ipam(own, `, "args": {"cni": {"ips": ["10.0.0.9/16"]}}`), args, []static.Address{
			{prefix("10.0.0.9/16"), netip.Addr{}}}},
		{"the runtime", ipam(own, `, "args": {"cni": {"ips": ["10.0.0.9/16"]}}, "runtimeConfig": {"ips": ["::9/64"]}`),
			args, []static.Address{{prefix("::9/64"), netip.Addr{}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := static.ParseWith([]byte(c.text), c.args)
			require.NoError(t, err)
			assert.Equal(t, c.want, got.Addresses)
		})
	}
}

// A pool records who has an address: the second who wants it gets an error.
func TestClaims(t *testing.T) {
	c, err := static.Parse([]byte(ipam(`"addresses": [{"address": "2001:db8::7/64"}, {"address": "10.0.0.0/24"}]`, "")))
	require.NoError(t, err)
	p, err := pool.New(c.Spec(), nil)
	require.NoError(t, err)
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: c.Requests()})
	require.NoError(t, err)
	assert.Equal(t, []netip.Addr{addr("2001:db8::7"), addr("10.0.0.0")}, a.Addrs())
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "b", Requests: c.Requests()})
	assert.ErrorIs(t, err, pool.ErrTaken)
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"none", ipam(`"routes": []`, ""), "ipam.addresses: there are no addresses"},
		{"no length", ipam(`"addresses": [{"address": "10.0.0.7"}]`, ""), `ipam.addresses[0].address: "10.0.0.7" cannot`},
		{"no address", ipam(`"addresses": [{"gateway": "10.0.0.7"}]`, ""), "ipam.addresses[0].address: is missing"},
		{"no length in args", ipam(`"addresses": []`, `, "args": {"cni": {"ips": ["10.0.0.7"]}}`),
			`args.cni.ips[0]: "10.0.0.7" has no length`},
		{"twice", ipam(`"addresses": [{"address": "10.0.0.7/24"}, {"address": "10.0.0.7/16"}]`, ""),
			"ipam.addresses[1].address: \"10.0.0.7/16\" has 10.0.0.7, which is there twice"},
		{"its gateway", ipam(`"addresses": [{"address": "10.0.0.7/24", "gateway": "10.0.0.7"}]`, ""),
			"which is its own gateway"},
		{"gateway", ipam(`"addresses": [{"address": "10.0.0.7/24", "gateway": "10.0.0"}]`, ""),
			`ipam.addresses[0].gateway: "10.0.0" cannot be parsed`},
		{"families", ipam(`"addresses": [{"address": "10.0.0.7/24", "gateway": "::1"}]`, ""),
			`ipam.addresses[0].gateway: "::1" is IPv6, but its address is IPv4`},
		{"old version", `{"cniVersion": "0.2.0", "ipam": {"addresses": [{"address": "10.0.0.7/24"},
			{"address": "10.0.0.8/24"}]}}`, "ipam.addresses: has several addresses of one family"},
		{"no ipam", `{"type": "bridge"}`, "ipam: is missing"},
		{"no JSON", `{"ipam": {`, "the text is not JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := static.Parse([]byte(c.text))
			require.ErrorContains(t, err, c.want)
			assert.Equal(t, static.Config{}, got)
			assert.Len(t, config.FieldErrors(err), 1)
		})
	}
}

// FuzzParse checks that an accepted configuration makes a pool that has its addresses, and that a refused one has
// reasons.
func FuzzParse(f *testing.F) {
	f.Add([]byte(ipam(`"addresses": [{"address": "10.0.0.7/24", "gateway": "10.0.0.1"}]`, "")))
	f.Add([]byte(ipam(`"addresses": []`, `, "args": {"cni": {"ips": ["10.0.0.7/24", "::7/64"]}}`)))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := static.Parse(data)
		if err != nil {
			if len(config.FieldErrors(err)) == 0 || strings.TrimSpace(err.Error()) == "" {
				t.Errorf("the error has no field errors: %v", err)
			}
			return
		}
		p, err := pool.New(c.Spec(), nil)
		if err != nil {
			t.Fatalf("no pool can be made: %v", err)
		}
		if len(c.Addresses) > pool.MaxRequests {
			return
		}
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Requests: c.Requests()})
		if err != nil || len(a.Prefixes) != len(c.Addresses) {
			t.Fatalf("%d addresses, granted %v, error %v", len(c.Addresses), a.Prefixes, err)
		}
	})
}
