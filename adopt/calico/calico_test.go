package calico_test

import (
	"testing"

	"github.com/ipalloc/ipalloc/adopt/calico"
	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
)

func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, calico.Read, "testdata/ipamblocks.yaml",
		"fd00:80::2/128 fd00:80::/125 (IPAMBlock fd00-80---125)",
		"10.80.1.2/32,fd00:80::1/128 k8s-pod-network.8a1f0c6e8d6a5a2b90bb4d7a4f2dd372304a3d85e8900e0b940ce4d98936543f "+
			"namespace=shop node=worker-1 pod=web-0 timestamp=2026-11-05 11:12:13.4 +0000 UTC (IPAMBlock 10-80-1-0-29)",
		"10.80.1.3/32 k8s-pod-network.aa02fdd372304a3d85e8900e0b940ce4d98936543fd403312ee151f6f9a178d0 "+
			"namespace=shop node=worker-1 pod=web-1 timestamp=2026-11-06 01:02:03.4 +0000 UTC (IPAMBlock 10-80-1-0-29)",
		"10.80.1.0/32 vxlan-tunnel-addr-worker-1 node=worker-1 type=vxlanTunnelAddress (IPAMBlock 10-80-1-0-29)",
		"10.80.1.7/32 windows-reserved-ipam-handle/10.80.1.0/29 note=windows host rsvd (IPAMBlock 10-80-1-0-29)")
}

func TestWrongObjectsAreRefused(t *testing.T) {
	const deleted = `{"kind": "IPAMBlock", "spec": {"cidr": "x", "deleted": true}}`
	adopttest.RequireErrors(t, calico.Read, deleted, map[string]string{
		`{"kind":
			"IPAMBlock", "metadata": {"name": "b"}, "spec": {}}`: "IPAMBlock b: spec.cidr: cannot parse",
		`{"kind":
			"IPAMBlock", "spec": 7}`: "cannot unmarshal number",
		`{"kind":
			"IPAMBlock", "spec": {"cidr":
				"10.0.0.0/31", "allocations": [null, null, null]}}`: "there are 3, which is more than 10.0.0.0/31 has",
		`{"kind":
			"IPAMBlock", "spec": {"cidr":
				"10.0.0.0/31", "allocations": [0]}}`: "allocations[0]: 0 is not the number of one of the 0 attributes",
		`{"kind": "IPAMBlock", "spec": {"cidr": "255.255.255.255/32", "allocations": [null, 1]}}`: "there are 2",
	})
}

func FuzzRead(f *testing.F) { adopttest.Fuzz(f, calico.Read, []string{"testdata/ipamblocks.yaml"}) }
