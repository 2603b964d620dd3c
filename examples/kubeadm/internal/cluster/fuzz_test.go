package cluster_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// FuzzRead reads any files. What is accepted keeps the rules, and what is refused says why.
func FuzzRead(f *testing.F) {
	fixtures, err := filepath.Glob("../../testdata/*.yaml")
	require.NoError(f, err)
	require.NotEmpty(f, fixtures)
	for _, name := range fixtures {
		data, err := os.ReadFile(name)
		require.NoError(f, err)
		for _, more := range []string{
			"", "---\napiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDR: 10.244.0.0/24}\n",
			"---\napiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.5, ipFamilies: [IPv4]}\n",
			"---\napiVersion: v1\nkind: Service\nmetadata: {name: a, uid: b}\n" +
				"spec: {ipFamilyPolicy: RequireDualStack, clusterIP: None}\n",
			"---\napiVersion: networking.k8s.io/v1\nkind: ServiceCIDR\nmetadata: {name: a}\nspec: {cidrs: [10.97.0.0/24]}\n",
			"controllerManager: {extraArgs: {node-cidr-mask-size: \"25\"}}\n",
		} {
			f.Add(string(data)+more, uint8(len(more)))
		}
	}
	f.Fuzz(func(t *testing.T, text string, has uint8) {
		c, err := cluster.Read([]object.File{{Name: "a file", Data: []byte(text)}}, nil)
		if err != nil {
			require.Nil(t, c)
			require.NotEmpty(t, config.FieldErrors(err))
			return
		}
		checkSubnets(t, c)
		for _, n := range c.Nodes {
			require.NotEmpty(t, n.Name)
			require.LessOrEqual(t, len(n.PodCIDRs), 2)
		}
		for i := range c.Services {
			checkService(t, c, &c.Services[i], has)
		}
	})
}

func checkSubnets(t *testing.T, c *cluster.Cluster) {
	require.NotEmpty(t, c.ServiceSubnets)
	for _, subnets := range [][]netip.Prefix{c.ServiceSubnets, c.PodSubnets} {
		require.LessOrEqual(t, len(subnets), 2)
		for i, p := range subnets {
			require.Equal(t, p.Masked(), p)
			require.True(t, i == 0 || subnets[0].Addr().Is4() != p.Addr().Is4())
		}
	}
	for _, p := range c.PodSubnets {
		require.GreaterOrEqual(t, c.NodeBits[pool.FamilyOf(p.Addr())], p.Bits())
	}
	for _, p := range c.Ranges() {
		require.Contains(t, c.Families(), pool.FamilyOf(p.Addr()))
	}
}

// checkService checks what a Service is to have, new or with something that it has.
func checkService(t *testing.T, c *cluster.Cluster, s *cluster.Service, has uint8) {
	held := cluster.Held{Policy: pool.FamilyPolicy(has % 3)}
	if n := int(has/3) % 3; n > 0 && len(c.ServiceSubnets) >= n {
		for _, p := range c.ServiceSubnets[:n] {
			held.Addrs = append(held.Addrs, p.Addr().Next())
		}
	}
	want, err := s.Want(c.Families(), held)
	if err != nil {
		require.NotEmpty(t, config.FieldErrors(err))
		return
	}
	require.LessOrEqual(t, len(want.Families), 2)
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(want.Families))), len(want.Families))
	if !s.NeedsAddress() {
		require.Empty(t, want.Addrs)
		return
	}
	require.NotEmpty(t, want.Addrs)
	require.Len(t, want.Families, len(want.Addrs))
	for i, addr := range want.Addrs {
		require.True(t, !addr.IsValid() || pool.FamilyOf(addr) == want.Families[i])
		require.True(t, i >= len(s.ClusterIPs) || s.ClusterIPs[i] == addr)
		require.True(t, s.Live || i >= len(held.Addrs) || held.Addrs[i] == addr, "what it has stays")
	}
	if want.Policy == pool.SingleStack && !s.Live {
		require.Len(t, want.Addrs, 1)
	}
}
