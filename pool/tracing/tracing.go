package tracing

import (
	"cmp"
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/ipalloc/ipalloc/internal/outcome"
	"github.com/ipalloc/ipalloc/pool"
)

// scope is the name of the instrumentation.
const scope = "github.com/ipalloc/ipalloc/pool/tracing"

// The keys of the attributes.
const (
	poolKey     = attribute.Key("ipalloc.pool")
	stepsKey    = attribute.Key("ipalloc.steps")
	failedKey   = attribute.Key("ipalloc.steps.failed")
	stepKey     = attribute.Key("ipalloc.step")
	ownerKey    = attribute.Key("ipalloc.owner")
	prefixesKey = attribute.Key("ipalloc.prefixes")
	attemptKey  = attribute.Key("ipalloc.attempt")
	callsKey    = attribute.Key("ipalloc.calls")
	writesKey   = attribute.Key("ipalloc.writes")
	bytesKey    = attribute.Key("ipalloc.bytes")
	freedKey    = attribute.Key("ipalloc.freed")
	revisionKey = attribute.Key("ipalloc.revision")
)

// Options are what [New] may be told. The zero Options, and a nil pointer to it, mean the defaults.
type Options struct {
	// OmitOwners leaves owners, addresses and the texts of errors, which have both, out of the spans. Default: they are in
	// them.
	OmitOwners bool
}

// New returns an observer that makes spans with a tracer of the provider. It may be given to any number of handles, and
// called by any number of goroutines at once. The provider must not be nil.
func New(provider trace.TracerProvider, options *Options) pool.Observer {
	t := &tracing{tracer: provider.Tracer(scope, trace.WithSchemaURL(semconv.SchemaURL))}
	if options != nil {
		t.Options = *options
	}
	return t
}

// tracing is the observer.
type tracing struct {
	pool.NoObserver
	Options
	tracer trace.Tracer
}

// BeginCall implements [pool.Observer].
func (t *tracing) BeginCall(ctx context.Context, call pool.Call) context.Context {
	ctx, span := t.tracer.Start(ctx, "pool."+call.Method)
	if !span.IsRecording() {
		return ctx
	}
	setPool(span, call.Pool)
	span.SetAttributes(stepsKey.Int(len(call.Steps)))
	if len(call.Steps) == 1 {
		span.SetAttributes(stepKey.String(call.Steps[0].Op))
		t.setOwner(span, call.Steps[0].Held.Owner)
	}
	return ctx
}

// EndCall implements [pool.Observer].
func (t *tracing) EndCall(ctx context.Context, call pool.Call) {
	span := trace.SpanFromContext(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	setPool(span, call.Pool) // which only now is known, if it is the parent of a delegated pool
	if len(call.Steps) > 0 { // else it was a panic, or a call without steps
		span.SetAttributes(stepsKey.Int(len(call.Steps)))
	}
	failed := 0
	for i := range call.Results {
		if call.Results[i].Err != nil {
			failed++
		}
	}
	if failed > 0 {
		span.SetAttributes(failedKey.Int(failed))
	}
	if len(call.Steps) == 1 {
		t.setAllocation(span, &call.Steps[0], &call.Results[0].Allocation)
	}
	if call.Err != nil {
		t.fail(span, call.Err, outcome.OfCall(call.Err))
	}
}

func setPool(span trace.Span, name string) {
	if name != "" {
		span.SetAttributes(poolKey.String(name))
	}
}

func (t *tracing) setOwner(span trace.Span, owner string) {
	if owner != "" && !t.OmitOwners {
		span.SetAttributes(ownerKey.String(owner))
	}
}

func (t *tracing) setAllocation(span trace.Span, step *pool.Step, a *pool.Allocation) {
	t.setOwner(span, cmp.Or(a.Owner, step.Held.Owner))
	if len(a.Prefixes) == 0 || t.OmitOwners {
		return
	}
	texts := make([]string, len(a.Prefixes))
	for i, p := range a.Prefixes {
		texts[i] = p.String()
	}
	span.SetAttributes(prefixesKey.StringSlice(texts))
}

// fail notes the error with which a span ends.
func (t *tracing) fail(span trace.Span, err error, kind string) {
	if kind == "error" {
		span.SetAttributes(semconv.ErrorTypeOther)
	} else {
		span.SetAttributes(semconv.ErrorTypeKey.String(kind))
	}
	if t.OmitOwners {
		span.SetStatus(codes.Error, kind)
		return
	}
	span.RecordError(err)
	span.SetStatus(codes.Error, err.Error())
}

// BeginCommit implements [pool.Observer].
func (t *tracing) BeginCommit(ctx context.Context, commit pool.Commit) context.Context {
	ctx, span := t.tracer.Start(ctx, "pool.commit", trace.WithLinks(linksTo(ctx, commit.Calls)...))
	if span.IsRecording() {
		setPool(span, commit.Pool)
		span.SetAttributes(attemptKey.Int(commit.Attempt), callsKey.Int(len(commit.Calls)+commit.Others))
	}
	return ctx
}

// linksTo returns links to the spans of the calls that share a commit, but for the one that is its parent.
func linksTo(parent context.Context, calls []context.Context) (links []trace.Link) {
	if len(calls) < 2 {
		return nil
	}
	own := trace.SpanContextFromContext(parent).SpanID()
	for _, ctx := range calls {
		if link := trace.LinkFromContext(ctx); link.SpanContext.IsValid() && link.SpanContext.SpanID() != own {
			links = append(links, link)
		}
	}
	return links
}

// EndCommit implements [pool.Observer].
func (t *tracing) EndCommit(ctx context.Context, commit pool.Commit) {
	span := trace.SpanFromContext(ctx)
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(writesKey.Int(commit.Writes), bytesKey.Int(commit.Bytes))
	if len(commit.Freed) > 0 {
		span.SetAttributes(freedKey.Int(len(commit.Freed)))
	}
	if commit.Revision > 0 {
		span.SetAttributes(revisionKey.Int64(commit.Revision))
	}
	if commit.Err != nil {
		t.fail(span, commit.Err, outcome.OfCommit(commit.Err))
	}
}
