package kubernetes_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/adopt/internal/adopttest"
	"github.com/ipalloc/ipalloc/adopt/kubernetes"
)

func TestFiles(t *testing.T) {
	adopttest.RequireFile(t, kubernetes.Read, "testdata/services.yaml",
		"10.96.0.1/32,fd00:10:96::1/128 default/kubernetes kind=Service name=kubernetes namespace=default "+
			"uid=d0a3c1a0-7f2a-4c86-9f86-0e3d3d9c0001 (Service default/kubernetes)",
		"10.96.14.200/32 shop/web kind=Service name=web namespace=shop "+
			"uid=d0a3c1a0-7f2a-4c86-9f86-0e3d3d9c0002 (Service shop/web)",
		"192.0.2.130/32 shop/web kind=LoadBalancer name=web namespace=shop "+
			"uid=d0a3c1a0-7f2a-4c86-9f86-0e3d3d9c0002 (Service shop/web)")
	adopttest.RequireFile(t, kubernetes.Read, "testdata/nodes.json",
		"10.244.0.0/24,fd00:10:244::/64 cp-1 kind=PodCIDR name=cp-1 uid=b7f9b1c2-1a1a-4f7e-a4c0-5b7f5c1a0001 (Node cp-1)",
		"10.10.0.12/32,2001:db8:10::12/128 cp-1 kind=NodeIP name=cp-1 uid=b7f9b1c2-1a1a-4f7e-a4c0-5b7f5c1a0001 (Node cp-1)",
		"10.244.1.0/24 worker-1 kind=PodCIDR name=worker-1 uid=b7f9b1c2-1a1a-4f7e-a4c0-5b7f5c1a0002 (Node worker-1)",
		"10.10.0.13/32 worker-1 kind=NodeIP name=worker-1 uid=b7f9b1c2-1a1a-4f7e-a4c0-5b7f5c1a0002 (Node worker-1)")
}

// Lists as the API itself answers, whose items do not say what they are; several documents of YAML.
func TestOtherForms(t *testing.T) {
	const item = `{"metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24"}}`
	const node = "10.0.0.0/24 n kind=PodCIDR name=n uid= (Node n)"
	for text, want := range map[string][]string{
		`{"kind": "NodeList", "apiVersion": "v1", "items": [` + item + `]}`:                                {node},
		`{"kind": "NodeList", "items": null}`:                                                              nil,
		`{"kind": "Node", "metadata": {"name": "n"}, "spec": {"podCIDR": "10.0.0.0/24"}} {"kind": "Node"}`: {node},
		"--- # first\n---\nkind: Pod\n---\nkind: Node\nmetadata: {name: node}\nspec: {podCIDR: 10.0.0.0/24}\n": {
			"10.0.0.0/24 node kind=PodCIDR name=node uid= (Node node)",
		},
		"": nil,
	} {
		require.Equal(t, want, adopttest.Texts(t, kubernetes.Read(strings.NewReader(text))), text)
	}
}

func TestWrongObjectsAreRefused(t *testing.T) {
	const right = `{"kind": "Service", "metadata": {"name": "a"}, "spec": {"clusterIP": "10.0.0.1"}}`
	adopttest.RequireErrors(t, kubernetes.Read, right, map[string]string{
		`{"items": [{"metadata": {"name": "n"}}]}`: `such as "one without a kind"; want Service, Node`,
		`{"kind": "List", "items": {}}`:            `"{" is not a list`,
		`{"kind": "List", "items": [7]}`:           "object: ",
		`{"kind": "Service"`:                       "unexpected EOF",
		"kind: Node\nkind: Node":                   "the document at line 1",
		"a\n---\nb: [":                             `"a" is not an object`,
		"kind: Node\n---\nb: [":                    `the document at line 3`,
		`{"kind":
			"Node", "metadata": {"name":
				"n"}, "spec": {"podCIDRs": ["10.0.0.1/24"]}}`: "Node n: spec.podCIDRs: cannot parse",
		`{"kind":
			"Node", "spec": {"podCIDR": "10.0.0.0/24"}}`: "metadata: there is no name",
		`{"kind":
			"Node", "spec": 7}`: "cannot unmarshal number",
		`{"kind":
			"Service", "spec": 7}`: "cannot unmarshal number",
		`{"kind":
			"Service", "metadata": {"name":
				"a"}, "status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}}`: "status.loadBalancer.ingress: cannot parse",
	})
	adopttest.RequireErrors(t, kubernetes.Read, "kind: Service\n", nil)
}

func FuzzRead(f *testing.F) {
	adopttest.Fuzz(f, kubernetes.Read, []string{"testdata/services.yaml", "testdata/nodes.json"})
}
