package kubetest_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// counter notes the requests that pass.
type counter struct {
	mu   sync.Mutex
	seen []string
}

func (c *counter) wrap(config *rest.Config) *rest.Config {
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			c.mu.Lock()
			c.seen = append(c.seen, r.Method)
			c.mu.Unlock()
			return next.RoundTrip(r)
		})
	})
	return config
}

func (c *counter) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen := c.seen
	c.seen = nil
	return seen
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// table is what kubectl get prints.
type table struct {
	ColumnDefinitions []metav1.TableColumnDefinition
	Rows              []struct{ Cells []any }
}

func printed(t testing.TB, server *server, namespace, resource string) (rows []map[string]any) {
	t.Helper()
	config := server.config(admin)
	client, err := rest.HTTPClientFor(config)
	require.NoError(t, err)
	r, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/apis/%s/%s/namespaces/%s/%s",
		config.Host, kube.Group, kube.Version, namespace, resource), nil)
	require.NoError(t, err)
	r.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	answer, err := client.Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	var got table
	require.NoError(t, json.NewDecoder(answer.Body).Decode(&got))
	for _, row := range got.Rows {
		cells := map[string]any{}
		for i, c := range got.ColumnDefinitions {
			cells[c.Name] = row.Cells[i]
		}
		rows = append(rows, cells)
	}
	return rows
}

// requireSettled checks that all objects are in their final form, and that there are so many.
func requireSettled(t testing.TB, server *server, namespace string, n int) {
	t.Helper()
	found := 0
	for _, resource := range []string{"ippools", "ipallocations", "iprecords"} {
		for _, row := range printed(t, server, namespace, resource) {
			require.Nil(t, row["Pending"], "%v", row)
			found++
		}
	}
	require.Equal(t, n, found)
}

// TestPrinted looks at what kubectl get shows.
func TestPrinted(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	p := createPool(t, s, "10.0.0.0/24", "2001:db8::/64")
	_, err := p.Allocate(t.Context(), pool.Claim{Owner: "ns/pod-1", Policy: pool.RequireDualStack})
	require.NoError(t, err)

	pools := printed(t, server, namespace, "ippools")
	require.Len(t, pools, 1)
	want := map[string]any{
		"Name": "lab", "Pool": "lab", "Families": "IPv4,IPv6", "Total": "256,18446744073709551616", "Used": "1,1",
		"Free": "255,18446744073709551615", "Reserved": "0,0", "Cooling": "0,0",
	}
	require.Subset(t, pools[0], want)

	held := printed(t, server, namespace, "ipallocations")
	require.Len(t, held, 1)
	require.Subset(t, held[0],
		map[string]any{"Pool": "lab", "Owner": "ns/pod-1", "Addresses": "10.0.0.0,2001:db8::", "Kind": "allocation"})
	require.NotEmpty(t, held[0]["State"])
	require.Contains(t, held[0]["Name"], "ns-pod-1--")
}

// TestRoles: the writer's role is enough for all that a Store does (all tests use it), the reader's for what changes
// nothing, and neither for more; other users see the server's refusal.
func TestRoles(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	s := open(t, server.config(writer), kube.Options{Namespace: namespace})
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "here"),
		store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
	require.NoError(t, err)

	r := open(t, server.config(reader), kube.Options{Namespace: namespace})
	got, err := r.Get(t.Context(), allocKey("x"))
	require.NoError(t, err)
	require.Equal(t, head.Revision, got.Revision)
	got, err = r.Watch(t.Context(), poolKey("lab"), 0)
	require.NoError(t, err)
	require.Equal(t, head.Revision, got.Revision)
	_, err = storetest.CommitOne(t.Context(), r, got,
		store.Write{Op: store.Create, Record: record(allocKey("y"), "here")})
	require.ErrorIs(t, err, kube.ErrForbidden)
	require.ErrorContains(t, err, writer)
	require.NotErrorIs(t, err, store.ErrUnknown)

	_, err = open(t, server.config(nobody), kube.Options{Namespace: namespace}).Get(t.Context(), allocKey("x"))
	require.ErrorIs(t, err, kube.ErrForbidden)
	require.ErrorContains(t, err, reader)
	require.NotErrorIs(t, err, store.ErrNotFound)
}

// TestNotInstalled asks a server that does not know the resources: that is not a store without records.
func TestNotInstalled(t *testing.T) {
	server := sharedServer(t)
	config := server.config(admin)
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			r = r.Clone(r.Context())
			r.URL.Path = "/apis/other.example.com/v1" + r.URL.Path[len("/apis/"+kube.Group+"/"+kube.Version):]
			return next.RoundTrip(r)
		})
	})
	_, err := kube.Open(t.Context(), config, nil)
	require.ErrorIs(t, err, kube.ErrNotInstalled)
	// A handle from before the resources were removed.
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("dryRun") != "" {
				return nil, errLost
			}
			return next.RoundTrip(r)
		})
	})
	s := open(t, config, kube.Options{})
	_, err = s.Get(t.Context(), allocKey("x"))
	require.ErrorIs(t, err, kube.ErrNotInstalled)
	require.NotErrorIs(t, err, store.ErrNotFound)
	_, err = storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
	require.ErrorIs(t, err, kube.ErrNotInstalled)
	for _, err := range s.List(context.Background(), store.KindPool, "") {
		require.ErrorIs(t, err, kube.ErrNotInstalled)
	}
}
