package tracing_test

import (
	"context"
	"fmt"

	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/tracing"
	"github.com/ipalloc/ipalloc/store"
)

// The spans of a pool are within those of the program. A real program has an exporter of its own, such as that for
// OTLP.
func Example() {
	exporter := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(exporter))
	spec, err := pool.ParseSpec("192.0.2.1")
	if err != nil {
		panic(err)
	}
	s, options := store.NewMemory(), &pool.Options{Observer: tracing.New(provider, nil)}
	p, err := pool.Create(context.Background(), s, "pods", spec, options)
	if err != nil {
		panic(err)
	}
	exporter.Reset()

	ctx, request := provider.Tracer("program").Start(context.Background(), "request")
	_, err = p.Allocate(ctx, pool.Claim{Owner: "pod-1"})
	fmt.Println(err)
	_, err = p.Allocate(ctx, pool.Claim{Owner: "pod-2"})
	fmt.Println(err)
	request.End()

	for _, span := range exporter.GetSpans() {
		fmt.Println(span.Name, span.Status.Code)
	}
	// Output:
	// <nil>
	// pool "pods": allocate for "pod-2": exhausted: no IPv4 /32 is free; free addresses: 0 of 1
	// pool.commit Unset
	// pool.Allocate Unset
	// pool.Allocate Error
	// request Unset
}
