package pool

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"time"
)

// ReconcileOptions configure [Pool.Reconcile]. The zero value, and a nil pointer to it, mean the defaults.
type ReconcileOptions struct {
	// Since is the revision of the pool (see [Info]) from before the list of live owners was begun. What was granted
	// later is left alone. Default: the revision when Reconcile is called, which is right if the list is begun within
	// the call, as by an iterator over a fresh list.
	Since int64

	// Grace is how long an owner must have been missing before what it holds is released. It counts from the first call
	// of Reconcile that did not find the owner, which is kept in the store. An owner that claims again or renews
	// meanwhile is no longer missing, and keeps what it holds, up to the moment of the release. Default: none, what a
	// missing owner holds is released at once. Without a grace period, an owner missing from live loses what it held
	// before Since, even if it claims again meanwhile.
	Grace time.Duration

	// DryRun changes nothing, and only reports.
	DryRun bool
}

// Reconciliation is what [Pool.Reconcile] did, or would have done. It is the caller's.
type Reconciliation struct {
	// Released is what missing owners held and was released. Missing is what owners hold that are missing, but still
	// within their grace period.
	Released, Missing []Allocation
	// Back is what owners hold that had been missing and are live again.
	Back []Allocation
	// Live counts the owners that hold something and are live. Newer counts those left alone because they were granted
	// something after Since.
	Live, Newer int
}

// Reconcile releases what owners hold that no longer exist: all that live does not name. A controller calls it now
// and then, for releases that never came. It touches nothing that was granted after the list of live owners was
// begun, and nothing that a pool was carved from. It releases only the generation that it saw, so an owner that was
// granted something else meanwhile keeps that.
//
// If live yields an error, or anything else fails before the first release, nothing is released. An empty iteration
// means that no owner is live.
//
// Errors: those of live, as they came; those of the store. After an error amid the releases, the result lists those
// that were done. Cost: O(allocations), and one commit for every 4,096 changes.
func (p *Pool) Reconcile(
	ctx context.Context, live iter.Seq2[string, error], options *ReconcileOptions,
) (Reconciliation, error) {
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

// ReconcileFunc is [Pool.Reconcile] with a function that reports whether the owner of an allocation is live. Set
// [ReconcileOptions.Since] to the revision from before the function's knowledge was collected, unless the function
// looks when it is called.
func (p *Pool) ReconcileFunc(
	ctx context.Context, live func(Allocation) bool, options *ReconcileOptions,
) (Reconciliation, error) {
	var with ReconcileOptions
	if options != nil {
		with = *options
	}
	found, err := p.reconcile(ctx, live, with)
	return found, p.failed("reconcile", "", err)
}

func (p *Pool) reconcile(
	ctx context.Context, live func(Allocation) bool, options ReconcileOptions,
) (Reconciliation, error) {
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
