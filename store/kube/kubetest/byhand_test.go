package kubetest_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// kubectl does with an object what people do by hand, and returns the code and the text of the answer.
func (s *server) kubectl(t testing.TB, namespace, method, object, patch string) (int, string) {
	t.Helper()
	config := s.config(admin)
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	url := fmt.Sprintf("%s/apis/%s/%s/namespaces/%s/%s", config.Host, kube.Group, kube.Version, namespace, object)
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(patch))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/merge-patch+json")
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	var text strings.Builder
	require.NoError(t, answer.Write(&text))
	return answer.StatusCode, text.String()
}

// patch changes an object by hand.
func (s *server) patch(t testing.TB, namespace, object, patch string) {
	t.Helper()
	code, text := s.kubectl(t, namespace, http.MethodPatch, object, patch)
	require.Equal(t, http.StatusOK, code, text)
}

// TestDeletedByHand: after kubectl delete ippool, no new pool comes to be over what is held, and Recover takes it up.
func TestDeletedByHand(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/24")
	a, err := p.Allocate(t.Context(), pool.Claim{Owner: "first"})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "second"}) // which settles the first
	require.NoError(t, err)
	_, err = s.Sweep(t.Context())
	require.NoError(t, err)
	code, text := server.kubectl(t, namespace, http.MethodDelete, "ippools/lab", "")
	require.Equal(t, http.StatusOK, code, text)

	ranges, err := cidr.ParseRanges("10.0.0.0/24")
	require.NoError(t, err)
	spec := pool.Spec{Ranges: ranges, IPv4: pool.FamilySpec{AllocateReserved: true}}
	other := open(t, server.config(writer), kube.Options{Namespace: namespace})
	_, err = pool.Ensure(t.Context(), other, labPool, spec, pool.Keep, nil)
	require.ErrorIs(t, err, pool.ErrOrphaned)
	_, err = p.Repair(t.Context())
	require.ErrorIs(t, err, pool.ErrOrphaned)
	recovered, err := pool.Recover(t.Context(), other, labPool, spec, nil)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"first": "10.0.0.0", "second": "10.0.0.1"}, requireHeld(t, other, nil))
	again, err := recovered.Allocate(t.Context(), pool.Claim{Owner: "first"})
	require.NoError(t, err)
	require.Equal(t, a.Prefixes, again.Prefixes)
	_, err = recovered.Allocate(t.Context(), pool.Claim{Owner: "third"})
	require.NoError(t, err)
	require.Len(t, requireHeld(t, other, nil), 3)
}

// TestChangedLabel: an object that lists overlook, because somebody has changed its labels, is named by Verify, and
// what it holds is not freed by Repair. The next write of the record puts the labels right.
func TestChangedLabel(t *testing.T) {
	server := sharedServer(t)
	for _, change := range []string{
		`"ipalloc.github.io/pool":"other"`, `"ipalloc.github.io/pool":null`, `"ipalloc.github.io/kind":"x"`,
		`"ipalloc.github.io/ipv4":"10.0.0.9-32"`, `"label.ipalloc.github.io/node":"n2"`,
		`"label.ipalloc.github.io/node":null`, `"label.ipalloc.github.io/other":"n1"`,
	} {
		t.Run(change, func(t *testing.T) {
			namespace := newNamespace()
			s := open(t, server.config(writer), kube.Options{Namespace: namespace, PageSize: 2})
			p := createPool(t, s, "10.0.0.0/24")
			for _, owner := range []string{"a", "b", "c"} {
				_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner, Labels: map[string]string{"node": "n1"}})
				require.NoError(t, err)
			}
			_, err := s.Sweep(t.Context())
			require.NoError(t, err)
			server.patch(t, namespace, "ipallocations/lab.b", `{"metadata":{"labels":{`+change+`}}}`)
			got, err := p.Get(t.Context(), pool.Held{Owner: "b"})
			require.NoError(t, err)
			for _, look := range []func(context.Context) (pool.Report, error){p.Verify, p.Repair, p.Verify} {
				report, err := look(t.Context())
				require.NoError(t, err)
				require.False(t, report.OK())
				require.Empty(t, report.Leaked)
				require.Equal(t, 3, report.Allocations)
				require.Len(t, report.Damaged, 1)
				require.ErrorContains(t, report.Damaged[0], "ipallocations/lab.b")
				require.ErrorIs(t, report.Damaged[0], kube.ErrDamaged)
			}
			next, err := p.Allocate(t.Context(), pool.Claim{Owner: "d"})
			require.NoError(t, err)
			require.NotEqual(t, got.Prefixes, next.Prefixes)
			fresh, err := pool.Open(t.Context(), open(t, server.config(writer), kube.Options{Namespace: namespace}),
				labPool, nil)
			require.NoError(t, err)
			_, err = fresh.Release(t.Context(), pool.Held{Owner: "b"})
			require.NoError(t, err)
			_, err = fresh.Allocate(t.Context(), pool.Claim{Owner: "b"})
			require.NoError(t, err)
			require.Len(t, requireHeld(t, s, nil), 4)
		})
	}
}

// TestUnreadable: an object that makes no sense is named, and does not hide the others.
func TestUnreadable(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace, PageSize: 2})
	p := createPool(t, s, "10.0.0.0/24")
	for _, owner := range []string{"a", "b", "c", "d"} {
		_, err := p.Allocate(t.Context(), pool.Claim{Owner: owner})
		require.NoError(t, err)
	}
	_, err := s.Sweep(t.Context())
	require.NoError(t, err)
	server.patch(t, namespace, "ipallocations/lab.b", `{"spec":{"prefixes":[":::/64"]}}`)
	server.patch(t, namespace, "ipallocations/lab.c", `{"key":{"pool":"other"}}`)
	names := []string{"ipallocations/lab.b", "ipallocations/lab.c"}

	var owners []string
	var failed error
	for r, err := range s.List(t.Context(), store.KindAllocation, labPool) {
		require.NoError(t, failed, "an error comes last")
		if failed = err; err == nil {
			owners = append(owners, r.Name)
		}
	}
	require.Equal(t, []string{"a", "d"}, owners)
	var damaged *store.DamagedError
	require.ErrorAs(t, failed, &damaged)
	require.Len(t, damaged.Damaged, 2)
	for _, name := range names {
		require.ErrorContains(t, failed, name)
	}
	_, err = s.Get(t.Context(), allocKey("b"))
	require.ErrorContains(t, err, names[0])

	fresh, err := pool.Open(t.Context(), open(t, server.config(writer), kube.Options{Namespace: namespace}), labPool, nil)
	require.NoError(t, err)
	for _, look := range []func(context.Context) (pool.Report, error){fresh.Verify, fresh.Repair, fresh.Verify} {
		report, err := look(t.Context())
		require.NoError(t, err)
		require.Equal(t, 2, report.Allocations)
		for _, name := range names {
			require.Contains(t, report.String(), name)
		}
	}
	for range 3 {
		a, err := fresh.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint("e-", len(owners))})
		require.NoError(t, err)
		require.GreaterOrEqual(t, a.Prefixes[0].Addr().As4()[3], byte(4), "what they may hold stays taken")
		owners = append(owners, "")
	}
	other := createOther(t, s)
	report, err := other.Verify(t.Context())
	require.NoError(t, err)
	require.NotContains(t, report.String(), names[0], "it is not of this pool")
}

// createOther creates the pool office.
func createOther(t *testing.T, s store.Store) *pool.Pool {
	t.Helper()
	ranges, err := cidr.ParseRanges("10.1.0.0/24")
	require.NoError(t, err)
	p, err := pool.Create(t.Context(), s, "office", pool.Spec{Ranges: ranges}, nil)
	require.NoError(t, err)
	return p
}

// TestPatterns: the server refuses what the driver could not read.
func TestPatterns(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/24", "2001:db8::/64")
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "a", Policy: pool.RequireDualStack})
	require.NoError(t, err)
	for _, patch := range []string{
		`{"spec":{"prefixes":["10.0.0.256/32"]}}`, `{"spec":{"prefixes":["10.0.0.1/33"]}}`,
		`{"spec":{"prefixes":["10.0.0.1"]}}`, `{"spec":{"prefixes":["2001:db8::/129"]}}`, `{"spec":{"prefixes":["x"]}}`,
		`{"spec":{"created":"yesterday"}}`, `{"spec":{"expires":"2026-13-01T00:00:00Z"}}`,
		`{"pending":{"head":"lab"}}`, `{"pending":{"head":"pods/lab"}}`, `{"log":[{"id":"x","revision":1,"objects":["x"]}]}`,
		`{"key":{"kind":""}}`,
	} {
		code, text := server.kubectl(t, namespace, http.MethodPatch, "ipallocations/lab.a", patch)
		require.Equal(t, http.StatusUnprocessableEntity, code, "%s: %s", patch, text)
	}
}

// TestNamespaces: pools of one name in two namespaces are two pools, and a namespace that cannot be is refused.
func TestNamespaces(t *testing.T) {
	server := sharedServer(t)
	for _, name := range []string{"first", "second"} {
		s := open(t, server.config(writer), kube.Options{Namespace: newNamespace()})
		p := createPool(t, s, "10.0.0.0/24")
		a, err := p.Allocate(t.Context(), pool.Claim{Owner: name})
		require.NoError(t, err)
		require.Equal(t, "10.0.0.0", a.Prefixes[0].Addr().String())
		require.Equal(t, map[string]string{name: "10.0.0.0"}, requireHeld(t, s, nil))
	}
	for _, namespace := range []string{
		"Lab", "a.b", "a/b", "-a", "a_b", strings.Repeat("a", 64), "ns\x00", strings.Repeat("é", 1000),
	} {
		_, err := kube.Open(t.Context(), server.config(writer), &kube.Options{Namespace: namespace})
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, fmt.Sprintf("%.80q", namespace))
		require.Less(t, len(err.Error()), 1000)
	}
}
