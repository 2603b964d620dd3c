package poolfake_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/poolfake"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// An agent is the program under test. It gives containers addresses from a pool.
type agent struct{ pool *pool.Pool }

func newAgent(s store.Store, options *pool.Options) *agent {
	spec, err := pool.ParseSpec("192.0.2.0/24")
	if err != nil {
		panic(err)
	}
	p, err := pool.Ensure(context.Background(), s, "pods", spec, pool.Update, options)
	if err != nil {
		panic(err)
	}
	return &agent{p}
}

// add returns what it tells the container's runtime.
func (a *agent) add(container string) string {
	got, err := a.pool.Allocate(context.Background(), pool.Claim{Owner: container, TTL: time.Hour})
	switch {
	case err == nil:
		return got.Addrs()[0].String()
	case errors.Is(err, pool.ErrExhausted):
		return "no address is free"
	case errors.Is(err, pool.ErrBusy), errors.Is(err, store.ErrUnknown):
		return "try again"
	default:
		return "out of order"
	}
}

// A test gives the program a store and options, and then decides what happens.
func Example() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	fmt.Println(agent.add("a"))

	fake.Inject(poolfake.Unreachable)
	fmt.Println(agent.add("b"))
	fake.Inject(nil)
	fmt.Println(agent.add("b"))
	// Output:
	// 192.0.2.1
	// out of order
	// 192.0.2.2
}

// Leases end when the test says so.
func ExampleFake_Advance() {
	fake := poolfake.New(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	agent := newAgent(fake.Store(), fake.Options())
	agent.add("a")
	if err := fake.Fill(context.Background(), "pods"); err != nil {
		panic(err)
	}
	fmt.Println(agent.add("b"))
	fake.Advance(time.Hour)
	fmt.Println(fake.Now().Format(time.TimeOnly), agent.add("b"))
	// Output:
	// no address is free
	// 13:00:00 192.0.2.1
}

// The pool is full for everyone, until it is emptied.
func ExampleFake_Fill() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	agent.add("a")
	if err := fake.Fill(context.Background(), "pods"); err != nil {
		panic(err)
	}
	fmt.Println(agent.add("a"), "is what it has already")
	fmt.Println(agent.add("b"))

	if err := fake.Empty(context.Background(), "pods"); err != nil {
		panic(err)
	}
	fmt.Println(agent.add("b"))
	// Output:
	// 192.0.2.1 is what it has already
	// no address is free
	// 192.0.2.2
}

// Only some claims are refused: here the second one.
func ExampleFake_Refuse() {
	fake, claims := poolfake.New(time.Now()), 0
	agent := newAgent(fake.Store(), fake.Options())
	fake.Refuse(func(string, pool.Claim) bool {
		claims++
		return claims == 2
	})
	fmt.Println(agent.add("a"))
	fmt.Println(agent.add("b"))
	fmt.Println(agent.add("c"))
	// Output:
	// 192.0.2.1
	// no address is free
	// 192.0.2.2
}

// Any faults of package faults will do: here the second commit is refused.
func ExampleFake_Inject() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	commits := 0
	fake.Inject(func(call faults.Call) faults.Fault {
		if call.Method != faults.Commit {
			return faults.Fault{}
		}
		if commits++; commits == 2 {
			return faults.Fault{Effect: faults.Refuse, Err: errors.New("disk full")}
		}
		return faults.Fault{}
	})
	fmt.Println(agent.add("a"), agent.add("b"), agent.add("c"))
	// Output: 192.0.2.1 out of order 192.0.2.2
}

// A program that tries again after a call of unknown outcome gets what that call has granted.
func ExampleFake_InjectNext() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	fake.InjectNext(poolfake.Unknown(true))
	fmt.Println(agent.add("a"))
	fmt.Println(agent.add("a"))
	fmt.Println(agent.add("b"))
	// Output:
	// try again
	// 192.0.2.1
	// 192.0.2.2
}

// Others are always faster.
func ExampleBusy() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	fake.InjectNext(poolfake.Busy)
	fmt.Println(agent.add("a"))
	fmt.Println(agent.add("a"))
	// Output:
	// try again
	// 192.0.2.1
}

// The store answers late, and the program's context ends before that.
func ExampleSlow() {
	fake := poolfake.New(time.Now())
	agent := newAgent(fake.Store(), fake.Options())
	fake.Inject(poolfake.Slow(time.Hour))
	ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	_, err := agent.pool.Info(ctx)
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}
