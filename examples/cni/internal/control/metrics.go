package control

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ipalloc/ipalloc/pool"
)

// metricSet are the metrics of a reconciler.
type metricSet struct {
	registry *prometheus.Registry
	runs     *prometheus.CounterVec
	duration prometheus.Gauge
	success  prometheus.Gauge
	released *prometheus.CounterVec
	missing  *prometheus.GaugeVec
	live     *prometheus.GaugeVec
	slices   prometheus.Counter
}

func newMetrics() *metricSet {
	const prefix = "ipalloc_reconciler_"
	ofPool := []string{"pool"}
	m := &metricSet{
		registry: prometheus.NewRegistry(),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "runs_total", Help: "Runs, by how they ended."}, []string{"result"}),
		duration: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "duration_seconds", Help: "How long the last run took."}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: prefix + "last_success_timestamp_seconds", Help: "When the last run ended that did not fail."}),
		released: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "released_total", Help: "Attachments that are gone, whose addresses were freed."}, ofPool),
		missing: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "missing", Help: "Attachments that are gone, within their grace period."}, ofPool),
		live: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: prefix + "live", Help: "Attachments that were left alone."}, ofPool),
		slices: prometheus.NewCounter(prometheus.CounterOpts{
			Name: prefix + "nodes_given_back_total", Help: "Nodes that are gone, whose slices were given back."}),
	}
	m.registry.MustRegister(m.runs, m.duration, m.success, m.released, m.missing, m.live, m.slices)
	return m
}

// ran counts a run.
func (m *metricSet) ran(now time.Time, duration time.Duration, err error) {
	m.duration.Set(duration.Seconds())
	if err != nil {
		m.runs.WithLabelValues("error").Inc()
		return
	}
	m.runs.WithLabelValues("ok").Inc()
	m.success.Set(float64(now.UnixMilli()) / 1000)
}

// freed counts what a run found in a pool.
func (m *metricSet) freed(name string, found pool.Reconciliation, dryRun bool) {
	if !dryRun {
		m.released.WithLabelValues(name).Add(float64(len(found.Released)))
	}
	m.missing.WithLabelValues(name).Set(float64(len(found.Missing)))
	m.live.WithLabelValues(name).Set(float64(found.Live + found.Newer))
}

// gaveBack counts a node whose slices were given back.
func (m *metricSet) gaveBack(dryRun bool) {
	if !dryRun {
		m.slices.Inc()
	}
}

// serveMetrics serves the metrics until stop is called.
func (r *reconciler) serveMetrics(ctx context.Context) (stop func(), err error) {
	if r.address == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", r.address)
	if err != nil {
		return nil, err
	}
	r.Log.InfoContext(ctx, "serving metrics", "address", listener.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r.metrics.registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(listener)
	}()
	return func() {
		_ = server.Close()
		<-done
	}, nil
}
