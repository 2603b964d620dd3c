package kubetest_test

import (
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/internal/pooltest"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// envWorld has what a process of TestWorld must know of its server, as JSON.
const envWorld = "IPALLOC_KUBE_WORLD"

// way is how such a process reaches its store.
type way struct {
	Host      string
	CA        []byte
	Namespace string
}

func (w way) open(ctx context.Context) (store.Store, error) {
	config := &rest.Config{
		Host: w.Host, BearerToken: writer, TLSClientConfig: rest.TLSClientConfig{CAData: w.CA}, QPS: -1,
	}
	return kube.Open(ctx, config, &kube.Options{Namespace: w.Namespace})
}

// TestWorld has processes work on pools of one network, kills and stops them, and breaks their connections.
func TestWorld(t *testing.T) {
	if text := os.Getenv(envWorld); text != "" {
		var w way
		require.NoError(t, json.Unmarshal([]byte(text), &w))
		pooltest.WorkInWorld(t, w.open)
		return
	}
	if testing.Short() {
		t.Skip("starts and kills processes")
	}
	server, namespace := sharedServer(t), newNamespace()
	at := func(addr string) way { return way{"https://" + addr, server.CA, namespace} }
	pooltest.World{
		Open:    at(server.Addr).open,
		Network: func(t *testing.T) pooltest.Network { return proxy.New(t, server.Addr) },
		Child: func(addr string) []string {
			text, err := json.Marshal(at(addr))
			require.NoError(t, err)
			return []string{envWorld + "=" + string(text)}
		},
	}.Run(t)
}
