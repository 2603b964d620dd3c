package kubetest_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// forbid lets the server forbid one verb on one resource, until the end of the test or until it is allowed.
func (s *server) forbid(t *testing.T, verb, resource string) (allow func()) {
	forbidden := func(a authorizer.Attributes) bool { return a.GetVerb() == verb && a.GetResource() == resource }
	s.rules.forbid.Store(&forbidden)
	allow = func() { s.rules.forbid.Store(nil) }
	t.Cleanup(allow)
	return allow
}

// TestMissingRight: a user that may write, but has not all rights, is told by Open which one is missing.
func TestMissingRight(t *testing.T) {
	server := sharedServer(t)
	for _, resource := range []string{"ippools", "ipallocations", "iprecords"} {
		for _, verb := range []string{"create", "update", "delete"} {
			t.Run(verb+" "+resource, func(t *testing.T) {
				count, namespace := &counter{}, newNamespace()
				allow := server.forbid(t, verb, resource)
				_, err := kube.Open(t.Context(), count.wrap(server.config(writer)), &kube.Options{Namespace: namespace})
				require.ErrorIs(t, err, kube.ErrForbidden)
				require.ErrorContains(t, err, verb+" "+resource)
				require.ErrorContains(t, err, fmt.Sprintf("namespace %q", namespace))
				require.ErrorContains(t, err, writer)
				require.Len(t, count.take(), 9)
				allow()
				requireSettled(t, server, namespace, 0)
				open(t, server.config(writer), kube.Options{Namespace: namespace})
			})
		}
	}
	t.Run("get", func(t *testing.T) {
		server.forbid(t, "get", "ippools")
		s := open(t, server.config(writer), kube.Options{Namespace: newNamespace()})
		_, err := s.Get(t.Context(), poolKey("lab"))
		require.ErrorIs(t, err, kube.ErrForbidden)
		require.ErrorContains(t, err, "get ippools")
	})
}

// TestUnchecked: an unchecked Open sends nothing. A commit says what Open would have found, and has changed nothing.
func TestUnchecked(t *testing.T) {
	server, count := sharedServer(t), &counter{}
	namespace := newNamespace()
	allow := server.forbid(t, "create", "ippools")
	s := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: namespace, Unchecked: true})
	require.Empty(t, count.take())
	spec, err := pool.ParseSpec("10.0.0.0/24")
	require.NoError(t, err)
	_, err = pool.Create(t.Context(), s, "lab", spec, nil)
	require.ErrorIs(t, err, kube.ErrForbidden)
	require.ErrorContains(t, err, "create ippools")
	requireSettled(t, server, namespace, 0)
	allow()
	createPool(t, s, "10.0.0.0/24")
}

// TestWithdrawnRight: where a right is withdrawn that only the settling needs, the next commit that needs it says so,
// and costs no more for what was released before.
func TestWithdrawnRight(t *testing.T) {
	server, count := sharedServer(t), &counter{}
	for _, verb := range []string{"update", "delete"} {
		t.Run(verb, func(t *testing.T) {
			s := open(t, count.wrap(server.config(writer)), kube.Options{Namespace: newNamespace()})
			p := createPool(t, s, "10.0.0.0/24")
			cycle := func(owner string) error {
				if _, err := p.Allocate(t.Context(), pool.Claim{Owner: owner}); err != nil {
					return err
				}
				_, err := p.Release(t.Context(), pool.Held{Owner: owner})
				return err
			}
			require.NoError(t, cycle("before"))
			allow := server.forbid(t, verb, "ipallocations")
			var refused error
			var costs []int // with what is done behind, if the machine pauses for long enough
			for i := range 30 {
				count.take()
				if err := cycle(fmt.Sprint("owner-", i)); err != nil {
					refused, costs = err, append(costs, len(count.take()))
				}
			}
			t.Logf("requests of each cycle that was refused: %v", costs)
			require.NotEmpty(t, costs)
			slices.Sort(costs)
			require.Less(t, costs[len(costs)*2/3], 12, "most of the cycles")
			require.ErrorIs(t, refused, kube.ErrForbidden)
			require.ErrorContains(t, refused, verb+" ipallocations")
			require.NotErrorIs(t, refused, store.ErrUnknown)
			allow()
			// What was under way meanwhile may still be refused, and the next commit says so, once.
			err := cycle("after")
			for i := 0; i < 8 && errors.Is(err, kube.ErrForbidden); i++ {
				err = cycle("after")
			}
			require.NoError(t, err)
			_, err = s.Sweep(t.Context())
			require.NoError(t, err)
			for owner := range requireHeld(t, s, nil) { // whose release was refused
				_, err := p.Release(t.Context(), pool.Held{Owner: owner})
				require.NoError(t, err)
			}
			require.Empty(t, requireHeld(t, s, nil))
		})
	}
}
