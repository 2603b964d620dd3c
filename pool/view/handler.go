package view

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// HandlerOptions are what a handler may be told. The zero HandlerOptions, and a nil pointer to it, mean the defaults.
type HandlerOptions struct {
	// Label names the label of allocations whose values colour the maps. Default: one colour for all.
	Label string

	// MaxRecords is the largest number of allocations, held and cooling ones together, up to which a pool is drawn and
	// listed. Of a larger pool only the counts are shown. Default: 100,000.
	MaxRecords int

	// Rows is how many allocations, or pools, a page lists. Default: 100; at most 10,000.
	Rows int

	// Timeout bounds the work for one request, together with the request's own context. Default: 10 s.
	Timeout time.Duration

	// Clock returns the present time, which leases are compared with. Default: [time.Now].
	Clock func() time.Time

	// Logger is told why a request failed, which the client is not told in full. Default: nothing is logged.
	Logger *slog.Logger
}

func (o *HandlerOptions) withDefaults() HandlerOptions {
	var with HandlerOptions
	if o != nil {
		with = *o
	}
	if with.MaxRecords <= 0 {
		with.MaxRecords = 100_000
	}
	if with.Rows <= 0 {
		with.Rows = 100
	}
	with.Rows = min(with.Rows, 10_000)
	if with.Timeout <= 0 {
		with.Timeout = 10 * time.Second
	}
	if with.Clock == nil {
		with.Clock = time.Now //nolint:forbidigo // the default of what is injected
	}
	if with.Logger == nil {
		with.Logger = slog.New(slog.DiscardHandler)
	}
	return with
}

// maxAtOnce is how many requests of a handler read whole pools at a time. The others wait, as long as their time lasts.
const maxAtOnce = 2

// Handler returns a handler that serves pages about the pools of the source. The package comment lists the pages, and
// says what to know before exposing them. All links are relative: mount the handler at any path that ends with a
// slash, and strip that path from the request:
//
//	mux.Handle("/debug/ipalloc/", http.StripPrefix("/debug/ipalloc", view.Handler(source, nil)))
//
// The handler changes nothing in the pools and the store.
func Handler(source Source, options *HandlerOptions) http.Handler {
	return &handler{
		source: source, options: options.withDefaults(),
		turns: make(chan struct{}, maxAtOnce), policy: securityPolicy(),
	}
}

type handler struct {
	source  Source
	options HandlerOptions
	turns   chan struct{}
	policy  string
}

// securityPolicy allows nothing but the two styles that the pages have, and forms that come back to the handler.
func securityPolicy() string {
	policy := "default-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; style-src"
	for _, style := range []string{pageStyle, mapStyle} {
		hash := sha256.Sum256([]byte(style))
		policy += " 'sha256-" + base64.StdEncoding.EncodeToString(hash[:]) + "'"
	}
	return policy
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", h.policy)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cache-Control", "no-store")
	header.Set("Vary", "Accept")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		h.fail(w, &requestError{http.StatusMethodNotAllowed, "only GET and HEAD are allowed"})
		return
	}
	if r.URL.Path == "" {
		// Mounted without the slash at its end, from which relative links do not work.
		header.Set("Location", "./"+path.Base(strings.SplitN(r.RequestURI, "?", 2)[0])+"/")
		w.WriteHeader(http.StatusMovedPermanently)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), h.options.Timeout)
	defer cancel()
	answer, err := h.answer(r.WithContext(ctx))
	if err != nil {
		h.options.Logger.WarnContext(ctx, "request for a view of pools failed", "path", r.URL.Path, "error", err)
		h.fail(w, err)
		return
	}
	header.Set("Content-Type", contentTypes[answer.format])
	w.Write(answer.body.Bytes()) //nolint:errcheck // the client has gone
}

// answer is what a request gets.
type answer struct {
	format format
	body   bytes.Buffer
}

// answer finds the page that the path is for.
func (h *handler) answer(r *http.Request) (*answer, error) {
	segment, ofPool := strings.CutPrefix(r.URL.Path, "/pool/")
	switch {
	case r.URL.Path == "/":
		return h.index(r)
	case r.URL.Path == "/lookup":
		return h.lookup(r)
	case ofPool:
		if name, ok := nameOf(segment); ok {
			return h.pool(r, name)
		}
	}
	return nil, &requestError{http.StatusNotFound, "no such page"}
}

// requestError is one that the client is told about.
type requestError struct {
	status int
	text   string
}

func (e *requestError) Error() string { return e.text }

func badRequest(text string) error { return &requestError{http.StatusBadRequest, text} }

// fail tells the client of an error, without what is nobody's business: paths, addresses and messages of the store.
func (h *handler) fail(w http.ResponseWriter, err error) {
	told := &requestError{http.StatusInternalServerError, "the pools cannot be read; the log says why"}
	switch {
	case errors.As(err, &told):
	case errors.Is(err, pool.ErrNotFound), errors.Is(err, pool.ErrInvalid): // no pool can have such a name
		told = &requestError{http.StatusNotFound, "no such pool"}
	case errors.Is(err, pool.ErrUnfinished):
		told = &requestError{http.StatusServiceUnavailable, pool.ErrUnfinished.Error()}
	case errors.Is(err, pool.ErrBusy):
		told = &requestError{http.StatusServiceUnavailable, "the pool changes too fast to be read as a whole; try again"}
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		told = &requestError{http.StatusServiceUnavailable, "it took too long; try again"}
	}
	w.Header().Set("Content-Type", contentTypes[formatText])
	w.WriteHeader(told.status)
	fmt.Fprintln(w, told.text)
}

// turn waits until the request may read a whole pool. The function that it returns must be called afterwards.
func (h *handler) turn(ctx context.Context) (func(), error) {
	select {
	case h.turns <- struct{}{}:
		return func() { <-h.turns }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
