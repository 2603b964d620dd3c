package kube_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

var legalName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// TestNames: plain keys have readable names, all have legal ones, and no two the same.
func TestNames(t *testing.T) {
	for _, c := range []struct{ kind, pool, name, want string }{
		{"pool", "lab", "", "ippools/lab"},
		{"allocation", "lab", "6f1d2c3b-0000-4000-8000-000000000001",
			"ipallocations/lab.6f1d2c3b-0000-4000-8000-000000000001"},
		{"allocation", "lab", "ns/pod/eth0", "ipallocations/allocation-lab-ns-pod-eth0--"},
		{"allocation", "lab", "Pod", "ipallocations/allocation-lab-pod--"},
		{"cooling", "lab", "10.0.0.1/32", "ipallocations/cooling-lab-10-0-0-1-32--"},
		{"space", "lab", "p1", "iprecords/space-lab-p1--"},
		{"pool", "--", "", "ippools/pool--"},
		{"pool", "日本", "", "ippools/pool--"},
	} {
		r := kube.RefOf(store.Key{Kind: store.Kind(c.kind), Pool: c.pool, Name: c.name})
		require.True(t, strings.HasPrefix(r.String(), c.want), r.String())
		require.Equal(t, strings.HasSuffix(c.want, "--"), r.String() != c.want)
		same, err := kube.ParseRef(r.String())
		require.NoError(t, err)
		require.Equal(t, r, same)
	}
	texts := []string{"a", "b", "a.b", "a-b", "a--b", "-a", "a-", "A", "é", ".", "", strings.Repeat("a", 63),
		strings.Repeat("a", 64), strings.Repeat("é", 512), "x--y"}
	seen := map[kube.Ref]store.Key{}
	for _, kind := range []store.Kind{"pool", "allocation", "cooling", "space", "a",
		store.Kind(strings.Repeat("k", 1024))} {
		for _, in := range texts {
			for _, name := range texts {
				key := store.Key{Kind: kind, Pool: in, Name: name}
				if key.Validate() != nil {
					continue
				}
				r := kube.RefOf(key)
				require.NotContains(t, seen, r, "%v", key)
				seen[r] = key
				require.Regexp(t, legalName, r.Name())
				require.LessOrEqual(t, len(r.Name()), 253)
				require.LessOrEqual(t, len(kube.LabelValue(in)), 63)
			}
		}
	}
}
