package pool_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// The life of a lease: granted, renewed, released, granted again within the cooldown, and ended. No loop is needed.
func ExamplePool_Renew() {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	spec := must(pool.ParseSpec("192.0.2.10-192.0.2.11"))
	spec.Cooldown = time.Hour
	p := must(pool.New(spec, &pool.Options{Clock: func() time.Time { return now }}))
	lease := func(client string) {
		a, err := p.Allocate(ctx, pool.Claim{Owner: client, TTL: time.Hour})
		fmt.Println(client, a.Addrs(), "until", a.Expires.Format(time.TimeOnly), err)
	}

	lease("laptop")
	now = now.Add(50 * time.Minute)
	renewed := must(p.Renew(ctx, pool.Held{Owner: "laptop"}, time.Hour))
	fmt.Println("renewed until", renewed.Expires.Format(time.TimeOnly))

	must(p.Release(ctx, pool.Held{Owner: "laptop"}))
	lease("phone")  // does not get the laptop's address, which cools down
	lease("laptop") // gets its own address back

	now = now.Add(time.Hour) // both leases end, and the next claim takes one of them
	lease("tablet")
	_, err := p.Renew(ctx, pool.Held{Owner: "laptop"}, time.Hour)
	fmt.Println(err)
	// Output:
	// laptop [192.0.2.10] until 13:00:00 <nil>
	// renewed until 13:50:00
	// phone [192.0.2.11] until 13:50:00 <nil>
	// laptop [192.0.2.10] until 13:50:00 <nil>
	// tablet [192.0.2.10] until 14:50:00 <nil>
	// renew for "laptop": not found
}

func ExamplePool_Expire() {
	ctx := context.Background()
	now := time.Now()
	p := must(pool.New(
		pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.10-192.0.2.19"))},
		&pool.Options{Clock: func() time.Time { return now }},
	))
	must(p.Allocate(ctx, pool.Claim{Owner: "laptop", TTL: time.Hour}))
	now = now.Add(2 * time.Hour)

	fmt.Println("used:", must(p.Info(ctx)).StatsOf(pool.IPv4).Used)
	fmt.Println("expired:", must(p.Expire(ctx)))
	fmt.Println("used:", must(p.Info(ctx)).StatsOf(pool.IPv4).Used)
	// Output:
	// used: 1
	// expired: 1
	// used: 0
}

// A released address cools down: for a time, only its last owner gets it.
func ExampleSpec_cooldown() {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := must(pool.New(
		pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.10")), Cooldown: 5 * time.Minute},
		&pool.Options{Clock: func() time.Time { return now }},
	))
	must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"}))
	must(p.Release(ctx, pool.Held{Owner: "vm-1"}))

	_, err := p.Allocate(ctx, pool.Claim{Owner: "vm-2"})
	var exhausted *pool.Error
	if errors.As(err, &exhausted) {
		fmt.Println(exhausted.Cooling, "cools down until", exhausted.Next.Format(time.TimeOnly))
	}
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"})).Addrs()[0])
	// Output:
	// 1 cools down until 12:05:00
	// 192.0.2.10
}
