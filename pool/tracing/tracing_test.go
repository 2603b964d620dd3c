package tracing_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/pool/poolfake"
	"github.com/ipalloc/ipalloc/pool/tracing"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// traced is a pool "pods", and another one, whose spans a test looks at.
type traced struct {
	fake     *poolfake.Fake
	exporter *tracetest.InMemoryExporter
	provider *sdk.TracerProvider
	store    store.Store
	options  *pool.Options
	pool     *pool.Pool
}

func newTraced(t *testing.T, options *tracing.Options, sampler sdk.TracerProviderOption) *traced {
	t.Helper()
	w := &traced{fake: poolfake.New(time.Now()), exporter: tracetest.NewInMemoryExporter()}
	all := []sdk.TracerProviderOption{sdk.WithSyncer(w.exporter)}
	if sampler != nil {
		all = append(all, sampler)
	}
	w.provider = sdk.NewTracerProvider(all...)
	w.store, w.options = w.fake.Store(), w.fake.Options()
	w.options.Observer = pool.Observers(w.options.Observer, tracing.New(w.provider, options))
	w.pool = w.create(t, "pods", "192.0.2.1-192.0.2.100")
	return w
}

func (w *traced) create(t *testing.T, name, text string) *pool.Pool {
	t.Helper()
	spec, err := pool.ParseSpec(text)
	require.NoError(t, err)
	p, err := pool.Create(t.Context(), w.store, name, spec, w.options)
	require.NoError(t, err)
	w.exporter.Reset()
	return p
}

// take returns the spans since the last take, in the order of their ends.
func (w *traced) take() tracetest.SpanStubs {
	spans := w.exporter.GetSpans()
	w.exporter.Reset()
	return spans
}

func names(spans tracetest.SpanStubs) (all []string) {
	for _, s := range spans {
		all = append(all, s.Name)
	}
	return all
}

// attributes returns those of a span, by key.
func attributes(s tracetest.SpanStub) map[string]any {
	all := map[string]any{}
	for _, a := range s.Attributes {
		all[string(a.Key)] = a.Value.AsInterface()
	}
	return all
}

func TestCallsAndCommitsAreSpans(t *testing.T) {
	w := newTraced(t, nil, nil)
	ctx, request := w.provider.Tracer("test").Start(t.Context(), "request")
	_, err := w.pool.Allocate(ctx, pool.Claim{Owner: "a"})
	require.NoError(t, err)
	request.End()
	spans := w.take()
	require.Equal(t, []string{"pool.commit", "pool.Allocate", "request"}, names(spans))
	for i, s := range spans[:2] {
		require.Equal(t, spans[i+1].SpanContext.SpanID(), s.Parent.SpanID())
		require.Equal(t, spans[2].SpanContext.TraceID(), s.SpanContext.TraceID())
		require.Equal(t, trace.SpanKindInternal, s.SpanKind)
		require.Equal(t, codes.Unset, s.Status.Code)
		require.Empty(t, s.Links)
		require.Equal(t, "github.com/ipalloc/ipalloc/pool/tracing", s.InstrumentationScope.Name)
		require.Equal(t, semconv.SchemaURL, s.InstrumentationScope.SchemaURL)
	}
	commit := attributes(spans[0])
	require.Positive(t, commit["ipalloc.bytes"])
	require.Positive(t, commit["ipalloc.revision"])
	delete(commit, "ipalloc.bytes")
	delete(commit, "ipalloc.revision")
	require.Equal(t, map[string]any{
		"ipalloc.pool": "pods", "ipalloc.attempt": int64(1), "ipalloc.calls": int64(1), "ipalloc.writes": int64(1),
	}, commit)
	require.Equal(t, map[string]any{
		"ipalloc.pool": "pods", "ipalloc.steps": int64(1), "ipalloc.step": "allocate", "ipalloc.owner": "a",
		"ipalloc.prefixes": []string{"192.0.2.1/32"},
	}, attributes(spans[1]))
}

func TestEachKindOfCall(t *testing.T) {
	w := newTraced(t, nil, nil)
	_, err := w.pool.Allocate(t.Context(), pool.Claim{Owner: "a", TTL: time.Hour})
	require.NoError(t, err)
	w.take()
	_, err = w.pool.Renew(t.Context(), pool.Held{Owner: "a"}, 2*time.Hour)
	require.NoError(t, err)
	require.Equal(t, "renew", attributes(w.take()[1])["ipalloc.step"])
	w.fake.Advance(3 * time.Hour)
	_, err = w.pool.Expire(t.Context())
	require.NoError(t, err)
	spans := w.take()
	last := spans[len(spans)-1]
	require.Equal(t, "pool.Expire", last.Name)
	require.Equal(t, map[string]any{"ipalloc.pool": "pods", "ipalloc.steps": int64(0)}, attributes(last))
	require.Equal(t, int64(1), attributes(spans[len(spans)-2])["ipalloc.freed"])

	results := 0
	for range w.pool.Each(t.Context(), slices.Values([]pool.Step{
		pool.Allocate(pool.Claim{Owner: "b"}), pool.Release(pool.Held{Owner: "nobody"}),
	})) {
		results++
	}
	require.Equal(t, 2, results)
	spans = w.take()
	require.Equal(t, "pool.Each", spans[len(spans)-1].Name)
	require.Equal(t, map[string]any{
		"ipalloc.pool": "pods", "ipalloc.steps": int64(2), "ipalloc.steps.failed": int64(1),
	}, attributes(spans[len(spans)-1]))
	require.Equal(t, codes.Unset, spans[len(spans)-1].Status.Code)
	_, err = w.pool.Release(t.Context(), pool.Held{Addr: must(w.pool.Get(t.Context(), pool.Held{Owner: "b"})).Addrs()[0]})
	require.NoError(t, err)
	spans = w.take()
	require.Equal(t, "b", attributes(spans[len(spans)-1])["ipalloc.owner"], "which was not known at first")
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestCallsOverSeveralPoolsNest(t *testing.T) {
	w := newTraced(t, nil, nil)
	other := w.create(t, "other", "198.51.100.0/24")
	_, err := w.pool.All(t.Context(), pool.Allocate(pool.Claim{Owner: "a"}),
		pool.Allocate(pool.Claim{Owner: "a"}).In(other))
	require.NoError(t, err)
	spans := w.take()
	require.Equal(t, []string{"pool.commit", "pool.commit", "pool.All", "pool.All"}, names(spans))
	pools := map[any]int{}
	for i, s := range spans[:3] {
		require.Equal(t, spans[i+1].SpanContext.SpanID(), s.Parent.SpanID())
	}
	for _, s := range spans {
		pools[attributes(s)["ipalloc.pool"]]++
	}
	require.Equal(t, map[any]int{"pods": 2, "other": 2}, pools)
}

// TestErrors has each kind of error name its type, as the conventions say.
func TestErrors(t *testing.T) {
	for want, inject := range map[string]func(w *traced){
		"exhausted": func(w *traced) { w.fake.Refuse(func(string, pool.Claim) bool { return true }) },
		"unknown":   func(w *traced) { w.fake.InjectNext(poolfake.Unknown(true)) },
		"conflict":  func(w *traced) { w.options.Attempts = 1; w.fake.Inject(poolfake.Busy) },
		"_OTHER":    func(w *traced) { w.fake.Inject(poolfake.Unreachable) },
	} {
		w := newTraced(t, nil, nil)
		inject(w)
		_, err := w.pool.Allocate(t.Context(), pool.Claim{Owner: "a"})
		require.Error(t, err)
		spans := w.take()
		call := spans[len(spans)-1]
		require.Equal(t, "pool.Allocate", call.Name)
		require.Equal(t, want, attributes(call)["error.type"])
		require.Equal(t, sdk.Status{Code: codes.Error, Description: err.Error()}, call.Status)
		require.Len(t, call.Events, 1)
		require.Equal(t, "exception", call.Events[0].Name)
		require.Contains(t, call.Events[0].Attributes, attribute.String("exception.message", err.Error()))
		for _, commit := range spans[:len(spans)-1] {
			require.Equal(t, codes.Error, commit.Status.Code)
			require.Equal(t, want, attributes(commit)["error.type"])
			require.NotContains(t, attributes(commit), "ipalloc.revision")
		}
	}
}

// TestLostRacesAreErrorsOnlyOfTheirCommits has another handle commit first.
func TestLostRacesAreErrorsOnlyOfTheirCommits(t *testing.T) {
	w := newTraced(t, nil, nil)
	other, err := pool.Open(t.Context(), w.fake.Store(), "pods", nil)
	require.NoError(t, err)
	_, err = other.Allocate(t.Context(), pool.Claim{Owner: "faster"})
	require.NoError(t, err)
	_, err = w.pool.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	spans := w.take()
	require.Equal(t, []string{"pool.commit", "pool.commit", "pool.Allocate"}, names(spans))
	require.Equal(t, "conflict", attributes(spans[0])["error.type"])
	require.Equal(t, codes.Error, spans[0].Status.Code)
	for i, s := range spans[:2] {
		require.Equal(t, int64(i+1), attributes(s)["ipalloc.attempt"])
		require.Equal(t, spans[2].SpanContext.SpanID(), s.Parent.SpanID())
	}
	require.Equal(t, codes.Unset, spans[1].Status.Code)
	require.Equal(t, codes.Unset, spans[2].Status.Code)
}

// TestCommitsLinkToTheCallsThatShareThem lets calls come while a commit is under way, so that they share the next one.
func TestCommitsLinkToTheCallsThatShareThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTraced(t, nil, nil)
		w.fake.Inject(poolfake.Slow(time.Second))
		const calls = 8
		var wg sync.WaitGroup
		for i := range calls {
			wg.Go(func() {
				if _, err := w.pool.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i)}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		spans, commits := w.take(), 0
		seen := map[trace.SpanID]int{}
		for _, s := range spans {
			if s.Name != "pool.commit" {
				continue
			}
			commits++
			seen[s.Parent.SpanID()]++
			for _, link := range s.Links {
				seen[link.SpanContext.SpanID()]++
			}
			require.Equal(t, int64(len(s.Links)+1), attributes(s)["ipalloc.calls"])
		}
		require.Equal(t, 2, commits, "the first call's, and one that the others share")
		for _, s := range spans {
			if s.Name == "pool.Allocate" {
				require.Equal(t, 1, seen[s.SpanContext.SpanID()])
				delete(seen, s.SpanContext.SpanID())
			}
		}
		require.Empty(t, seen)
	})
}

// spanning is a store whose client makes spans.
type spanning struct {
	*store.Memory
	tracer trace.Tracer
}

func (s spanning) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	ctx, span := s.tracer.Start(ctx, "client")
	defer span.End()
	return s.Memory.Commit(ctx, changes...)
}

func TestSpansOfTheStoreAreWithinTheCommit(t *testing.T) {
	w := newTraced(t, nil, nil)
	s := spanning{store.NewMemory(), w.provider.Tracer("store")}
	spec, err := pool.ParseSpec("192.0.2.0/24")
	require.NoError(t, err)
	_, err = pool.Create(t.Context(), s, "pods", spec, w.options)
	require.NoError(t, err)
	spans := w.take()
	require.Equal(t, []string{"client", "pool.commit"}, names(spans))
	require.Equal(t, spans[1].SpanContext.SpanID(), spans[0].Parent.SpanID())
}

func TestOwnersCanBeOmitted(t *testing.T) {
	w := newTraced(t, &tracing.Options{OmitOwners: true}, nil)
	_, err := w.pool.Allocate(t.Context(), pool.Claim{Owner: "jane's phone"})
	require.NoError(t, err)
	taken := pool.Claim{Owner: "joe's phone", Requests: []pool.Request{
		pool.ExactAddr(must(w.pool.Get(t.Context(), pool.Held{Owner: "jane's phone"})).Addrs()[0]),
	}}
	_, err = w.pool.Allocate(t.Context(), taken)
	require.ErrorIs(t, err, pool.ErrTaken)
	w.fake.Inject(faults.Script(faults.Fault{Effect: faults.Refuse, Err: errors.New("jane's phone")}))
	_, _ = w.pool.Release(t.Context(), pool.Held{Owner: "jane's phone"})
	spans := w.take()
	require.Contains(t, names(spans), "pool.Release")
	for _, s := range spans {
		text := fmt.Sprintf("%+v %+v %+v", attributes(s), s.Status, s.Events)
		require.False(t, strings.Contains(text, "phone") || strings.Contains(text, "192.0.2"), text)
	}
	require.Equal(t, sdk.Status{Code: codes.Error, Description: "taken"}, spans[2].Status)
}

func TestWhatIsNotSampledMakesNoSpans(t *testing.T) {
	w := newTraced(t, nil, sdk.WithSampler(sdk.NeverSample()))
	_, err := w.pool.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	w.fake.Inject(poolfake.Unreachable)
	_, err = w.pool.Allocate(t.Context(), pool.Claim{Owner: "b"})
	require.Error(t, err)
	require.Empty(t, w.take())
}

// TestPoolsInMemory have no name.
func TestPoolsInMemory(t *testing.T) {
	w := newTraced(t, nil, nil)
	spec, err := pool.ParseSpec("192.0.2.0/24")
	require.NoError(t, err)
	p, err := pool.New(spec, &pool.Options{Observer: tracing.New(w.provider, nil)})
	require.NoError(t, err)
	_, err = p.Allocate(t.Context(), pool.Claim{Owner: "a"})
	require.NoError(t, err)
	spans := w.take()
	require.Equal(t, []string{"pool.commit", "pool.Allocate"}, names(spans))
	for _, s := range spans {
		require.NotContains(t, attributes(s), "ipalloc.pool")
	}
}

// TestEachSpanEndsOnce runs many calls, of which some fail, under the race detector.
func TestEachSpanEndsOnce(t *testing.T) {
	w := newTraced(t, nil, nil)
	w.fake.Inject(faults.Random(1, faults.Rates{Refuse: 0.2, LoseReply: 0.2, LandLate: 0.1, Read: 0.1}))
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				_, _ = w.pool.Allocate(t.Context(), pool.Claim{Owner: fmt.Sprint(i, j%4)})
				_, _ = w.pool.Release(t.Context(), pool.Held{Owner: fmt.Sprint(i, j%4), Optional: true})
			}
		})
	}
	wg.Wait()
	calls, ids := 0, map[trace.SpanID]bool{}
	for _, s := range w.take() {
		require.False(t, ids[s.SpanContext.SpanID()])
		ids[s.SpanContext.SpanID()] = true
		if s.Name != "pool.commit" {
			calls++
		}
	}
	require.Equal(t, 8*20*2, calls)
}

func BenchmarkCall(b *testing.B) {
	for name, sampler := range map[string]sdk.Sampler{"recorded": sdk.AlwaysSample(), "dropped": sdk.NeverSample()} {
		b.Run(name, func(b *testing.B) {
			o := tracing.New(sdk.NewTracerProvider(sdk.WithSampler(sampler)), nil)
			begin := pool.Call{
				Pool: "pods", Method: "Allocate", Steps: []pool.Step{pool.Allocate(pool.Claim{Owner: "a"})},
			}
			end := begin
			end.Results = make([]pool.Result, 1)
			b.ReportAllocs()
			for b.Loop() {
				o.EndCall(o.BeginCall(b.Context(), begin), end)
			}
		})
	}
}
