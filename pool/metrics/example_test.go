package metrics_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/store"
)

// One Metrics observes the pools of a process and reads what is left in them at each scrape.
func Example() {
	ctx, db := context.Background(), store.NewMemory()
	m := metrics.New(nil)
	m.AddStore(db)
	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer, for promhttp.Handler
	registry.MustRegister(m)

	spec, err := pool.ParseSpec("192.0.2.0/29")
	if err != nil {
		fmt.Println(err)
		return
	}
	p, err := pool.Ensure(ctx, db, "pods", spec, pool.Keep, &pool.Options{Observer: m})
	if err != nil {
		fmt.Println(err)
		return
	}
	for i := range 7 {
		_, err = p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint("pod-", i)})
	}
	fmt.Println("exhausted:", errors.Is(err, pool.ErrExhausted))

	families, err := registry.Gather()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, family := range families {
		if name := family.GetName(); name == "ipalloc_addresses" || name == "ipalloc_calls_total" {
			if _, err := expfmt.MetricFamilyToText(os.Stdout, family); err != nil {
				fmt.Println(err)
			}
		}
	}
	// Output:
	// exhausted: true
	// # HELP ipalloc_addresses Addresses of the pool by their state.
	// # TYPE ipalloc_addresses gauge
	// ipalloc_addresses{family="IPv4",pool="pods",state="cooling"} 0
	// ipalloc_addresses{family="IPv4",pool="pods",state="free"} 0
	// ipalloc_addresses{family="IPv4",pool="pods",state="kept"} 0
	// ipalloc_addresses{family="IPv4",pool="pods",state="out_of_range"} 0
	// ipalloc_addresses{family="IPv4",pool="pods",state="reserved"} 2
	// ipalloc_addresses{family="IPv4",pool="pods",state="used"} 6
	// # HELP ipalloc_calls_total Calls that allocate, release or renew, by how they ended.
	// # TYPE ipalloc_calls_total counter
	// ipalloc_calls_total{call="allocate",pool="pods",result="exhausted"} 1
	// ipalloc_calls_total{call="allocate",pool="pods",result="ok"} 6
}
