package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"

	"github.com/ipalloc/ipalloc/pool/metrics"
	"github.com/ipalloc/ipalloc/pool/view"
	"github.com/ipalloc/ipalloc/store"
)

func (a *app) serve() *cobra.Command {
	var listen string
	c := &cobra.Command{
		Use: "serve", Short: "Serve pages about the pools to a browser on this machine", Args: arguments(0, 0),
		Long: `Serve pages about the pools of the store at / and metrics for Prometheus at
/metrics, until interrupted. They change nothing. Anybody on this machine can read
them, and nobody else: the address must be a loopback address.`,
		Example: "  ipalloc serve --listen 127.0.0.1:8080",
		RunE: func(c *cobra.Command, _ []string) error {
			listener, err := listenLoopback(listen)
			if err != nil {
				return err
			}
			defer listener.Close()
			return a.withStore(c.Context(), false, func(db store.Store) error {
				fmt.Fprintf(a.stderr, "serving http://%v/ and http://%[1]v/metrics\n", listener.Addr())
				return a.serveOn(c.Context(), listener, db)
			})
		},
	}
	c.Flags().StringVar(&listen, "listen", "127.0.0.1:8080", "loopback address and port; port 0 means a free one")
	return c
}

// listenLoopback listens on an address that only this machine reaches.
func listenLoopback(text string) (net.Listener, error) {
	addr, err := netip.ParseAddrPort(text)
	if err != nil || !addr.Addr().IsLoopback() {
		return nil, usagef("--listen is %q, want a loopback address and a port, as in 127.0.0.1:8080 or [::1]:8080", text)
	}
	return net.Listen("tcp", text)
}

func (a *app) serveOn(ctx context.Context, listener net.Listener, db store.Store) error {
	logger := slog.New(slog.NewTextHandler(a.stderr, nil))
	handler, err := pages(db, logger)
	if err != nil {
		return err
	}
	server := &http.Server{
		Handler: onlyLocal(handler), ReadHeaderTimeout: 10 * time.Second,
		ErrorLog: slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func pages(db store.Store, logger *slog.Logger) (http.Handler, error) {
	collector := metrics.New(&metrics.Options{Logger: logger})
	collector.AddStore(db)
	registry := prometheus.NewRegistry()
	if err := registry.Register(collector); err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/", view.Handler(view.Store(db, nil), &view.HandlerOptions{Logger: logger}))
	return mux, nil
}

// onlyLocal refuses requests for another host: those of a page in the browser that has its own name lead here.
func onlyLocal(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		addr, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !addr.IsLoopback()) {
			http.Error(w, "only for requests to a loopback address", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
