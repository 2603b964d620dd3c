package clusterapi_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// A pool of the provider becomes a pool of this library, of which a machine gets an address.
func ExampleParse() {
	pools, err := clusterapi.Parse([]byte(`
apiVersion: ipam.cluster.x-k8s.io/v1alpha2
kind: InClusterIPPool
metadata:
  name: machines
  namespace: team-a
spec:
  addresses: [192.0.2.0/26]
  excludedAddresses: [192.0.2.2-192.0.2.9]
  prefix: 24
  gateway: 192.0.2.1
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, db := context.Background(), store.NewMemory()
	for _, p := range pools {
		made, err := pool.Ensure(ctx, db, p.StoreName(), p.Spec, pool.Update, nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		a, err := made.Allocate(ctx, pool.Claim{Owner: "the claim's UID"})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s: %v/%d via %v\n", p.StoreName(), a.Prefixes[0].Addr(), p.Prefix, p.Gateway)
	}
	// Output:
	// team-a/machines: 192.0.2.10/24 via 192.0.2.1
}

// All that is wrong is reported at once.
func ExampleParse_errors() {
	_, err := clusterapi.Parse([]byte(`
apiVersion: ipam.cluster.x-k8s.io/v1alpha2
kind: InClusterIPPool
metadata: {name: machines}
spec:
  addresses: [192.0.2.0/26, 2001:db8::1]
  prefix: 33
`))
	for _, wrong := range config.FieldErrors(err) {
		fmt.Println(wrong.Line, wrong.Field, wrong.Value)
	}
	var first *config.FieldError
	if errors.As(err, &first) {
		fmt.Println(first)
	}
	// Output:
	// 7 spec.prefix "33"
	// 6 spec.addresses[1] "2001:db8::1"
	// spec.prefix: "33" is out of range, want 1 to 32, the length of the addresses' IPv4 subnet
}
