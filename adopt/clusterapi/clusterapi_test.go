package clusterapi_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/adopt/clusterapi"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
)

func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, clusterapi.Read, "testdata/ipaddresses.yaml",
		"10.10.0.12/32 7a1c9a52-6e88-4a0a-9d1e-6f3d2a1f0b01 scope clusters claim=prod-cp-8x2lq-0 gateway=10.10.0.1 "+
			"name=prod-cp-8x2lq-0 namespace=clusters pool=machines pool-kind=InClusterIPPool "+
			"(IPAddress clusters/prod-cp-8x2lq-0)",
		"2001:db8:10::12/128 clusters/prod-md-1 claim=prod-md-1 name=prod-md-1 namespace=clusters pool=shared-v6 "+
			"pool-kind=GlobalInClusterIPPool (IPAddress clusters/prod-md-1)",
		"2001:db8:20:1::/64 clusters/node-prefix-1 scope clusters claim=node-prefix-1 name=node-prefix-1 "+
			"namespace=clusters pool=node-prefixes pool-kind=InClusterPrefixPool (IPAddress clusters/node-prefix-1)")
}

func TestWrongObjectsAreRefused(t *testing.T) {
	const right = `{"kind": "IPAddress", "spec": {"claimRef": {"name": "a"}, "address": "10.0.0.1"}}`
	adopttest.RequireErrors(t, clusterapi.Read, right, map[string]string{
		`{"kind": "Pod"}`: `only objects of other kinds, such as "Pod"; want IPAddress`,
		`{"kind":
			"IPAddress", "metadata": {"namespace":
				"ns", "name": "a"}, "spec": {"address": "x"}}`: `IPAddress ns/a: spec: cannot parse "x"`,
		`{"kind":
			"IPAddress", "spec": {"address": "10.0.0.1"}}`: "spec.claimRef: there is no claim",
		`{"kind":
			"IPAddress", "spec": {"poolRef": {"kind":
				"InClusterPrefixPool"}, "address": "2001:db8::"}}`: `the prefix of "2001:db8::" has no length`,
		`{"kind":
			"IPAddress", "spec": {"address": 7}}`: "cannot unmarshal number",
	})
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, clusterapi.Read, []string{"testdata/ipaddresses.yaml"})
}
