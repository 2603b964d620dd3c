// Package tracing makes OpenTelemetry spans of what pools do.
//
//	tracer := tracing.New(provider, nil)
//	p, err := pool.Open(ctx, db, "pods", &pool.Options{Observer: tracer})
//
// # Spans
//
// A call that allocates, releases or renews is a span "pool.Allocate", "pool.All" and so on, whose parent is the span
// of the caller's context. Each attempt to commit is a span "pool.commit" within the span of the call that leads it.
// What the store's client makes, if that is instrumented too, is within the commit's. Several calls may share a commit:
// its span has links to the spans of the others.
//
// A span that ended in an error has the status Error and, as the semantic conventions say, error.type and an event
// "exception". The span of a call does so if the call returned an error. A commit that lost against that of another
// process does so too, though the call then tries again. The types of errors are the results of package pool/metrics:
// exhausted, taken, held, conflict, unknown and so on, and _OTHER. For what a pool does there are no conventions; these
// attributes have names of their own:
//
//	ipalloc.pool          the name of the pool; not for one in memory
//	ipalloc.steps         of a call: the number of its steps
//	ipalloc.steps.failed  of a call: how many of them failed, if any did
//	ipalloc.step          of a call of one step: allocate, release, renew or decline
//	ipalloc.owner         of a call of one step: the owner, if it is known
//	ipalloc.prefixes      of a call of one step: what was granted, released or renewed, as text
//	ipalloc.attempt       of a commit: the number of the attempt of the call that leads
//	ipalloc.calls         of a commit: the number of calls that share it
//	ipalloc.writes        of a commit: the number of records beside the head
//	ipalloc.bytes         of a commit: the size of their data
//	ipalloc.freed         of a commit: the number of ended leases that it freed, if any
//	ipalloc.revision      of a commit that took effect: the revision of the pool
//
// Owners and addresses may be personal data; [Options.OmitOwners] leaves them out.
//
// # Metrics
//
// The metrics of pool/metrics come to OpenTelemetry through the bridge go.opentelemetry.io/contrib/bridges/prometheus:
// its producer reads the registry whenever the OpenTelemetry reader collects. Names and labels stay the same. The
// program examples/telemetry in the repository exports both. To have several observers on one handle, combine them with
// [pool.Observers].
//
// # Cost
//
// About ten microseconds for each call and each commit whose span is recorded, and two if the sampler drops it.
package tracing
