// Telemetry shows what a program can tell of its pools: spans and metrics, through OpenTelemetry, and alarms.
//
//	go run ./examples/telemetry
//
// It writes them to its standard output, where another program has exporters to its collector.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	registries "github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/bridges/prometheus"
	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/alarm"
	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/pool/tracing"
	"github.com/ipalloc/ipalloc/store"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "telemetry:", err)
		os.Exit(1)
	}
}

// run uses a pool, and writes to out what is told of it.
func run(ctx context.Context, out io.Writer) error {
	db := store.NewMemory()
	spans, err := stdouttrace.New(stdouttrace.WithWriter(out))
	if err != nil {
		return err
	}
	tracers := trace.NewTracerProvider(trace.WithBatcher(spans))
	counts := metrics.New(nil)
	counts.AddStore(db)
	meters, err := export(counts, out)
	if err != nil {
		return err
	}
	alarms, err := alarm.New(func(e alarm.Event) { fmt.Fprintln(out, e) }, alarm.Used(90, 75))
	if err != nil {
		return err
	}
	observer := pool.Observers(tracing.New(tracers, nil), counts, alarms)
	err = use(ctx, db, &pool.Options{Observer: observer})
	return errors.Join(err, tracers.Shutdown(ctx), meters.Shutdown(ctx)) // which export what is left
}

// export returns a provider that exports what a Prometheus collector has, through the bridge.
func export(collector registries.Collector, out io.Writer) (*metric.MeterProvider, error) {
	registry := registries.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return nil, err
	}
	exporter, err := stdoutmetric.New(stdoutmetric.WithWriter(out))
	if err != nil {
		return nil, err
	}
	bridge := prometheus.NewMetricProducer(prometheus.WithGatherer(registry))
	reader := metric.NewPeriodicReader(exporter, metric.WithProducer(bridge))
	return metric.NewMeterProvider(metric.WithReader(reader)), nil
}

// use fills a pool, and is refused once.
func use(ctx context.Context, db store.Store, options *pool.Options) error {
	spec, err := pool.ParseSpec("192.0.2.1-192.0.2.10")
	if err != nil {
		return err
	}
	p, err := pool.Ensure(ctx, db, "pods", spec, pool.Update, options)
	if err != nil {
		return err
	}
	for i := range 11 {
		_, err := p.Allocate(ctx, pool.Claim{Owner: fmt.Sprint("pod-", i)})
		if err != nil && !errors.Is(err, pool.ErrExhausted) {
			return err
		}
	}
	return nil
}
