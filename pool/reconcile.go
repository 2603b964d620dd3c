package pool

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// Mark is a moment in the life of a pool, in the order of its commits; see [Pool.Mark]. The zero Mark is not valid. A
// Mark is a value; it may be copied and compared.
type Mark struct {
	pool     string
	revision int64
	taken    bool
}

// Mark returns the current moment, for [Pool.Reconcile]. Call it before you list the live owners.
//
// Errors: [ErrNoPool]; those of the store. Cost: one read; in memory, none.
func (p *Pool) Mark(ctx context.Context) (Mark, error) {
	revision, err := p.home.current(ctx)
	if err != nil {
		return Mark{}, p.failed("mark", "", err)
	}
	return Mark{pool: p.name, revision: revision, taken: true}, nil
}

// ReconcileOptions configure [Pool.Reconcile]. The zero value and a nil *ReconcileOptions mean the defaults.
type ReconcileOptions struct {
	// Grace is how long an owner must be missing before what it holds is released. It counts from the first call of
	// Reconcile that did not find the owner; the store keeps the time of that call. Until the release, an owner that
	// claims again or renews is no longer missing, and keeps what it holds. Default: 0, which releases at once. Without
	// a grace period, an owner missing from live loses what it held before the mark, even if it claims again meanwhile.
	Grace time.Duration

	// DryRun changes nothing, and only reports.
	DryRun bool
}

// Reconciliation is what [Pool.Reconcile] did, or would have done. It belongs to the caller.
type Reconciliation struct {
	// Released are the allocations of missing owners that were released. Missing are the allocations of missing owners
	// that are still within their grace period.
	Released, Missing []Allocation
	// Back are the allocations of owners that had been missing and are live again.
	Back []Allocation
	// Live is the number of live owners that hold something. Newer is the number of owners that were left alone because
	// they were granted something after the mark.
	Live, Newer int
}

// Reconcile releases what is held by owners that no longer exist: those that live does not yield. A controller calls it
// now and then, to make up for releases that never came. Take the mark before you list the live owners:
//
//	mark, err := p.Mark(ctx)
//	pods, err := client.List(ctx)
//	found, err := p.Reconcile(ctx, mark, owners(pods), nil)
//
// What was granted after the mark is left alone, because the list may not include its owner yet. So is an allocation
// that a pool was delegated from. Reconcile releases only the generation that it saw, so an owner that is granted
// something else meanwhile keeps that.
//
// If live yields an error, or anything else fails before the first release, nothing is released. If live yields
// nothing, no owner is live.
//
// Errors: [ErrInvalid] for the zero Mark, or one of another pool; those of live, unchanged; those of the store. After
// an error during the releases, the result lists those that were done. Cost: O(allocations), and one commit for every
// 4,096 changes.
func (p *Pool) Reconcile(
	ctx context.Context, mark Mark, live iter.Seq2[string, error], options *ReconcileOptions,
) (Reconciliation, error) {
	var with ReconcileOptions
	if options != nil {
		with = *options
	}
	call, ctx := p.observe(ctx, "Reconcile")
	defer call.end()
	found, err := p.reconcile(ctx, mark, live, with, call)
	return found, call.result(p.failed("reconcile", "", err))
}

// reconciliation is a call of Reconcile: what it has found, and what is to be done about it.
type reconciliation struct {
	Reconciliation
	marks, releases []task
}

func (p *Pool) reconcile(
	ctx context.Context, mark Mark, live iter.Seq2[string, error], options ReconcileOptions, call *observed,
) (Reconciliation, error) {
	switch {
	case !mark.taken:
		return Reconciliation{}, invalid("the mark is the zero Mark, want one that Pool.Mark returned before live was listed")
	case mark.pool != p.name:
		return Reconciliation{}, invalid("the mark is one of the pool %q", mark.pool)
	case options.Grace < 0:
		return Reconciliation{}, invalid("the grace %v is negative", options.Grace)
	case ctx.Err() != nil:
		return Reconciliation{}, ctx.Err()
	}
	owners := map[string]bool{}
	for owner, err := range live {
		if err != nil {
			return Reconciliation{}, err
		}
		owners[owner] = true
	}
	var r reconciliation
	now := now(&p.options)
	for h, err := range p.home.records(ctx, false) {
		if err != nil {
			return Reconciliation{}, err
		}
		if h.live() && h.Child == "" {
			r.judge(h, h.Generation > mark.revision, owners[h.Owner], now, options.Grace)
		}
	}
	if options.DryRun {
		return r.Reconciliation, nil
	}
	if _, err := p.doAll(ctx, r.marks); err != nil {
		return Reconciliation{}, err
	}
	return p.releaseMissing(ctx, &r, call)
}

// judge decides what is to become of what an owner holds.
func (r *reconciliation) judge(h *holding, newer, live bool, now time.Time, grace time.Duration) {
	switch {
	case newer:
		r.Newer++
	case live:
		r.Live++
		if !h.missing.IsZero() {
			r.Back = append(r.Back, h.Allocation.clone())
			r.marks = append(r.marks, task{kind: taskMark, owner: h.Owner, generation: h.Generation})
		}
	case grace > 0 && (h.missing.IsZero() || now.Before(h.missing.Add(grace))):
		r.Missing = append(r.Missing, h.Allocation.clone())
		if h.missing.IsZero() {
			r.marks = append(r.marks, task{kind: taskMark, owner: h.Owner, generation: h.Generation, missing: now})
		}
	default:
		r.Released = append(r.Released, h.Allocation.clone())
		r.releases = append(r.releases,
			task{kind: taskRelease, owner: h.Owner, generation: h.Generation, missing: h.missing})
	}
}

// doAll does tasks of different owners, each by itself, and returns what became of those that were begun.
func (p *Pool) doAll(ctx context.Context, tasks []task) (results []Result, err error) {
	for err == nil && len(tasks) > 0 {
		n := min(len(tasks), maxBatch)
		var done []Result
		done, err = p.doTasks(ctx, tasks[:n])
		results, tasks = append(results, done...), tasks[n:]
	}
	return results, err
}

// releaseMissing releases what is to be released, and returns what was.
func (p *Pool) releaseMissing(ctx context.Context, r *reconciliation, call *observed) (Reconciliation, error) {
	results, err := p.doAll(ctx, r.releases)
	r.Released = nil
	for i, result := range results {
		t := &r.releases[i]
		call.step(Release(Held{Owner: t.owner, Generation: t.generation}), result)
		if result.Err == nil {
			r.Released = append(r.Released, result.Allocation)
		}
	}
	if len(r.Released) > 0 {
		p.options.Logger.Info("released what owners held that are no more",
			slog.String("pool", p.name), slog.Int("released", len(r.Released)), slog.Int("live", r.Live))
	}
	if err != nil {
		err = fmt.Errorf("%d of %d were released before: %w", len(r.Released), len(r.releases), err)
	}
	return r.Reconciliation, err
}
