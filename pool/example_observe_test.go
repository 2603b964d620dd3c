package pool_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// tracing makes spans of calls and commits. With a real tracer, startSpan and endSpan are its own, and what it keeps in
// the context reaches the store's client, whose spans are then within those of the commits.
type tracing struct {
	pool.NoObserver // for methods that later versions may add
}

// spanName is the key of the present span's name, in a tiny tracer that prints spans when they end.
type spanName struct{}

func startSpan(ctx context.Context, name string) context.Context {
	if parent, ok := ctx.Value(spanName{}).(string); ok {
		name = parent + " > " + name
	}
	return context.WithValue(ctx, spanName{}, name)
}

func endSpan(ctx context.Context, attributes ...any) {
	fmt.Printf("%v: %v", ctx.Value(spanName{}), fmt.Sprintln(attributes...))
}

func (tracing) BeginCall(ctx context.Context, call pool.Call) context.Context {
	return startSpan(ctx, call.Method+" in "+call.Pool)
}

func (tracing) EndCall(ctx context.Context, call pool.Call) {
	var attributes []any
	for i, step := range call.Steps {
		attributes = append(attributes, step.Held.Owner, call.Results[i].Allocation.Prefixes)
	}
	if call.Err != nil {
		attributes = append(attributes, call.Err)
	}
	endSpan(ctx, attributes...)
}

func (tracing) BeginCommit(ctx context.Context, commit pool.Commit) context.Context {
	return startSpan(ctx, "commit") // with links to the spans of commit.Calls, if others share it
}

func (tracing) EndCommit(ctx context.Context, commit pool.Commit) {
	endSpan(ctx, "writes", commit.Writes, "conflict", errors.Is(commit.Err, store.ErrConflict))
}

// Calls and commits become spans: each commit is within the span of the call that makes it, and that is within the
// caller's.
func ExampleObserver() {
	s, spec := store.NewMemory(), pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1"))}
	must(pool.Create(context.Background(), s, "pods", spec, nil))
	p := must(pool.Open(context.Background(), s, "pods", &pool.Options{Observer: tracing{}}))

	ctx := startSpan(context.Background(), "request")
	must(p.Allocate(ctx, pool.Claim{Owner: "pod-1"}))
	must(p.Release(ctx, pool.Held{Owner: "pod-1"}))
	endSpan(ctx, "done")
	// Output:
	// request > Allocate in pods > commit: writes 1 conflict false
	// request > Allocate in pods: pod-1 [10.0.0.1/32]
	// request > Release in pods > commit: writes 1 conflict false
	// request > Release in pods: pod-1 [10.0.0.1/32]
	// request: done
}

// freed counts leases that ended and whose addresses were freed for others.
type freed struct {
	pool.NoObserver
	leases int
}

func (f *freed) EndCommit(_ context.Context, commit pool.Commit) {
	if commit.Err == nil {
		f.leases += len(commit.Freed)
	}
}

// An observer that embeds [pool.NoObserver] needs only the methods that it is for.
func ExampleNoObserver() {
	ctx, seen, now := context.Background(), &freed{}, time.Now()
	options := &pool.Options{Observer: seen, Clock: func() time.Time { return now }}
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1"))}, options))
	must(p.Allocate(ctx, pool.Claim{Owner: "a", TTL: time.Hour}))
	now = now.Add(time.Hour)
	must(p.Allocate(ctx, pool.Claim{Owner: "b"}))
	fmt.Println(seen.leases, "lease ended and was freed")
	// Output: 1 lease ended and was freed
}

// One handle has several observers: here both are told of the lease that ended.
func ExampleObservers() {
	ctx, mine, yours, now := context.Background(), &freed{}, &freed{}, time.Now()
	options := &pool.Options{
		Observer: pool.Observers(mine, yours), Clock: func() time.Time { return now },
	}
	p := must(pool.New(pool.Spec{Ranges: must(cidr.ParseRanges("10.0.0.1"))}, options))
	must(p.Allocate(ctx, pool.Claim{Owner: "a", TTL: time.Hour}))
	now = now.Add(time.Hour)
	must(p.Allocate(ctx, pool.Claim{Owner: "b"}))
	fmt.Println(mine.leases, yours.leases)
	// Output: 1 1
}
