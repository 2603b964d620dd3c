package metrics

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// EndCall counts each step of a call as one. It is for package pool.
func (m *Metrics) EndCall(_ context.Context, e pool.CallEnd) {
	if len(e.Steps) == 0 {
		return
	}
	label := m.enter(e.Pool, errors.Is(e.Err, pool.ErrNoPool))
	defer m.leave()
	for i := range e.Steps {
		call := e.Steps[i].Kind.String()
		m.calls.WithLabelValues(label, call, callResult(e.Steps[i].Err)).Inc()
		m.callDurations.WithLabelValues(label, call).Observe(e.Duration.Seconds())
	}
}

// EndCommit counts an attempt to commit to the store. It is for package pool.
func (m *Metrics) EndCommit(_ context.Context, e pool.CommitEnd) {
	if e.Pool == "" { // in memory
		return
	}
	label := m.enter(e.Pool, false)
	defer m.leave()
	m.commits.WithLabelValues(label, commitResult(e.Err)).Inc()
	m.commitDurations.WithLabelValues(label).Observe(e.Duration.Seconds())
}

// Named returns an observer that counts all events as those of the pool name. It is for a pool in
// memory, which has no name of its own.
func (m *Metrics) Named(name string) pool.Observer { return named{m, name} }

type named struct {
	*Metrics
	name string
}

func (n named) EndCall(ctx context.Context, e pool.CallEnd) {
	e.Pool = n.name
	n.Metrics.EndCall(ctx, e)
}

func (n named) EndCommit(ctx context.Context, e pool.CommitEnd) {
	if e.Pool != "" {
		e.Pool = n.name
	}
	n.Metrics.EndCommit(ctx, e)
}

// result is a kind of error and its label.
type result struct {
	is    error
	label string
}

// callResults are the ways in which a call ends; the first that matches counts. ErrUnknown is first,
// since such an error may wrap others.
var callResults = []result{
	{store.ErrUnknown, "unknown"},
	{pool.ErrExhausted, "exhausted"},
	{pool.ErrTaken, "taken"},
	{pool.ErrHeld, "held"},
	{pool.ErrNotInPool, "not_in_pool"},
	{pool.ErrBusy, "conflict"},
	{pool.ErrNotFound, "not_found"},
	{pool.ErrInvalid, "invalid"},
	{pool.ErrFamily, "invalid"},
	{pool.ErrScope, "invalid"},
	{pool.ErrCordoned, "cordoned"},
	{pool.ErrGeneration, "invalid"},
	{pool.ErrInUse, "invalid"},
	{context.Canceled, "canceled"},
	{context.DeadlineExceeded, "canceled"},
}

var commitResults = []result{
	{store.ErrUnknown, "unknown"},
	{store.ErrConflict, "conflict"},
	{store.ErrTooLarge, "too_large"},
}

func callResult(err error) string { return labelOf(err, callResults) }

func commitResult(err error) string { return labelOf(err, commitResults) }

func labelOf(err error, results []result) string {
	if err == nil {
		return "ok"
	}
	for _, r := range results {
		if errors.Is(err, r.is) {
			return r.label
		}
	}
	return "error"
}
