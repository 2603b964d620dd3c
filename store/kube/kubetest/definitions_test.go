package kubetest_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// without takes a field out of the definition of a resource, or puts all fields back if field is empty, and waits until
// the server goes by that.
func (s *server) without(t *testing.T, resource, field string) {
	t.Helper()
	c, err := clientset.NewForConfig(s.config(admin))
	require.NoError(t, err)
	definitions := c.ApiextensionsV1().CustomResourceDefinitions()
	now, err := definitions.Get(context.Background(), resource+"."+kube.Group, metav1.GetOptions{})
	require.NoError(t, err)
	now.Spec = definition(t, resource)
	fields, parts := now.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties, strings.Split(field, ".")
	for _, part := range parts[:len(parts)-1] {
		next := fields[part]
		if fields = next.Properties; next.Items != nil {
			fields = next.Items.Schema.Properties
		}
	}
	delete(fields, parts[len(parts)-1])
	_, err = definitions.Update(context.Background(), now, metav1.UpdateOptions{})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(t *assert.CollectT) {
		_, err := kube.Open(context.Background(), s.config(writer), nil)
		if field == "" {
			require.NoError(t, err)
		} else {
			require.ErrorIs(t, err, kube.ErrDefinitions)
		}
	}, 20*time.Second, 20*time.Millisecond)
}

// definition returns the specification of a resource in the manifest.
func definition(t *testing.T, resource string) apiextensions.CustomResourceDefinitionSpec {
	t.Helper()
	for _, text := range strings.Split(kube.CRDs(), "\n---\n")[1:] {
		var crd apiextensions.CustomResourceDefinition
		require.NoError(t, yaml.UnmarshalStrict([]byte(text), &crd))
		if crd.Spec.Names.Plural == resource {
			return crd.Spec
		}
	}
	require.Fail(t, "no such resource")
	return apiextensions.CustomResourceDefinitionSpec{}
}

// lenient lets the server ignore what it does not know, as those before Kubernetes 1.25 do.
func lenient(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			query := r.URL.Query()
			query.Set("fieldValidation", "Ignore")
			r.URL.RawQuery = query.Encode()
			return next.RoundTrip(r)
		})
	})
	return config
}

// TestDroppedField: where a definition lacks a field, Open says so, and what to apply; and a handle from before is not
// told that a commit took effect of which the server dropped a part.
func TestDroppedField(t *testing.T) {
	server := ownServer(t)
	for _, c := range []struct{ resource, field string }{
		{"ippools", "log"}, {"ippools", "last"}, {"ippools", "turn"}, {"ippools", "show"}, {"ipallocations", "pending"},
		{"ipallocations", "pending.before"}, {"ipallocations", "spec.prefixes"}, {"ipallocations", "spec"},
		{"iprecords", "log.objects"}, {"iprecords", "aborts"},
	} {
		t.Run(c.resource+" "+c.field, func(t *testing.T) {
			namespace := newNamespace()
			strict := open(t, server.config(writer), kube.Options{Namespace: namespace})
			old := open(t, lenient(server.config(writer)), kube.Options{Namespace: namespace})
			head, err := storetest.CommitOne(t.Context(), strict, record(poolKey("lab"), "old"),
				store.Write{Op: store.Create, Record: held("x", "old", "10.0.0.1/32")})
			require.NoError(t, err)
			head, err = storetest.CommitOne(t.Context(), strict, head)
			require.NoError(t, err)
			server.without(t, c.resource, c.field)
			for _, config := range []*rest.Config{server.config(writer), lenient(server.config(writer))} {
				_, err := kube.Open(t.Context(), config, &kube.Options{Namespace: namespace})
				require.ErrorIs(t, err, kube.ErrDefinitions)
				require.ErrorContains(t, err, c.resource)
				require.ErrorContains(t, err, "apply the manifests")
			}
			open(t, server.config(reader), kube.Options{Namespace: namespace}) // for reads it does not matter
			for _, s := range []*kube.Store{strict, old} {
				next := head
				next.State = "new"
				_, err := storetest.CommitOne(t.Context(), s, next,
					store.Write{Op: store.Put, Record: held("x", "new", "10.0.0.1/32")},
					store.Write{Op: store.Create, Record: held("y", "new", "10.0.0.2/32")})
				if err == nil { // nothing in this commit needs the field
					require.Contains(t, []string{"turn", "aborts", "log.objects", "show"}, c.field)
					head, err = s.Get(t.Context(), head.Key)
					require.NoError(t, err)
					head, err = storetest.CommitOne(t.Context(), s, head,
						store.Write{Op: store.Delete, Record: held("y", "", "10.0.0.2/32")})
					require.NoError(t, err)
					continue
				}
				require.ErrorIs(t, err, kube.ErrDefinitions)
				if s == strict || c.resource != "ippools" {
					require.NotErrorIs(t, err, store.ErrUnknown)
					got, err := s.Get(t.Context(), head.Key)
					require.NoError(t, err)
					require.Equal(t, head, got)
					_, err = s.Get(t.Context(), allocKey("y"))
					require.ErrorIs(t, err, store.ErrNotFound)
				}
			}
			server.without(t, c.resource, "")
		})
	}
}

func held(name, state, prefix string) store.Record {
	r := record(allocKey(name), state)
	r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(prefix))
	return r
}

// TestPoolDespiteOldDefinitions: a pool on such a server grants nothing, and goes on once the manifests are applied.
func TestPoolDespiteOldDefinitions(t *testing.T) {
	server, namespace := ownServer(t), newNamespace()
	p := createPool(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), "10.0.0.0/24")
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "first"})
	require.NoError(t, err)
	server.without(t, "ippools", "log")
	for range 3 {
		_, err = p.Allocate(t.Context(), pool.Claim{Owner: "second"})
		require.ErrorIs(t, err, kube.ErrDefinitions)
		require.NotErrorIs(t, err, store.ErrUnknown)
	}
	server.without(t, "ippools", "")
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "second"})
	require.NoError(t, err)
	require.Len(t, requireHeld(t, open(t, server.config(writer), kube.Options{Namespace: namespace}), nil), 2)
}
