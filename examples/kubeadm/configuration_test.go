package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A file of kubeadm has several documents, of which some have no addresses.
const severalDocuments = `# made by hand
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: 10.100.0.1}
nodeRegistration:
  name: cp-1
  kubeletExtraArgs:
  - {name: node-ip, value: "10.100.0.2,fd00:1:2:3::2"}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: systemd
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
---
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: v1.36.0
networking: {podSubnet: 10.244.0.0/16, serviceSubnet: 10.96.0.0/16, dnsDomain: cluster.local}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
nodeRegistration: {kubeletExtraArgs: [{name: hostname-override, value: worker-1}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
`

func TestSeveralDocuments(t *testing.T) {
	r := newDesk(t).ok("assign", severalDocuments)
	require.Equal(t, "new 10.244.0.0/24 -", r.row("Node", "cp-1"))
	require.Equal(t, "new 10.244.1.0/24 -", r.row("Node", "worker-1"))
	require.Contains(t, r.stderr, "not read: ConfigMap (1), Deployment (1)\n")
	require.Contains(t, r.stderr, "2 Nodes and 0 Services: read in ")
}

// A running cluster keeps its configuration in a ConfigMap.
func TestConfigMapOfARunningCluster(t *testing.T) {
	const configMap = `apiVersion: v1
kind: ConfigMap
metadata: {name: kubeadm-config, namespace: kube-system}
data:
  ClusterConfiguration: |
    apiVersion: kubeadm.k8s.io/v1beta4
    kind: ClusterConfiguration
    networking:
      dnsDomain: cluster.local
      podSubnet: 10.244.0.0/16
      serviceSubnet: 10.96.0.0/16
`
	d := newDesk(t)
	require.Equal(t, "new 10.244.0.0/24 -", d.ok("assign", configMap, nodes(1)).row("Node", "node-0"))
	d.refused([]string{"assign", strings.Replace(configMap, "10.244.0.0/16", "10.244.0.0/40", 1)},
		".yaml:5: ", `ClusterConfiguration: networking.podSubnet: "10.244.0.0/40" is not read`)
	d.refused([]string{"assign", strings.Replace(configMap, "  ClusterConfiguration:", "  Other:", 1)},
		"ConfigMap kube-system/kubeadm-config: data.ClusterConfiguration: is missing")
}

// TestRefusedConfigurations has the rules of kubeadm for subnets and masks. The errors quote the input and name the
// key.
func TestRefusedConfigurations(t *testing.T) {
	manager := func(args string) string { return "controllerManager: {extraArgs: [" + args + "]}\n" }
	for _, c := range []struct{ name, config, want string }{
		{"not a CIDR", configuration("10.244.0.0", ""), `networking.podSubnet: "10.244.0.0" is not read`},
		{"leading zero", configuration("10.244.00.0/16", ""), `networking.podSubnet: "10.244.00.0/16" is not read`},
		{"three subnets", configuration("", "10.96.0.0/16,fd00::/112,fd01::/112"),
			`networking.serviceSubnet: "10.96.0.0/16,fd00::/112,fd01::/112" is not one CIDR or one of each family`},
		{"two of one family", configuration("10.244.0.0/16,10.245.0.0/16", ""), "is not one CIDR or one of each family"},
		{"a space", configuration("10.244.0.0/16, fd00::/48", ""), "is not read"},
		{"few pods", configuration("10.244.0.0/29", ""), "is too small: 10.244.0.0/29 has 8 addresses, want at least 14"},
		{"few Services", configuration("", "10.96.0.0/29"), "is too small: 10.96.0.0/29 has 8 addresses, want at least 10"},
		{"many Services", configuration("", "10.0.0.0/11"),
			`networking.serviceSubnet: "10.0.0.0/11" is too large for kubeadm: 10.0.0.0/11, want a length of 12 or more`},
		{"many IPv6 Services", configuration("", "fd00::/64"), "want a length of 108 or more, or -any-size"},
		{"many nodes", configuration("fd00::/40", ""),
			"is too large for kubeadm: fd00::/40 has more than 2^16 pod CIDRs of /64, want a length of 48 or more"},
		{"no node", configuration("10.244.0.0/25", ""),
			"is smaller than a node's pod CIDR: 10.244.0.0/25 has no /24, want a length of 24 or less"},
		{"pods among Services", configuration("10.96.4.0/24", "10.96.0.0/16"),
			"lies in networking.serviceSubnet: 10.96.4.0/24 in 10.96.0.0/16"},
		{"domain", strings.Replace(configuration("", ""), "networking:", "networking:\n  dnsDomain: a_b", 1),
			`networking.dnsDomain: "a_b" is not a DNS subdomain`},
		{"one mask of two families", manager(`{name: node-cidr-mask-size, value: "24"}`) +
			configuration("10.244.0.0/16,fd00::/48", ""), `"24" is not for dual-stack clusters`},
		{"two masks of one family", manager(`{name: node-cidr-mask-size, value: "24"}, `+
			`{name: node-cidr-mask-size-ipv4, value: "25"}`) + configuration("10.244.0.0/16", ""),
			"is set together with node-cidr-mask-size-ipv4"},
		{"not a mask", manager(`{name: node-cidr-mask-size-ipv4, value: "/24"}`) + configuration("10.244.0.0/16", ""),
			`controllerManager.extraArgs[0].value: "/24" is not a prefix length, want a whole number from 1 to 32`},
		{"a mask as a number", manager(`{name: node-cidr-mask-size-ipv4, value: 24}`) + configuration("10.244.0.0/16", ""),
			`"24" is not a text, want a text, in quotes`},
		{"another range of the manager", manager(`{name: cluster-cidr, value: 10.0.0.0/8}`) +
			configuration("10.244.0.0/16", ""), `"10.0.0.0/8" differs from the field`},
		{"a map in v1beta4", `controllerManager: {extraArgs: {a: b}}` + "\n" + configuration("10.244.0.0/16", ""),
			"controllerManager.extraArgs: is not a list"},
		{"a list in v1beta3", strings.Replace(manager("{name: a, value: b}")+configuration("10.244.0.0/16", ""),
			"v1beta4", "v1beta3", 1), "controllerManager.extraArgs: is a list, which this apiVersion does not have"},
		{"version", strings.Replace(configuration("", ""), "v1beta4", "v1alpha3", 1),
			`apiVersion: "kubeadm.k8s.io/v1alpha3" is not known`},
		{"twice", configuration("", "") + configuration("", ""), "is there twice, want one ClusterConfiguration"},
		{"no kind", configuration("", "") + "apiVersion: v1\n", "kind: is missing"},
		{"not an object", configuration("", "") + "- a\n", "is not an object"},
		{"not YAML", configuration("", "") + "a: [\n", "the text is not read: yaml: line"},
		{"none", nodes(1), "there is no ClusterConfiguration in the files"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.refused([]string{"assign", "-db", d.db, c.config}, c.want)
		})
	}
}

// A run that is refused leaves no new file.
func TestRefusalsMakeNoFile(t *testing.T) {
	d := newDesk(t)
	for _, c := range []string{service("web", "ipFamilies: [IPv4, IPv6]"), service("web", "type: x"), "a: [\n"} {
		d.refused([]string{"assign", "-db", d.db, configuration("", first4), c})
		require.NoFileExists(t, d.db)
	}
}

// Sizes that kubeadm refuses work here.
func TestAnySize(t *testing.T) {
	r := newDesk(t).ok("assign", "-any-size", configuration("fd00:1::/32", "fd00:2::/64"), nodes(1), service("web", ""))
	require.Equal(t, "new fd00:1::/64 -", r.row("Node", "node-0"))
	require.Equal(t, "/64 1 4294967295", r.pool("pods", "IPv6"))
	require.Equal(t, "/128 3 18446744073709551612", r.pool("services", "IPv6"))
}

func TestRefusedNodes(t *testing.T) {
	for _, c := range []struct{ name, node, want string }{
		{"no name", "apiVersion: v1\nkind: Node\n", "metadata.name: is missing"},
		{"name", "apiVersion: v1\nkind: Node\nmetadata: {name: A}\n", `metadata.name: "A" is not a DNS subdomain`},
		{"twice", node("a") + node("a"), `Node a: metadata.name: "a" is that of a Node that was read before`},
		{"not a CIDR", node("a", "10.244.0.1/24"), `Node a: spec.podCIDRs[0]: "10.244.0.1/24" is not read`},
		{"two of one family", node("a", "10.244.0.0/24", "10.244.1.0/24"),
			"spec.podCIDRs: has more than one CIDR of a family"},
		{"another first", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n" +
			"spec: {podCIDR: 10.244.0.0/24, podCIDRs: [10.244.1.0/24]}\n", `"10.244.0.0/24" is not the first of podCIDRs`},
		{"the other way round", node("a", "fd00:1::/64", "10.244.0.0/24"),
			"does not fit networking.podSubnet: fd00:1::/64 has no subnet of its family in its place"},
		{"address", "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n" +
			"status: {addresses: [{type: InternalIP, address: 10.0.0}]}\n", `status.addresses[0].address: "10.0.0" is not read`},
		{"a list in a list", "kind: List\nitems: [{kind: List, items: []}]\n", "items[0]: is a list within a list"},
		{"merge key", "apiVersion: v1\nkind: Node\nmetadata: {name: a, <<: {}}\n", "has a merge key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newDesk(t)
			d.refused([]string{"assign", "-db", d.db, configuration("10.244.0.0/16,fd00:1::/48", ""), c.node}, c.want)
		})
	}
}

// All faults are told in one run.
func TestAllFaultsAreTold(t *testing.T) {
	d := newDesk(t)
	d.refused([]string{"assign", configuration("10.244.0.0/33", "10.96.0.0/8")}, "podSubnet", "serviceSubnet")
	d.refused([]string{"assign", singleStack, service("a", "type: x"), service("b", "ipFamilyPolicy: x")},
		"Service default/a: spec.type", "Service default/b: spec.ipFamilyPolicy")
	var many strings.Builder
	for range 150 {
		many.WriteString(strings.Replace(service("a", ""), "name: a", "name: A", 1))
	}
	r := d.try("assign", singleStack, many.String())
	require.Contains(t, r.stderr, "there are 50 more errors, which are not listed")
}
