package kubetest_test

import (
	"context"
	"fmt"
	"log"
	"net/netip"
	"os"
	"testing"

	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/kube"
)

func Example() {
	config, done := cluster()
	defer done()
	// In a cluster: config, err := rest.InClusterConfig(). With controller-runtime: config := manager.GetConfig().
	addr, err := allocate(context.Background(), config)
	fmt.Println(addr, err)
	// Output:
	// 10.0.0.1 <nil>
}

// allocate allocates an address of the pool nodes, which it creates if need be.
func allocate(ctx context.Context, config *rest.Config) (netip.Addr, error) {
	s, err := kube.Open(ctx, config, &kube.Options{Namespace: "network"})
	if err != nil {
		return netip.Addr{}, err
	}
	defer s.Close()
	ranges, err := cidr.ParseRanges("10.0.0.0/24")
	if err != nil {
		return netip.Addr{}, err
	}
	nodes, err := pool.Ensure(ctx, s, "nodes", pool.Spec{Ranges: ranges}, pool.Keep, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	a, err := nodes.Allocate(ctx, pool.Claim{Owner: "node-7"})
	if err != nil {
		return netip.Addr{}, err
	}
	return a.Prefixes[0].Addr(), nil
}

// cluster starts an API server for the example.
func cluster() (config *rest.Config, done func()) {
	t := &exampleTB{}
	dir, err := os.MkdirTemp("", "ipalloc-example")
	if err != nil {
		log.Fatal(err)
	}
	s := startServer(t, dir)
	return s.config(writer), func() {
		s.Close()
		os.RemoveAll(dir)
	}
}

// exampleTB is the t of a function that has none.
type exampleTB struct{ testing.TB }

func (*exampleTB) Helper()                           {}
func (*exampleTB) Errorf(format string, args ...any) { log.Printf(format, args...) }
func (*exampleTB) FailNow()                          { os.Exit(1) }
