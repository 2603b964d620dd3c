package addressing_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/addressing"
	"github.com/ipalloc/ipalloc/pool"
)

// TestWishes gives addresses to Services of which some wish one or two, in any order. A wish is met unless a Service
// that each cluster has holds the address, or there is no address of the other family.
func TestWishes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := newMachine(t)
		var objects strings.Builder
		wished := map[string][]string{}
		for _, name := range drawNames(t, "s-", 40) {
			wished["default/"+name] = m.drawWish(t)
			objects.WriteString(wishText(name, wished["default/"+name], m.drawPolicy(t)))
		}
		pools, err := m.prepare(t, objects.String())
		require.NoError(t, err)
		rows, err := pools.Assign(t.Context())
		require.NoError(t, err)
		for _, row := range rows {
			m.checkWish(t, row, wished[row.FullName()])
		}
		m.checkKept(t, rows)
		if countFailed(rows) > 0 {
			return
		}
		pools, err = m.prepare(t, objects.String())
		require.NoError(t, err)
		rows, err = pools.Assign(t.Context())
		require.NoError(t, err)
		for _, row := range rows {
			require.Equal(t, addressing.Kept, row.State, row)
		}
	})
}

// drawWish draws the addresses that a Service wishes: none, one, or one of each family. No two Services wish the same.
func (m *machine) drawWish(t *rapid.T) []string {
	var wish []string
	for _, family := range rapid.Permutation(m.families).Draw(t, "order") {
		free := m.free["service"+family]
		if len(free) == 0 || !rapid.Bool().Draw(t, "wishes "+family) {
			return wish
		}
		p := rapid.SampledFrom(free).Draw(t, family)
		m.takeExactly("service", p)
		wish = append(wish, p.Addr().String())
	}
	return wish
}

func (m *machine) drawPolicy(t *rapid.T) string {
	if len(m.families) == 1 {
		return "SingleStack"
	}
	return rapid.SampledFrom([]string{"PreferDualStack", "RequireDualStack"}).Draw(t, "policy")
}

func wishText(name string, wish []string, policy string) string {
	spec := "ipFamilyPolicy: " + policy
	if len(wish) > 0 {
		quoted := make([]string, len(wish))
		for i, addr := range wish {
			quoted[i] = fmt.Sprintf("%q", addr)
		}
		spec += ", clusterIP: " + quoted[0] + ", clusterIPs: [" + strings.Join(quoted, ", ") + "]"
	}
	return fmt.Sprintf("---\napiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {%s}\n",
		name, spec)
}

// checkWish checks that a Service has what it wished, or could not have it.
func (m *machine) checkWish(t *rapid.T, row addressing.Row, wish []string) {
	switch {
	case row.Err == nil:
		require.Len(t, row.Prefixes, len(row.Families))
		for i, addr := range wish {
			require.Equal(t, addr, row.Prefixes[i].Addr().String())
		}
	case errors.Is(row.Err, pool.ErrTaken):
		require.Regexp(t, "by (default/kubernetes|kube-system/kube-dns)$", row.Err.Error())
	default:
		require.ErrorIs(t, row.Err, pool.ErrExhausted)
		require.Less(t, len(wish), len(m.families))
	}
}

// checkKept checks that the pool has what the rows say, each address once.
func (m *machine) checkKept(t *rapid.T, rows []addressing.Row) {
	seen := map[string]string{}
	m.each(t, addressing.ServicePool, func(a pool.Allocation) {
		i := slices.IndexFunc(rows, func(row addressing.Row) bool { return row.FullName() == a.Owner })
		require.GreaterOrEqual(t, i, 0, a.Owner)
		require.Equal(t, rows[i].Prefixes, a.Prefixes)
		for _, p := range a.Prefixes {
			require.Empty(t, seen[p.String()])
			seen[p.String()] = a.Owner
		}
	})
}
