package pool_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// A lease ends unless it is renewed. Nothing has to run for that: who needs the address next gets it.
func ExamplePool_Renew() {
	ctx := context.Background()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	p := must(pool.New(
		pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.10-192.0.2.11"))},
		&pool.Options{Clock: func() time.Time { return now }},
	))
	for _, client := range []string{"laptop", "phone"} {
		must(p.Allocate(ctx, pool.Claim{Owner: client, TTL: time.Hour}))
	}

	now = now.Add(50 * time.Minute)
	renewed := must(p.Renew(ctx, pool.Held{Owner: "laptop"}, time.Hour))
	fmt.Println("the laptop has it until", renewed.Expires.Format(time.TimeOnly))
	_, err := p.Allocate(ctx, pool.Claim{Owner: "tablet", TTL: time.Hour})
	fmt.Println(strings.ReplaceAll(err.Error(), "; ", "\n"))

	now = now.Add(10 * time.Minute)
	fmt.Println("the tablet gets", must(p.Allocate(ctx, pool.Claim{Owner: "tablet", TTL: time.Hour})).Addrs()[0])
	_, err = p.Renew(ctx, pool.Held{Owner: "phone"}, time.Hour)
	fmt.Println(err)
	// Output:
	// the laptop has it until 13:50:00
	// allocate for "tablet": exhausted: no IPv4 /32 is free
	// free addresses: 0 of 2
	// the next one may be free at 2026-03-01T13:00:00Z
	// the tablet gets 192.0.2.11
	// renew for "phone": not found
}

func ExamplePool_Reap() {
	ctx := context.Background()
	now := time.Now()
	p := must(pool.New(
		pool.Spec{Ranges: must(cidr.ParseRanges("192.0.2.10-192.0.2.19"))},
		&pool.Options{Clock: func() time.Time { return now }},
	))
	must(p.Allocate(ctx, pool.Claim{Owner: "laptop", TTL: time.Hour}))
	now = now.Add(2 * time.Hour)

	fmt.Println("used:", must(p.Stats(ctx)).Of(pool.IPv4).Used)
	fmt.Println("reaped:", must(p.Reap(ctx)))
	fmt.Println("used:", must(p.Stats(ctx)).Of(pool.IPv4).Used)
	// Output:
	// used: 1
	// reaped: 1
	// used: 0
}

// What was released is withheld for a time, since others may still know its last owner by it. That owner gets it back.
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
	var exhausted *pool.ExhaustedError
	if errors.As(err, &exhausted) {
		fmt.Println(exhausted.Cooling, "cools down until", exhausted.Next.Format(time.TimeOnly))
	}
	fmt.Println(must(p.Allocate(ctx, pool.Claim{Owner: "vm-1"})).Addrs()[0])
	// Output:
	// 1 cools down until 12:05:00
	// 192.0.2.10
}
