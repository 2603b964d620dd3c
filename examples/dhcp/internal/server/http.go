package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

// metricSet are the metrics of a server.
type metricSet struct {
	registry *prometheus.Registry
	pools    *metrics.Metrics
	received *prometheus.CounterVec
	answered *prometheus.CounterVec
	dropped  *prometheus.CounterVec
}

func newMetrics(db store.Store) *metricSet {
	const prefix = "dhcpalloc_"
	m := &metricSet{
		registry: prometheus.NewRegistry(),
		pools:    metrics.New(nil),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "received_total", Help: "Messages that came in."}, []string{"family"}),
		answered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "answered_total", Help: "Answers, by type; what has no answer, by its own type."},
			[]string{"family", "type"}),
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: prefix + "dropped_total", Help: "Messages without an answer, by reason."}, []string{"family", "reason"}),
	}
	m.pools.AddStore(db)
	m.registry.MustRegister(m.pools, m.received, m.answered, m.dropped)
	return m
}

// serveHTTP serves the debug page and the metrics until stop is called.
func (s *Server) serveHTTP(ctx context.Context, db store.Store) (stop func(), err error) {
	if s.config.HTTP == "" {
		return func() {}, nil
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", s.config.HTTP)
	if err != nil {
		return nil, fmt.Errorf("http: %w", err)
	}
	s.log.Info("serving the debug page and metrics", "address", listener.Addr().String())
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(s.metrics.registry, promhttp.HandlerOpts{}))
	mux.Handle("/", view.Handler(view.Store(db, nil), nil))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("http", "error", err)
		}
	}()
	return func() { _ = server.Close() }, nil
}
