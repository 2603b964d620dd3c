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

var (
	legalLabel = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	hashed     = regexp.MustCompile(`^x--[a-z2-7]{32}$`)
)

// TestLabels: labels that Kubernetes admits are those of the objects, others have a hash; all are legal, and no two the
// same.
func TestLabels(t *testing.T) {
	plain := []string{"a", "A", "n1", "a.b", "a_b", "a--b", "0", "x-1", "X--1", strings.Repeat("a", 63)}
	odd := []string{
		"x--", "x--many", "x--1", kube.LabelText("é"), "é", "a b", "k8s.io/pod", "-a", "a-", "_", "a\n", "=", ",",
		strings.Repeat("a", 64), strings.Repeat("é", 2048),
	}
	seen := map[string]string{}
	for i, text := range append(plain, odd...) {
		got := kube.LabelText(text)
		require.Regexp(t, legalLabel, got)
		require.NotContains(t, seen, got, "%q", text)
		seen[got] = text
		if i < len(plain) {
			require.Equal(t, text, got)
		} else {
			require.Regexp(t, hashed, got)
		}
		require.Equal(t, kube.LabelPrefix+got, kube.LabelName(text))
	}
	require.Empty(t, kube.LabelText(""), "which Kubernetes admits as a value")
}
