package metrics

import (
	"context"
	"errors"

	"github.com/ipalloc/ipalloc/internal/outcome"
	"github.com/ipalloc/ipalloc/pool"
)

// EndCall counts each step of a call as one. It is for package pool.
func (m *Metrics) EndCall(_ context.Context, e pool.Call) {
	if len(e.Steps) == 0 {
		return
	}
	label := m.enter(e.Pool, errors.Is(e.Err, pool.ErrNoPool))
	defer m.leave()
	for i := range e.Steps {
		call := e.Steps[i].Op
		m.calls.WithLabelValues(label, call, outcome.OfCall(e.Results[i].Err)).Inc()
		m.callDurations.WithLabelValues(label, call).Observe(e.Duration.Seconds())
	}
}

// EndCommit counts an attempt to commit to the store. It is for package pool.
func (m *Metrics) EndCommit(_ context.Context, e pool.Commit) {
	if e.Pool == "" { // in memory
		return
	}
	label := m.enter(e.Pool, false)
	defer m.leave()
	m.commits.WithLabelValues(label, outcome.OfCommit(e.Err)).Inc()
	m.commitDurations.WithLabelValues(label).Observe(e.Duration.Seconds())
}

// Named returns an observer that counts all events as those of the pool name. It is for a pool in
// memory, which has no name of its own.
func (m *Metrics) Named(name string) pool.Observer { return named{m, name} }

type named struct {
	*Metrics
	name string
}

func (n named) EndCall(ctx context.Context, e pool.Call) {
	e.Pool = n.name
	n.Metrics.EndCall(ctx, e)
}

func (n named) EndCommit(ctx context.Context, e pool.Commit) {
	if e.Pool != "" {
		e.Pool = n.name
	}
	n.Metrics.EndCommit(ctx, e)
}
