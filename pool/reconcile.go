package pool

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// ReconcileOptions are how [Pool.Reconcile] goes about it. The zero value, and a nil pointer to it, mean the defaults.
type ReconcileOptions struct {
	// Since is the revision of the pool (see [Info]) from before the look at the world began: what was granted later is left alone. Default:
	// the revision when Reconcile is called, which is right if the look begins within it, as an iterator over a fresh list does.
	Since int64

	// Grace is how long an owner must have been missing before what it holds is released: since the first call of Reconcile that did not find it,
	// which is kept in the store. An owner who claims again or renews meanwhile is not missing any more, and keeps what it holds, up to the moment of the
	// release. Default: none, it is released at once, and an owner who claims again after the look, what it was granted before it, may lose it.
	Grace time.Duration

	// DryRun says to change nothing, and only to report.
	DryRun bool
}

// Reconciliation is what [Pool.Reconcile] did, or would have done.
type Reconciliation struct {
	// Released are what missing owners held. Missing are those that are still within their grace.
	Released, Missing []Allocation
	// Back are owners that had been missing and are there again.
	Back []Allocation
	// Live is how many owners hold something and are there. Newer is how many were left alone since they were granted after the look began.
	Live, Newer int
}

// Reconcile releases what owners hold that are no more: all that live does not name. It is what a controller does now and then, for releases that never
// came. Nothing that was granted after the look at the world began is touched, nor is what a pool was carved from; and what is released is
// released as of the generation that was seen, so that an owner that comes back meanwhile keeps what it is granted then.
//
// An error of live, like all others, ends it before anything is released. An empty iteration means that no owner is live.
//
// Errors: those of live, as they came; those of the store. Cost: O(allocations), and one commit for every 4,096 changes.
func (p *Pool) Reconcile(ctx context.Context, live iter.Seq2[string, error], options *ReconcileOptions) (Reconciliation, error) {
	var since int64
	err := ctx.Err()
	if err == nil && (options == nil || options.Since == 0) {
		since, err = p.home.current(ctx)
	}
	owners := map[string]bool{}
	if err == nil {
		for owner, failed := range live {
			if failed != nil {
				err = failed
				break
			}
			owners[owner] = true
		}
	}
	if err != nil {
		return Reconciliation{}, p.failed("reconcile", "", err)
	}
	with := ReconcileOptions{Since: since}
	if options != nil {
		with = *options
		if with.Since == 0 {
			with.Since = since
		}
	}
	return p.ReconcileFunc(ctx, func(a Allocation) bool { return owners[a.Owner] }, &with)
}

// ReconcileFunc is [Pool.Reconcile] with a function that tells whether the owner of an allocation is live, which goes by what it saw of the
// world at the revision [ReconcileOptions.Since]; give that, unless it looks when it is called.
func (p *Pool) ReconcileFunc(ctx context.Context, live func(Allocation) bool, options *ReconcileOptions) (Reconciliation, error) {
	var with ReconcileOptions
	if options != nil {
		with = *options
	}
	found, err := p.reconcile(ctx, live, with)
	return found, p.failed("reconcile", "", err)
}

func (p *Pool) reconcile(ctx context.Context, live func(Allocation) bool, options ReconcileOptions) (Reconciliation, error) {
	var found Reconciliation
	if options.Grace < 0 {
		return found, invalid("the grace %v is negative", options.Grace)
	}
	if options.Since == 0 {
		var err error
		if options.Since, err = p.home.current(ctx); err != nil {
			return found, err
		}
	}
	now := now(&p.options)
	var marks, releases []task
	for h, err := range p.home.records(ctx, false) {
		switch {
		case err != nil:
			return Reconciliation{}, err
		case !h.live() || h.Child != "":
		case h.Generation > options.Since:
			found.Newer++
		case live(h.Allocation.clone()):
			found.Live++
			if !h.missing.IsZero() {
				found.Back = append(found.Back, h.Allocation.clone())
				marks = append(marks, task{kind: taskMark, owner: h.Owner, generation: h.Generation})
			}
		case options.Grace > 0 && (h.missing.IsZero() || now.Before(h.missing.Add(options.Grace))):
			found.Missing = append(found.Missing, h.Allocation.clone())
			if h.missing.IsZero() {
				marks = append(marks, task{kind: taskMark, owner: h.Owner, generation: h.Generation, missing: now})
			}
		default:
			found.Released = append(found.Released, h.Allocation.clone())
			releases = append(releases, task{kind: taskRelease, owner: h.Owner, generation: h.Generation, missing: h.missing})
		}
	}
	if options.DryRun {
		return found, nil
	}
	if err := p.each(ctx, CallAllocate, marks, make([]Result, len(marks))); err != nil {
		return Reconciliation{}, err
	}
	return p.releaseMissing(ctx, found, releases)
}

// releaseMissing releases what is to be released, and leaves in found.Released what was.
func (p *Pool) releaseMissing(ctx context.Context, found Reconciliation, releases []task) (Reconciliation, error) {
	results := make([]Result, len(releases))
	err := p.each(ctx, CallRelease, releases, results)
	found.Released = nil
	for _, result := range results {
		if result.Err == nil {
			found.Released = append(found.Released, result.Allocation)
		}
	}
	if len(found.Released) > 0 {
		p.options.Logger.Info("released what owners held that are no more",
			slog.String("pool", p.name), slog.Int("released", len(found.Released)), slog.Int("live", found.Live))
	}
	if err != nil {
		err = fmt.Errorf("%d of %d were released before: %w", len(found.Released), len(releases), err)
	}
	return found, err
}
