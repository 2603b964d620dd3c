package cluster_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// TestNewServicesAsInKubernetes compares what new Services are to have with what an API server has made of the same.
func TestNewServicesAsInKubernetes(t *testing.T) {
	for line := range table(t, "testdata/new-services.txt", 632) {
		before, result, _ := strings.Cut(line, " => ")
		in := strings.Fields(before)
		spec := "type: " + in[1] + policyField(in[2]) + familiesField(in[3]) + addressesField(in[4])
		if in[5] == "selector" {
			spec += ", selector: {a: b}"
		}
		want, err := wantOf(t, in[0], spec, cluster.Held{})
		if result == "refused" {
			require.Error(t, err, line)
			continue
		}
		require.NoError(t, err, line)
		out := strings.Fields(result)
		if in[1] == "ExternalName" {
			require.Equal(t, cluster.Want{}, want, line)
			continue
		}
		require.Equal(t, out[0], string(want.Policy)[:1], line)
		require.Equal(t, out[1], familiesText(want.Families), line)
		require.Equal(t, out[2], addressesText(want, in[4] == "None"), line)
	}
}

// table iterates over the lines of a file that are not comments, which must be that many.
func table(t *testing.T, name string, lines int) func(func(string) bool) {
	return func(yield func(string) bool) {
		f, err := os.Open(name)
		require.NoError(t, err)
		defer f.Close()
		count := 0
		for s := bufio.NewScanner(f); s.Scan(); {
			if strings.HasPrefix(s.Text(), "#") {
				continue
			}
			count++
			if !yield(s.Text()) {
				return
			}
		}
		require.Equal(t, lines, count)
	}
}

// subnets are the Service subnets of a cluster with these families.
var subnets = map[string]string{
	"4": "10.96.0.0/24", "6": "fd00:2::/120", "46": "10.96.0.0/24,fd00:2::/120", "64": "fd00:2::/120,10.96.0.0/24",
}

// wantOf returns what a Service is to have in a cluster with these families. An error is one of reading it too.
func wantOf(t *testing.T, families, spec string, held cluster.Held) (cluster.Want, error) {
	t.Helper()
	text := fmt.Sprintf("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\n"+
		"networking: {serviceSubnet: %q}\n---\n"+
		"apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: default}\nspec: {%s}\n", subnets[families], spec)
	c, err := cluster.Read([]object.File{{Name: "test", Data: []byte(text)}}, nil)
	if err != nil {
		return cluster.Want{}, err
	}
	return c.Services[0].Want(c.Families(), held)
}

func policyField(letter string) string {
	names := map[string]string{"S": "SingleStack", "P": "PreferDualStack", "R": "RequireDualStack"}
	if names[letter] == "" {
		return ""
	}
	return ", ipFamilyPolicy: " + names[letter]
}

func familiesField(families string) string {
	if families == "-" {
		return ""
	}
	names := strings.NewReplacer("4", "IPv4,", "6", "IPv6,").Replace(families)
	return ", ipFamilies: [" + strings.TrimSuffix(names, ",") + "]"
}

var addressOf = map[rune]string{'4': "10.96.0.5", '6': "fd00:2::5"}

func addressesField(families string) string {
	var addrs []string
	switch families {
	case "-":
		return ""
	case "None":
		addrs = []string{"None"}
	default:
		for _, family := range families {
			addrs = append(addrs, addressOf[family])
		}
	}
	for i, addr := range addrs {
		addrs[i] = fmt.Sprintf("%q", addr)
	}
	return ", clusterIP: " + addrs[0] + ", clusterIPs: [" + strings.Join(addrs, ", ") + "]"
}

func familiesText(families []pool.Family) string {
	var text strings.Builder
	for _, family := range families {
		text.WriteString(strings.TrimPrefix(family.String(), "IPv"))
	}
	return text.String()
}

func addressesText(want cluster.Want, headless bool) string {
	if headless {
		return "None"
	}
	texts := make([]string, len(want.Addrs))
	for i, addr := range want.Addrs {
		texts[i] = "any"
		if addr.IsValid() {
			texts[i] = addr.String()
		}
	}
	return strings.Join(texts, ",")
}

// TestChangedServicesAsInKubernetes compares what changed Services are to have with what an API server has made of the
// same. Two things differ on purpose, because a manifest is read again in each run. It may name only the primary family
// of a Service that is to have both, as it did when the Service was created; and it may not name two families of a
// Service that is to be SingleStack, as it could not then.
func TestChangedServicesAsInKubernetes(t *testing.T) {
	for line := range table(t, "testdata/changed-services.txt", 880) {
		before, result, _ := strings.Cut(line, " => ")
		in := strings.Fields(before)
		first, err := wantOf(t, in[0], "type: ClusterIP"+policyField(in[1])+familiesField(in[2]), cluster.Held{})
		require.NoError(t, err, line)
		held := cluster.Held{Policy: first.Policy}
		for _, family := range first.Families {
			held.Addrs = append(held.Addrs, netip.MustParseAddr(addressOf[rune(family.String()[3])]))
		}
		has := familiesText(first.Families)
		switch {
		case len(has) == 2 && in[4] != "S" && in[5] == has[:1]:
			require.Equal(t, "refused", result, line)
			policy := strings.Replace(in[4], "-", string(first.Policy)[:1], 1)
			result = policy + " " + has
		case len(has) == 2 && in[4] == "S" && in[5] == has:
			require.Equal(t, "S "+has[:1], result, line)
			result = "refused"
		}
		want, err := wantOf(t, in[0], "type: ClusterIP"+policyField(in[4])+familiesField(in[5]), held)
		if result == "refused" {
			require.Error(t, err, line)
			continue
		}
		require.NoError(t, err, line)
		require.Equal(t, result, string(want.Policy)[:1]+" "+familiesText(want.Families), line)
		require.Equal(t, held.Addrs[0], want.Addrs[0], line)
	}
}

// TestSubnetsAsInKubeadm compares which subnets are accepted with what kubeadm accepts. A length with a leading zero
// and an IPv4-mapped prefix are refused on purpose: some programs read the one as octal, and the other one as IPv4.
func TestSubnetsAsInKubeadm(t *testing.T) {
	for line := range table(t, "testdata/subnets.txt", 139) {
		before, result, _ := strings.Cut(line, " => ")
		in := strings.Fields(before)
		text := fmt.Sprintf("apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nnetworking: {%s%s}\n",
			subnetField("podSubnet", in[0]), subnetField("serviceSubnet", in[1]))
		if in[2] != "-" {
			text += fmt.Sprintf("controllerManager: {extraArgs: [{name: %s, value: %q}]}\n", in[2], in[3])
		}
		if strings.Contains(line, "/016") || strings.Contains(line, "::ffff:") {
			result = "refused"
		}
		_, err := cluster.Read([]object.File{{Name: "test", Data: []byte(text)}}, nil)
		if result == "accepted" {
			require.NoError(t, err, line)
		} else {
			require.Error(t, err, line)
		}
	}
}

func subnetField(name, subnet string) string {
	if subnet == "-" {
		return ""
	}
	return fmt.Sprintf("%s: %q, ", name, subnet)
}
