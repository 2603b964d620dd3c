package alarm_test

import (
	"context"
	"fmt"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/alarm"
	"github.com/ipalloc/ipalloc/store"
)

// The program is told once when the pool runs low, and once when it has room again.
func Example() {
	ctx, db := context.Background(), store.NewMemory()
	alarms, err := alarm.New(func(e alarm.Event) { fmt.Println(e) }, alarm.Used(90, 50), alarm.Free(1, 1))
	if err != nil {
		panic(err)
	}
	spec, err := pool.ParseSpec("192.0.2.1-192.0.2.10")
	if err != nil {
		panic(err)
	}
	p, err := pool.Ensure(ctx, db, "pods", spec, pool.Update, &pool.Options{Observer: alarms})
	if err != nil {
		panic(err)
	}
	for i := range 10 {
		if _, err := p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint("pod-", i)}); err != nil {
			panic(err)
		}
	}
	for i := range 10 {
		if _, err := p.Release(ctx, pool.Held{Owner: fmt.Sprint("pod-", i)}); err != nil {
			panic(err)
		}
	}
	// Output:
	// pool "pods": IPv4: raised: used 90 % (cleared at 50 %); 1 of 10 addresses are free
	// pool "pods": IPv4: raised: fewer than 1 free (cleared at 1); 0 of 10 addresses are free
	// pool "pods": IPv4: cleared: fewer than 1 free (cleared at 1); 1 of 10 addresses are free
	// pool "pods": IPv4: cleared: used 90 % (cleared at 50 %); 5 of 10 addresses are free
}

// A program that starts looks at its pool once, and at pools that others use as often as it wants to know of them.
func ExampleAlarms_Look() {
	ctx, db := context.Background(), store.NewMemory()
	spec, err := pool.ParseSpec("192.0.2.1")
	if err != nil {
		panic(err)
	}
	other, err := pool.Create(ctx, db, "pods", spec, nil) // which nobody observes
	if err != nil {
		panic(err)
	}
	if _, err := other.Allocate(ctx, pool.Claim{Owner: "pod-1"}); err != nil {
		panic(err)
	}

	alarms, err := alarm.New(func(e alarm.Event) { fmt.Println(e) }, alarm.Used(100, 99))
	if err != nil {
		panic(err)
	}
	for info, err := range pool.List(ctx, db) {
		if err != nil {
			panic(err)
		}
		alarms.Look(info)
	}
	// Output: pool "pods": IPv4: raised: used 100 % (cleared at 99 %); 0 of 1 addresses are free
}
