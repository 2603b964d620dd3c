package specfile_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/specfile"
	"github.com/ipalloc/ipalloc/pool"
)

const clusterPool = `apiVersion: ipam.cluster.x-k8s.io/v1alpha2
kind: InClusterIPPool
metadata: {name: machines, namespace: prod}
spec: {addresses: [10.10.0.0/24], prefix: 24, gateway: 10.10.0.1, network: blue, externalAddresses: [10.10.0.200]}
`

func TestParseAny(t *testing.T) {
	const usable = "192.0.2.1-192.0.2.254"
	for text, want := range map[string]string{
		whole:       "192.0.2.0/24",
		clusterPool: "10.10.0.0/24",
		"{\n\t\"ipam\": {\n\t\t\"type\": \"whereabouts\", \"range\": \"192.0.2.0/24\"}}":                   usable,
		"{\n\t\"type\": \"whereabouts\",\n\t\"range\": \"192.0.2.0/24\"}":                                  usable,
		"type: host-local\nsubnet: 192.0.2.0/24\n":                                                         usable,
		`{"cniVersion": "1.0.0", "plugins": [{"ipam": {"type": "host-local", "subnet": "192.0.2.0/24"}}]}`: usable,
		`{"kind": "NetworkAttachmentDefinition", "metadata": {"name": "a"}, "spec": {"config":
			"{\"ipam\": {\"type\": \"host-local\", \"subnet\": \"192.0.2.0/24\"}}"}}`: usable,
		`{"kind": "List", "items": [{"apiVersion": "ipam.cluster.x-k8s.io/v1alpha2", "kind": "GlobalInClusterIPPool",
			"metadata": {"name": "a"}, "spec": {"addresses": ["192.0.2.0/24"], "prefix": 24}}]}`: "192.0.2.0/24",
	} {
		spec, err := specfile.ParseAny([]byte(text), "a")
		require.NoError(t, err, text)
		require.NoError(t, spec.Validate())
		parsed, err := pool.ParseSpec(want)
		require.NoError(t, err)
		require.Equal(t, parsed.Ranges[0], spec.Ranges[0], text)
	}
	spec, err := specfile.ParseAny([]byte(clusterPool), "other")
	require.NoError(t, err)
	require.Equal(t, "prod", spec.Scope)
	require.Equal(t, "blue", spec.Network)
	require.False(t, spec.Set(pool.IPv4).Contains(netip.MustParseAddr("10.10.0.200")), "it is external")
}

func TestParseAnyRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                "no YAML document",
		"ranges: [":       "no YAML document",
		"type: [dhcp]":    `the member "type" is not known`,
		"type: dhcp":      `the member "type" is not known`,
		"kind: Pod\n":     "the configuration of Cluster API: ",
		"cniVersion: 1\n": `the ipam.type [], want host-local or whereabouts`,
		`{"kind": "NetworkAttachmentDefinition", "spec": {"config": "{"}}`: "spec.config: unexpected end",
		`{"ipam": {"type": "whereabouts", "range": "x"}}`:                  "the configuration of Whereabouts: ipam.range: ",
		`{"ipam": {"type": "host-local", "subnet": "x"}}`:                  "the configuration of host-local: ipam.subnet: ",
		`{"ipam": {"type": "calico-ipam"}}`:                                `the ipam.type ["calico-ipam"], want`,
		clusterPool + "---\n" + clusterPool:                                "the configuration of Cluster API: ",
	} {
		_, err := specfile.ParseAny([]byte(text), "a")
		require.ErrorIs(t, err, pool.ErrInvalid, text)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "\n")
	}
}

func FuzzParseAny(f *testing.F) {
	f.Add([]byte(whole))
	f.Add([]byte(clusterPool))
	f.Add([]byte(`{"ipam": {"type": "whereabouts", "ipRanges": [{"range": "192.0.2.0/24"}, {"range": "2001:db8::/64"}]}}`))
	f.Add([]byte("type: host-local\nranges: [[{subnet: 192.0.2.0/24}], [{subnet: 2001:db8::/64}]]\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		spec, err := specfile.ParseAny(text, "a")
		if err != nil {
			require.ErrorIs(t, err, pool.ErrInvalid)
			return
		}
		require.NoError(t, spec.Validate())
	})
}
