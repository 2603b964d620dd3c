package clusterapi_test

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const fixtures = "testdata"

// v1alpha2 is a pool with the given lines in its spec.
func v1alpha2(spec ...string) string { return document("v1alpha2", spec) }

// v1alpha1 is a pool with the given lines in its spec.
func v1alpha1(spec ...string) string { return document("v1alpha1", spec) }

func document(version string, spec []string) string {
	return "apiVersion: ipam.cluster.x-k8s.io/" + version + "\nkind: InClusterIPPool\nmetadata: {name: blue}\nspec:\n  " +
		strings.Join(spec, "\n  ") + "\n"
}

// handedOut is the text of what a pool hands out.
func handedOut(spec pool.Spec) string {
	return strings.Join(cidr.FormatSet(spec.Set(spec.AllFamilies()[0])), " ")
}

// one is the one pool in the text.
func one(t *testing.T, yaml string) clusterapi.Pool {
	t.Helper()
	pools, err := clusterapi.Parse([]byte(yaml))
	require.NoError(t, err)
	require.Len(t, pools, 1)
	_, err = pool.Create(t.Context(), store.NewMemory(), "made", pools[0].Spec, nil)
	require.NoError(t, err)
	return pools[0]
}

func TestFixtures(t *testing.T) {
	const v1alpha2Set = "10.10.10.2-10.10.10.100 10.10.10.102 10.10.10.104"
	for _, c := range []struct{ file, kind, name, set, free string }{
		{"inclusterippool-v1alpha1.yaml", clusterapi.KindNamespaced, "default/inclusterippool",
			"10.10.10.200-10.10.10.250", "51"},
		{"inclusterippool-v1alpha2.yaml", clusterapi.KindNamespaced, "default/inclusterippool", v1alpha2Set, "101"},
		{"globalinclusterippool-v1alpha2.yaml", clusterapi.KindGlobal, "inclusterippool", v1alpha2Set, "101"},
	} {
		t.Run(c.file, func(t *testing.T) {
			pools, err := clusterapi.ReadFile(filepath.Join(fixtures, c.file))
			require.NoError(t, err)
			require.Len(t, pools, 1)
			p := pools[0]
			assert.Equal(t, c.kind, p.Kind)
			assert.Equal(t, c.name, p.StoreName())
			assert.Equal(t, []pool.Family{pool.IPv4}, p.Spec.AllFamilies())
			assert.Equal(t, c.set, handedOut(p.Spec))
			assert.Equal(t, c.free, cidr.Size(p.Spec.Set(pool.IPv4)).String())
			assert.Equal(t, []pool.Subnet{{
				Prefix:  netip.MustParsePrefix("10.10.10.0/24"),
				Gateway: netip.MustParseAddr("10.10.10.1"),
			}}, p.Spec.Subnets)
		})
	}
}

func TestV1alpha2Sets(t *testing.T) {
	for _, c := range []struct {
		name string
		spec []string
		want string
	}{
		{"network, broadcast and gateway are kept back",
			[]string{"addresses: [10.0.0.0/29]", "prefix: 29", "gateway: 10.0.0.1"}, "10.0.0.2-10.0.0.6"},
		{"reserved addresses on request, never the gateway",
			[]string{"addresses: [10.0.0.0/29]", "prefix: 29", "gateway: 10.0.0.1", "allocateReservedIPAddresses: true"},
			"10.0.0.0 10.0.0.2-10.0.0.7"},
		{"the broadcast address is that of the subnet", []string{"addresses: [10.0.0.0/29]", "prefix: 24"},
			"10.0.0.1-10.0.0.7"},
		{"exclusions of all forms",
			[]string{"addresses: [10.0.0.10-10.0.0.30]", "prefix: 24",
				"excludedAddresses: [10.0.0.10, 10.0.0.16/30, 10.0.0.28-10.0.0.99]"},
			"10.0.0.11-10.0.0.15 10.0.0.20-10.0.0.27"},
		{"host bits are masked", []string{"addresses: [10.0.0.77/28]", "prefix: 24"}, "10.0.0.64/28"},
		{"overlapping, unsorted", []string{"addresses: [10.0.0.20, 10.0.0.10-10.0.0.19, 10.0.0.15-10.0.0.18]", "prefix: 24"},
			"10.0.0.10-10.0.0.20"},
		{"anycast of IPv6", []string{"addresses: ['2001:db8::/126']", "prefix: 126"}, "2001:db8::1-2001:db8::3"},
		{"a large IPv6 subnet", []string{"addresses: ['2001:db8::/64']", "prefix: 64", "gateway: '2001:db8::1'"},
			"2001:db8::2-2001:db8::ffff:ffff:ffff:ffff"},
		{"a /31 reserves nothing", []string{"addresses: [10.0.0.0/31]", "prefix: 31"}, "10.0.0.0/31"},
		{"a /127 reserves nothing", []string{"addresses: ['2001:db8::/127']", "prefix: 127"}, "2001:db8::/127"},
		{"a /32", []string{"addresses: [10.0.0.9]", "prefix: 32"}, "10.0.0.9"},
		{"prefix 1", []string{"addresses: [10.0.0.9, 100.64.2.1]", "prefix: 1"}, "10.0.0.9 100.64.2.1"},
		{"a gateway outside of the subnet", []string{"addresses: [10.0.0.9]", "prefix: 24", "gateway: 10.0.1.1"}, "10.0.0.9"},
		{"a gateway that is reserved", []string{"addresses: [10.0.0.0/29]", "prefix: 29", "gateway: 10.0.0.0"},
			"10.0.0.1-10.0.0.6"},
		{"a length in hexadecimal", []string{"addresses: [10.0.0.9]", "prefix: 0x18"}, "10.0.0.9"},
		{"a grace period of 0, an empty gateway and null", []string{"addresses: [10.0.0.9]", "prefix: 24", "gateway: ''",
			"addressReuseGracePeriodSeconds: 0", "excludedAddresses:"}, "10.0.0.9"},
		{"anchors", []string{"addresses: [&a 10.0.0.9, 10.0.0.10]", "prefix: 24", "gateway: *a"}, "10.0.0.10"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := one(t, v1alpha2(c.spec...))
			assert.Equal(t, c.want, handedOut(p.Spec))
			assert.Equal(t, "default/blue", p.StoreName())
		})
	}
}

func TestV1alpha1Sets(t *testing.T) {
	for _, c := range []struct {
		name string
		spec []string
		want string
	}{
		{"start and end", []string{"subnet: 10.0.0.0/24", "start: 10.0.0.10", "end: 10.0.0.20"}, "10.0.0.10-10.0.0.20"},
		{"start only", []string{"subnet: 10.0.0.0/24", "start: 10.0.0.10"}, "10.0.0.10-10.0.0.254"},
		{"end only", []string{"subnet: 10.0.0.0/24", "end: 10.0.0.20"}, "10.0.0.1-10.0.0.20"},
		{"neither", []string{"subnet: 10.0.0.0/24"}, "10.0.0.1-10.0.0.254"},
		{"neither, IPv6", []string{"subnet: '2001:db8::/125'"}, "2001:db8::1-2001:db8::6"},
		{"end of IPv6", []string{"subnet: '2001:db8::/125'", "end: '2001:db8::7'"}, "2001:db8::1-2001:db8::7"},
		{"host bits", []string{"subnet: 10.0.0.77/30"}, "10.0.0.77-10.0.0.78"},
		{"/30 with its gateway", []string{"subnet: 10.0.0.0/30", "gateway: 10.0.0.1"}, "10.0.0.2"},
		{"/31", []string{"subnet: 10.0.0.0/31"}, "10.0.0.0/31"},
		{"/31 with its gateway", []string{"subnet: 10.0.0.0/31", "gateway: 10.0.0.0"}, "10.0.0.1"},
		{"/31 start only", []string{"subnet: 10.0.0.0/31", "start: 10.0.0.1"}, "10.0.0.1"},
		{"/31 end only", []string{"subnet: 10.0.0.0/31", "end: 10.0.0.0"}, "10.0.0.0"},
		{"/32", []string{"subnet: 10.0.0.9/32"}, "10.0.0.9"},
		{"/32 start only", []string{"subnet: 10.0.0.9/32", "start: 10.0.0.9"}, "10.0.0.9"},
		{"/127", []string{"subnet: '2001:db8::/127'"}, "2001:db8::/127"},
		{"/127 start only", []string{"subnet: '2001:db8::/127'", "start: '2001:db8::1'"}, "2001:db8::1"},
		{"/128", []string{"subnet: '2001:db8::9/128'"}, "2001:db8::9"},
		{"the same prefix beside", []string{"subnet: 10.0.0.0/24", "prefix: 24"}, "10.0.0.1-10.0.0.254"},
		{"addresses", []string{"addresses: [10.0.0.9, 10.0.0.16/30]", "prefix: 24"}, "10.0.0.9 10.0.0.16/30"},
		{"addresses and a subnet", []string{"addresses: [10.0.0.9]", "subnet: 10.0.0.32/30", "prefix: 24"},
			"10.0.0.9 10.0.0.33-10.0.0.34"},
		{"addresses and bounds", []string{"addresses: [10.0.0.9]", "start: 10.0.0.7", "end: 10.0.0.8", "prefix: 24"},
			"10.0.0.7-10.0.0.9"},
		{"addresses and a start that means nothing", []string{"addresses: [10.0.0.9]", "start: 10.0.0.7", "prefix: 24"},
			"10.0.0.9"},
		{"another prefix", []string{"subnet: 10.0.0.0/24", "prefix: 16"}, "10.0.0.1-10.0.0.254"},
		{"prefix 0 is that of the subnet", []string{"subnet: 10.0.0.0/30", "prefix: 0"}, "10.0.0.1-10.0.0.2"},
		{"bounds outside of the subnet", []string{"subnet: 10.0.0.0/24", "start: 10.0.7.250", "end: 10.0.7.255"},
			"10.0.7.250-10.0.7.254"},
		{"a gateway outside of the subnet", []string{"subnet: 10.0.0.0/30", "gateway: 192.0.2.1"}, "10.0.0.1-10.0.0.2"},
		{"no subnet", []string{"start: 10.0.0.10", "end: 10.0.0.20", "prefix: 24"}, "10.0.0.10-10.0.0.20"},
		{"a start that is reserved", []string{"subnet: 10.0.0.0/24", "start: 10.0.0.0", "end: 10.0.0.20"},
			"10.0.0.1-10.0.0.20"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := one(t, v1alpha1(c.spec...))
			assert.Equal(t, c.want, handedOut(p.Spec))
		})
	}
}

func TestSpecRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		yaml string
		want []string // parts of the message
	}{
		{"no addresses", v1alpha2("prefix: 24"), []string{"spec.addresses: there are no addresses", "192.0.2.10-192.0.2.20"}},
		{"empty addresses", v1alpha2("addresses: []", "prefix: 24"), []string{"spec.addresses: there are no addresses"}},
		{"no spec", "apiVersion: ipam.cluster.x-k8s.io/v1alpha2\nkind: InClusterIPPool\nmetadata: {name: blue}\n",
			[]string{"spec: is missing"}},
		{"unparsable", v1alpha2("addresses: [10.0.0.1, 10.0.0.300]", "prefix: 24"),
			[]string{`spec.addresses[1]: "10.0.0.300" cannot be parsed: `, "want"}},
		{"reversed", v1alpha2("addresses: [10.0.0.9-10.0.0.1]", "prefix: 24"),
			[]string{`spec.addresses[0]: "10.0.0.9-10.0.0.1" cannot be parsed`}},
		{"range with a length", v1alpha2("addresses: [10.0.0.1-10.0.0.9/24]", "prefix: 24"),
			[]string{`spec.addresses[0]: "10.0.0.1-10.0.0.9/24" is a range with a length`}},
		{"null address", v1alpha2("addresses: [null]", "prefix: 24"),
			[]string{`spec.addresses[0]: "null" is null`, "want a text"}},
		{"number for an address", v1alpha2("addresses: [10.1]", "prefix: 24"),
			[]string{`spec.addresses[0]: "10.1" is a number`, "want a text"}},
		{"addresses are no list", v1alpha2("addresses: 10.0.0.1", "prefix: 24"),
			[]string{`spec.addresses: "10.0.0.1" is a text`, "want a list"}},
		{"unparsable exclusion", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "excludedAddresses: [x]"),
			[]string{`spec.excludedAddresses[0]: "x" cannot be parsed`}},
		{"unparsable gateway", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "gateway: 10.0.0"),
			[]string{`spec.gateway: "10.0.0" cannot be parsed`}},
		{"gateway with a length", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "gateway: 10.0.0.1/24"),
			[]string{`spec.gateway: "10.0.0.1/24" cannot be parsed`}},
		{"mixed addresses", v1alpha2("addresses: [10.0.0.1, '2001:db8::1']", "prefix: 24"),
			[]string{`spec.addresses[1]: "2001:db8::1" is IPv6, but the pool is IPv4`}},
		{"mixed gateway", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "gateway: '2001:db8::1'"),
			[]string{`spec.gateway: "2001:db8::1" is IPv6, but the pool is IPv4`}},
		{"mixed exclusion", v1alpha2("addresses: ['2001:db8::1']", "prefix: 64",
			"excludedAddresses: ['2001:db8::2', 10.0.0.1]"),
			[]string{`spec.excludedAddresses[1]: "10.0.0.1" is IPv4, but the pool is IPv6`}},
		{"no prefix", v1alpha2("addresses: [10.0.0.1]"), []string{"spec.prefix: is missing", "want a whole number"}},
		{"negative prefix", v1alpha2("addresses: [10.0.0.1]", "prefix: -1"),
			[]string{`spec.prefix: "-1" is out of range, want 1 to 32`}},
		{"prefix 0", v1alpha2("addresses: [10.0.0.1]", "prefix: 0"),
			[]string{`spec.prefix: "0" is out of range, want 1 to 32`}},
		{"long IPv4 prefix", v1alpha2("addresses: [10.0.0.1]", "prefix: 33"),
			[]string{`spec.prefix: "33" is out of range, want 1 to 32`}},
		{"long IPv6 prefix", v1alpha2("addresses: ['2001:db8::1']", "prefix: 129"),
			[]string{`spec.prefix: "129" is out of range, want 1 to 128`}},
		{"enormous prefix", v1alpha2("addresses: [10.0.0.1]", "prefix: 99999999999999999999"),
			[]string{`spec.prefix: "99999999999999999999" is out of range`}},
		{"broken prefix", v1alpha2("addresses: [10.0.0.1]", "prefix: 24.5"),
			[]string{`spec.prefix: "24.5" is not a whole number`}},
		{"quoted prefix", v1alpha2("addresses: [10.0.0.1]", "prefix: '24'"),
			[]string{`spec.prefix: "24" is a text, want a whole number without quotes`}},
		{"another subnet", v1alpha2("addresses: [10.0.0.1, 10.0.1.1]", "prefix: 24"),
			[]string{`spec.addresses[1]: "10.0.1.1" is not in the subnet of the first address, 10.0.0.0/24`}},
		{"partly in another subnet", v1alpha2("addresses: [10.0.0.250-10.0.1.5]", "prefix: 24"),
			[]string{`spec.addresses[0]: "10.0.0.250-10.0.1.5" is not in the subnet`}},
		{"negative grace period", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "addressReuseGracePeriodSeconds: -5"),
			[]string{`spec.addressReuseGracePeriodSeconds: "-5" is out of range, want 0 to 2147483647 seconds`}},
		{"long grace period", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "addressReuseGracePeriodSeconds: 2147483648"),
			[]string{`spec.addressReuseGracePeriodSeconds: "2147483648" is out of range`}},
		{"quoted boolean", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "allocateReservedIPAddresses: 'true'"),
			[]string{`spec.allocateReservedIPAddresses: "true" is a text, want true or false, without quotes`}},
		{"unknown field", v1alpha2("addresses: [10.0.0.1]", "prefx: 24"),
			[]string{"spec.prefx: is not a known field, want one of addresses, prefix, "}},
		{"field of the other version", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "subnet: 10.0.0.0/24"),
			[]string{"spec.subnet: is not a known field"}},
		{"field twice", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "prefix: 25"),
			[]string{"spec.prefix: is there twice"}},
		{"nothing left", v1alpha2("addresses: [10.0.0.1]", "prefix: 24", "gateway: 10.0.0.1"),
			[]string{"spec.addresses: leaves nothing to hand out"}},
		{"all excluded", v1alpha2("addresses: [10.0.0.1-10.0.0.9]", "prefix: 24", "excludedAddresses: [10.0.0.0/24]"),
			[]string{"spec.addresses: leaves nothing to hand out"}},

		{"v1alpha1: no addresses", v1alpha1("gateway: 10.0.0.1"),
			[]string{"spec.subnet: there are no addresses", "192.0.2.0/24"}},
		{"v1alpha1: unparsable subnet", v1alpha1("subnet: 10.0.0.0"), []string{`spec.subnet: "10.0.0.0" cannot be parsed`}},
		{"v1alpha1: long subnet", v1alpha1("subnet: 10.0.0.0/33"), []string{`spec.subnet: "10.0.0.0/33" cannot be parsed`}},
		{"v1alpha1: unparsable start", v1alpha1("subnet: 10.0.0.0/24", "start: 10"),
			[]string{`spec.start: "10" is a number, want a text`}},
		{"v1alpha1: unparsable end", v1alpha1("subnet: 10.0.0.0/24", "end: x"), []string{`spec.end: "x" cannot be parsed`}},
		{"v1alpha1: end outside of the length", v1alpha1("subnet: 10.0.0.0/24", "end: 10.0.1.1"),
			[]string{`spec.end: "10.0.1.1" is not in the subnet of the first address, 10.0.0.0/24`}},
		{"v1alpha1: start alone", v1alpha1("start: 10.0.0.1", "prefix: 24"), []string{"spec.subnet: there are no addresses"}},
		{"v1alpha1: no prefix", v1alpha1("start: 10.0.0.1", "end: 10.0.0.2"), []string{"spec.prefix: is missing"}},
		{"v1alpha1: subnet of length 0", v1alpha1("subnet: 0.0.0.0/0"),
			[]string{`spec.subnet: "0.0.0.0/0" has a length that is out of range, want 1 to 32`}},
		{"v1alpha1: reversed", v1alpha1("subnet: 10.0.0.0/24", "start: 10.0.0.9", "end: 10.0.0.1"),
			[]string{`spec.start: "10.0.0.9" makes the range 10.0.0.9-10.0.0.1, which is empty`}},
		{"v1alpha1: start after the last usable address", v1alpha1("subnet: 10.0.0.0/24", "start: 10.0.0.255"),
			[]string{`spec.start: "10.0.0.255" makes the range 10.0.0.255-10.0.0.254, which is empty`}},
		{"v1alpha1: end before the first usable address", v1alpha1("subnet: 10.0.0.0/24", "end: 10.0.0.0"),
			[]string{`spec.end: "10.0.0.0" makes the range 10.0.0.1-10.0.0.0, which is empty`}},
		{"v1alpha1: mixed start", v1alpha1("subnet: 10.0.0.0/24", "start: '2001:db8::1'"),
			[]string{`spec.start: "2001:db8::1" makes the range 2001:db8::1-10.0.0.254, of two families`}},
		{"v1alpha1: mixed gateway", v1alpha1("subnet: 10.0.0.0/24", "gateway: '2001:db8::1'"),
			[]string{`spec.gateway: "2001:db8::1" is IPv6, but the pool is IPv4`}},
		{"v1alpha1: longer prefix", v1alpha1("subnet: 10.0.0.0/24", "prefix: 25"),
			[]string{`spec.subnet: "10.0.0.0/24" is not in the subnet of the first address, 10.0.0.0/25`}},
		{"v1alpha1: bad prefix", v1alpha1("start: 10.0.0.1", "end: 10.0.0.9", "prefix: 33"),
			[]string{`spec.prefix: "33" is out of range`}},
		{"v1alpha1: nothing left", v1alpha1("subnet: 10.0.0.9/32", "gateway: 10.0.0.9"),
			[]string{`spec.subnet: "10.0.0.9/32" leaves nothing to hand out`}},
		{"v1alpha1: field of the other version", v1alpha1("subnet: 10.0.0.0/24", "excludedAddresses: []"),
			[]string{"spec.excludedAddresses: is not a known field, want one of addresses, subnet, start, end, prefix, gat"}},
	} {
		t.Run(c.name, func(t *testing.T) { assertRefused(t, c.yaml, c.want) })
	}
}

func TestDocumentRefused(t *testing.T) {
	good := v1alpha2("addresses: [10.0.0.1]", "prefix: 24")
	named := func(metadata string) string { return strings.Replace(good, "{name: blue}", metadata, 1) }
	for _, c := range []struct {
		name string
		yaml string
		want []string
	}{
		{"unknown kind", strings.Replace(good, "InClusterIPPool", "Deployment", 1),
			[]string{`kind: "Deployment" is no kind of pool, want InClusterIPPool, GlobalInClusterIPPool, InCluster`}},
		{"no kind", strings.Replace(good, "kind: InClusterIPPool", "", 1),
			[]string{"kind: is missing, want a text"}},
		{"unknown version", strings.Replace(good, "v1alpha2", "v1beta1", 1),
			[]string{`apiVersion: "ipam.cluster.x-k8s.io/v1beta1" is not known, want ipam.cluster.x-k8s.io/v1alpha2 or`}},
		{"unknown group", strings.Replace(good, "ipam.cluster", "cluster", 1),
			[]string{`apiVersion: "cluster.x-k8s.io/v1alpha2" is not known`}},
		{"no version", strings.Replace(good, "apiVersion", "apiversion", 1), []string{"apiVersion: is missing"}},
		{"unknown top field", good + "sepc: 1\n", []string{"sepc: is not a known field"}},
		{"no metadata", named(""), []string{"metadata: is missing"}},
		{"no name", named("{namespace: blue}"), []string{"metadata.name: is missing"}},
		{"bad name", named("{name: Blue/green}"), []string{`metadata.name: "Blue/green" is not a Kubernetes name`}},
		{"long name", named("{name: " + strings.Repeat("a", 254) + "}"),
			[]string{"metadata.name: ", "is not a Kubernetes name"}},
		{"bad namespace", named("{name: blue, namespace: a.b}"),
			[]string{`metadata.namespace: "a.b" is not a Kubernetes namespace`}},
		{"number as a name", named("{name: 12}"), []string{`metadata.name: "12" is a number`}},
		{"unknown metadata", named("{name: blue, label: {}}"), []string{"metadata.label: is not a known field"}},
		{"global with a namespace",
			strings.Replace(named("{name: blue, namespace: green}"), "InCluster", "GlobalInCluster", 1),
			[]string{`metadata.namespace: "green" is a namespace, but a GlobalInClusterIPPool is in none`}},
		{"a pool twice", good + "---\n" + good,
			[]string{"metadata: is that of a pool that is there twice, InClusterIPPool default/blue, want each pool once"}},
		{"an empty list", "{kind: List, items: []}", []string{"the list has no items"}},
		{"a list in a list", "{kind: List, items: [{apiVersion: v1, kind: List, items: []}]}",
			[]string{`items[0].kind: "List" is no kind of pool`}},
		{"prefix pool of v1alpha1", strings.Replace(strings.Replace(good, "InClusterIPPool", "InClusterPrefixPool", 1),
			"v1alpha2", "v1alpha1", 1), []string{`apiVersion: "ipam.cluster.x-k8s.io/v1alpha1" does not have this kind`}},
		{"nothing", "", []string{"the text has no content"}},
		{"only separators", "---\n---\n# nothing\n", []string{"the text has no content"}},
		{"a text", "hello", []string{`"hello" is a text, want fields with values`}},
		{"a list", "- hello", []string{"is a list, want fields with values"}},
		{"no YAML", "a: [", []string{"the text is not YAML: "}},
		{"binary", "\x00\x01\x02", []string{"the text is not YAML: "}},
		{"a tag with a control character", "!%00", []string{`"!\x00" is the tag of the value, want fields with values`}},
		{"alias in itself", "a: &a [*a]", []string{"the text is not read: an alias refers to a value that contains it"}},
		{"JSON", `{"kind": "a" "b"}`, []string{"the text is not JSON: "}},
		{"large", strings.Repeat("#", 1<<20+1), []string{"the text has 1048577 bytes, want at most 1048576"}},
		{"unknown anchor", "a: *b", []string{"the text is not YAML: "}},
	} {
		t.Run(c.name, func(t *testing.T) { assertRefused(t, c.yaml, c.want) })
	}
}

func assertRefused(t *testing.T, yaml string, want []string) {
	t.Helper()
	_, err := clusterapi.Parse([]byte(yaml))
	require.Error(t, err)
	for _, part := range want {
		require.ErrorContains(t, err, part)
	}
}

func TestOtherDocumentsAreEmpty(t *testing.T) {
	good := v1alpha2("addresses: [10.0.0.1]", "prefix: 24")
	for _, yaml := range []string{"---\n" + good, "---\n---\n" + good + "---\n", "# a pool\n---\n" + good + "...\n"} {
		_, err := clusterapi.Parse([]byte(yaml))
		assert.NoError(t, err, yaml)
	}
}

func TestObjectAsKubernetesShowsIt(t *testing.T) {
	p := one(t, `apiVersion: ipam.cluster.x-k8s.io/v1alpha2
kind: InClusterIPPool
metadata:
  annotations: {note: hello}
  creationTimestamp: "2024-05-01T10:00:00Z"
  finalizers: [ipam.cluster.x-k8s.io/ProtectPool]
  generation: 3
  labels: {rack: "1"}
  managedFields: [{manager: kubectl}]
  name: blue
  namespace: green
  ownerReferences: [{name: cluster}]
  resourceVersion: "77"
  uid: 6f1c
spec:
  addresses: [10.0.0.1]
  prefix: 24
status:
  ipAddresses: {free: 1, outOfRange: 0, total: 1, used: 0}
`)
	assert.Equal(t, "green/blue", p.StoreName())
}

func TestSamePoolSameSpec(t *testing.T) {
	whole := one(t, v1alpha2("addresses: [10.0.0.0/24]", "prefix: 24", "excludedAddresses: [10.0.0.3-10.0.0.4]"))
	pieces := one(t, v1alpha2("excludedAddresses: [10.0.0.4, 10.0.0.3]", "prefix: 24",
		"addresses: [10.0.0.128-10.0.0.255, 10.0.0.0-10.0.0.130]"))
	assert.Equal(t, whole.Spec, pieces.Spec)
}

func TestNamesDoNotCollide(t *testing.T) {
	names := map[string]bool{}
	for _, kind := range []string{clusterapi.KindNamespaced, clusterapi.KindPrefix} {
		names[clusterapi.Pool{Kind: kind, Namespace: "a", Name: "b"}.StoreName()] = true
	}
	for _, kind := range []string{clusterapi.KindGlobal, clusterapi.KindGlobalPrefix} {
		names[clusterapi.Pool{Kind: kind, Name: "b"}.StoreName()] = true
	}
	assert.Equal(t, map[string]bool{"a/b": true, "b": true, "prefixes:a/b": true, "prefixes:b": true}, names)
}

func TestWhatGoesWithAddresses(t *testing.T) {
	p := one(t, v1alpha2("addresses: [10.0.0.9]", "prefix: 24", "gateway: 10.0.1.1", "addressReuseGracePeriodSeconds: 60"))
	assert.Equal(t, time.Minute, p.Spec.Cooldown)
	assert.Equal(t, netip.MustParseAddr("10.0.1.1"), p.Gateway)
	assert.Equal(t, []pool.Subnet{{Prefix: netip.MustParsePrefix("10.0.0.0/24")}}, p.Spec.Subnets)
	assert.Equal(t, 24, p.Prefix)

	p = one(t, v1alpha1("subnet: 10.0.0.0/24", "prefix: 16", "gateway: 10.0.1.1"))
	assert.Equal(t, 16, p.Prefix)
	subnet := pool.Subnet{Prefix: netip.MustParsePrefix("10.0.0.0/16"), Gateway: netip.MustParseAddr("10.0.1.1")}
	assert.Equal(t, []pool.Subnet{subnet}, p.Spec.Subnets)
}

func TestPrefixPools(t *testing.T) {
	for _, c := range []struct {
		name   string
		spec   []string
		first  []string // what the first claims get
		prefix int
	}{
		{"the default length", []string{"prefixes: ['2001:db8::/62']"}, []string{"2001:db8::/64", "2001:db8:0:1::/64"}, 64},
		{"another length", []string{"prefixes: ['2001:db8::/48']", "allocationPrefixLength: 56"},
			[]string{"2001:db8::/56", "2001:db8:0:100::/56"}, 56},
		{"the gateway blocks nothing", []string{"prefixes: ['2001:db8::/63']", "gateway: '2001:db8::1'"},
			[]string{"2001:db8::/64"}, 64},
		{"exclusions block",
			[]string{"prefixes: ['2001:db8::/62']", "excludedPrefixes: ['2001:db8::1', '2001:db8:0:2::/64']"},
			[]string{"2001:db8:0:1::/64", "2001:db8:0:3::/64"}, 64},
		{"neighbours are one", []string{"prefixes: ['2001:db8::/64', '2001:db8:0:1::/64']", "allocationPrefixLength: 64"},
			[]string{"2001:db8::/64", "2001:db8:0:1::/64"}, 64},
		{"single addresses", []string{"prefixes: ['2001:db8::/126']", "allocationPrefixLength: 128"},
			[]string{"2001:db8::/128"}, 128},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := one(t, strings.Replace(v1alpha2(c.spec...), "InClusterIPPool", clusterapi.KindGlobalPrefix, 1))
			assert.Equal(t, "prefixes:blue", p.StoreName())
			assert.Equal(t, c.prefix, p.Prefix)
			made, err := pool.New(p.Spec, nil)
			require.NoError(t, err)
			for i, want := range c.first {
				a, err := made.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("node-", i)})
				require.NoError(t, err)
				assert.Equal(t, []netip.Prefix{netip.MustParsePrefix(want)}, a.Prefixes)
			}
		})
	}
}

func TestPrefixPoolRefused(t *testing.T) {
	for _, c := range []struct {
		name string
		spec []string
		want string
	}{
		{"no prefixes", []string{"gateway: '2001:db8::1'"}, "spec.prefixes: there are no prefixes, want at least one"},
		{"IPv4", []string{"prefixes: [10.0.0.0/8]", "allocationPrefixLength: 24"},
			`spec.prefixes[0]: "10.0.0.0/8" is IPv4, but the pool is IPv6`},
		{"host bits", []string{"prefixes: ['2001:db8::1/48']"}, "spec.prefixes[0]: \"2001:db8::1/48\" cannot be parsed: "},
		{"too small", []string{"prefixes: ['2001:db8::/65']"},
			`spec.prefixes[0]: "2001:db8::/65" is smaller than the prefixes to hand out, of length 64`},
		{"length", []string{"prefixes: ['2001:db8::/48']", "allocationPrefixLength: 129"},
			`spec.allocationPrefixLength: "129" is out of range, want 1 to 128`},
		{"IPv4 gateway", []string{"prefixes: ['2001:db8::/48']", "gateway: 10.0.0.1"},
			`spec.gateway: "10.0.0.1" is IPv4, but the pool is IPv6`},
		{"IPv4 exclusion", []string{"prefixes: ['2001:db8::/48']", "excludedPrefixes: [10.0.0.1]"},
			`spec.excludedPrefixes[0]: "10.0.0.1" is IPv4, but the pool is IPv6`},
		{"field of the other kind", []string{"prefixes: ['2001:db8::/48']", "prefix: 64"},
			"spec.prefix: is not a known field"},
		{"nothing left", []string{"prefixes: ['2001:db8::/64']", "excludedPrefixes: ['2001:db8::1']"},
			"spec.prefixes: does not make a pool: no IPv6 prefix of length 64 fits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			assertRefused(t, strings.Replace(v1alpha2(c.spec...), "InClusterIPPool", clusterapi.KindPrefix, 1), []string{c.want})
		})
	}
}

func TestSeveralPools(t *testing.T) {
	red := strings.Replace(v1alpha2("addresses: [10.0.0.1]", "prefix: 24"), "blue", "red", 1)
	stream := red + "---\n" + v1alpha1("subnet: 10.1.0.0/24")
	list := `{"apiVersion": "v1", "kind": "List", "items": [` +
		asJSON("red", "v1alpha2", `"addresses": ["10.0.0.1"], "prefix": 24`) + ",\n\t" +
		asJSON("blue", "v1alpha1", `"subnet": "10.1.0.0/24"`) + "]}"
	for _, text := range []string{stream, list} {
		pools, err := clusterapi.Parse([]byte(text))
		require.NoError(t, err)
		require.Len(t, pools, 2)
		assert.Equal(t, "default/red", pools[0].StoreName())
		assert.Equal(t, "default/blue", pools[1].StoreName())
		assert.Equal(t, "10.1.0.1-10.1.0.254", handedOut(pools[1].Spec))
	}
}

func asJSON(name, version, spec string) string {
	return fmt.Sprintf(`{"apiVersion": "ipam.cluster.x-k8s.io/%s", "kind": "InClusterIPPool",
		"metadata": {"name": %q}, "spec": {%s}}`, version, name, spec)
}

// Each error is reported, also those of another pool, and pools that would be right are not returned.
func TestAllErrors(t *testing.T) {
	first := v1alpha2("addresses: [10.0.0.300, '2001:db8::1', x]", "prefix: 33", "gateway: 10", "typo: 1",
		"addressReuseGracePeriodSeconds: -1")
	second := strings.Replace(v1alpha1("subnet: 10.0.0.0/31", "gateway: x"), "{name: blue}", "{name: B, namespace: C}", 1)
	good := v1alpha2("addresses: [10.0.0.1]", "prefix: 24")
	pools, err := clusterapi.Parse([]byte(first + "---\n" + second + "---\n" + good))
	assert.Empty(t, pools)
	var found []string
	for _, wrong := range config.FieldErrors(err) {
		found = append(found, fmt.Sprintf("%d %s", wrong.Line, wrong.Field))
	}
	assert.Equal(t, []string{
		"8 spec.typo", "9 spec.addressReuseGracePeriodSeconds", "5 spec.addresses[0]", "5 spec.addresses[2]",
		"7 spec.gateway", "13 metadata.namespace", "13 metadata.name", "16 spec.gateway",
	}, found)
	assert.Equal(t, len(found), strings.Count(err.Error(), "\n")+1)
}

func TestManyErrorsAreCut(t *testing.T) {
	_, err := clusterapi.Parse([]byte(v1alpha2("addresses: ["+strings.Repeat("x, ", 1000)+"x]", "prefix: 24")))
	assert.Len(t, config.FieldErrors(err), 101)
	assert.ErrorContains(t, err, "there are 901 more errors, which are not listed")
}

func TestCauses(t *testing.T) {
	_, err := clusterapi.Parse([]byte(v1alpha2("addresses: [10.0.0.01]", "prefix: 24")))
	var parse *cidr.ParseError
	require.ErrorAs(t, err, &parse)
	assert.Equal(t, "10.0.0.01", parse.Input)
	_, err = clusterapi.Parse([]byte(v1alpha2("addresses: ['::fff0:0:0/92']", "prefix: 64")))
	require.ErrorIs(t, err, pool.ErrInvalid)
	assert.ErrorContains(t, err, "spec.addresses: does not make a pool: the range ")
}

func TestReadFileNamesTheFileAndTheLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pool.yaml")
	require.NoError(t, os.WriteFile(path, []byte(v1alpha2("addresses: [10.0.0.1, x]", "prefix: 33")), 0o600))
	_, err := clusterapi.ReadFile(path)
	require.ErrorContains(t, err, path+`:5: spec.addresses[1]: "x" cannot be parsed`)
	require.ErrorContains(t, err, path+`:6: spec.prefix: "33" is out of range`)
	assert.Equal(t, &config.FieldError{File: path, Line: 6, Field: "spec.prefix", Value: `"33"`, Rule: "is out of range",
		Want: "1 to 32, the length of the addresses' IPv4 subnet"}, config.FieldErrors(err)[1])

	require.NoError(t, os.WriteFile(path, []byte("a: ["), 0o600))
	_, err = clusterapi.ReadFile(path)
	require.ErrorContains(t, err, path+": the text is not YAML: ")

	_, err = clusterapi.ReadFile(path + ".missing")
	assert.ErrorIs(t, err, os.ErrNotExist)
}

// What cannot be a configuration is refused before it is read.
func TestReadFileRefusesUnread(t *testing.T) {
	_, err := clusterapi.ReadFile(os.DevNull)
	require.EqualError(t, err, os.DevNull+": is not a regular file")

	large := filepath.Join(t.TempDir(), "large.yaml")
	require.NoError(t, os.WriteFile(large, make([]byte, 1<<20+1), 0o600))
	_, err = clusterapi.ReadFile(large)
	require.EqualError(t, err, large+": has 1048577 bytes, want at most 1048576")
}

// TestMoreThanTheProvider has the fields that only this library knows.
func TestMoreThanTheProvider(t *testing.T) {
	p := one(t, v1alpha2("addresses: [10.0.0.0/24]", "prefix: 24", "network: blue", "drain: true",
		"externalAddresses: [10.0.0.200-10.0.0.210, 10.0.0.211]", "dualStackPool: blue-v6"))
	assert.Equal(t, "blue", p.Spec.Network)
	assert.True(t, p.Drain)
	assert.Equal(t, "blue-v6", p.DualStackPool)
	assert.Equal(t, "10.0.0.200-10.0.0.211", fmt.Sprint(p.External[0]))
	assert.Len(t, p.External, 1)
	plain := one(t, v1alpha2("addresses: [10.0.0.0/24]", "prefix: 24"))
	assert.Empty(t, plain.Spec.Network)
	assert.False(t, plain.Drain)
	assert.Empty(t, plain.External)
	prefixes := one(t, strings.Replace(v1alpha2("prefixes: ['2001:db8::/48']", "network: blue", "drain: true",
		"externalAddresses: ['2001:db8:0:9::/64']"), "InClusterIPPool", clusterapi.KindPrefix, 1))
	assert.Equal(t, "blue", prefixes.Spec.Network)
	assert.True(t, prefixes.Drain)
	assert.Len(t, prefixes.External, 1)
	_, err := clusterapi.Parse([]byte(v1alpha2("addresses: [10.0.0.0/24]", "prefix: 24", "network: 3", "drain: 1",
		"externalAddresses: ['2001:db8::1', x]", "dualStackPool: A_b")))
	var fields []string
	for _, wrong := range config.FieldErrors(err) {
		fields = append(fields, wrong.Field)
	}
	assert.ElementsMatch(t, []string{"spec.network", "spec.drain", "spec.externalAddresses[0]",
		"spec.externalAddresses[1]", "spec.dualStackPool"}, fields)
}
