package control

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// reconciler frees what containers hold that are gone.
type reconciler struct {
	*Control
	store    *url.URL
	pools    string
	live     source
	schedule cron.Schedule // nil for once
	grace    time.Duration
	dryRun   bool
	metrics  *metricSet
	address  string // of the metrics; empty for none
}

// source knows which containers exist.
type source interface {
	// covers reports whether the source would know of the container that made the allocation, if it exists.
	covers(a pool.Allocation) bool
	// read reads which exist. The result reports whether that of an allocation does.
	read(ctx context.Context) (exists func(a pool.Allocation) bool, err error)
	// about says whether the store is for other nodes too.
	about(shared bool)
	// again reports whether it can be read more than once.
	again() bool
}

// fiveFields is what a schedule of cron is: no seconds, no @daily.
const fiveFields = cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow

func (c *Control) reconcile(ctx context.Context, args []string) error {
	r, err := c.newReconciler(args)
	if err != nil {
		return err
	}
	stop, err := r.serveMetrics(ctx)
	if err != nil {
		return err
	}
	defer stop()
	if r.schedule == nil {
		return r.once(ctx)
	}
	for {
		next := r.schedule.Next(c.Now())
		c.Log.InfoContext(ctx, "waiting", "until", next)
		select {
		case <-ctx.Done():
			return nil
		case <-c.After(next.Sub(c.Now())):
		}
		if err := r.once(ctx); err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "the run failed", "error", err)
		}
	}
}

func (c *Control) newReconciler(args []string) (*reconciler, error) {
	r := &reconciler{Control: c, metrics: newMetrics()}
	flags := c.newFlags("reconcile")
	store := flags.String("store", "", "the `URL` of the store, as in ipam.store")
	flags.StringVar(&r.pools, "pools", "", "only pools whose names begin with this `text`, such as whereabouts/")
	from := flags.String("from", "", "what says which containers exist: pods (of the Kubernetes API), list (lines of a "+
		"container's ID and its interface) or gc (what CNI's GC gets)")
	file := flags.String("file", "-", "the `file` of the list or of what GC gets; - for the standard input")
	kubeconfig := flags.String("kubeconfig", "", "the `file` that says how to reach the Kubernetes API "+
		"(default: as in a pod)")
	node := flags.String("node", "", "the `name` of the node that a list is about (default: this node)")
	schedule := flags.String("schedule", "", "when to run, as five `fields` of cron (default: once, now)")
	flags.DurationVar(&r.grace, "grace", 10*time.Minute, "how long a container must be gone; counted from the first run "+
		"that misses it, so that a run once frees nothing unless it is 0")
	flags.BoolVar(&r.dryRun, "dry-run", false, "only print what would be freed")
	flags.StringVar(&r.address, "metrics", "", "serve metrics for Prometheus at this `address`, such as :9090")
	if err := parse(flags, args); err != nil {
		return nil, err
	}
	var err error
	if r.store, err = url.Parse(*store); err != nil || r.store.Scheme == "" {
		return nil, fmt.Errorf("%w: -store is not a URL", ErrUsage)
	}
	if r.live, err = c.newSource(*from, *file, *kubeconfig, *node); err != nil {
		return nil, err
	}
	if *schedule != "" {
		if r.schedule, err = cron.NewParser(fiveFields).Parse(*schedule); err != nil {
			return nil, fmt.Errorf("%w: -schedule: %w", ErrUsage, err)
		}
		if !r.live.again() {
			return nil, fmt.Errorf("%w: -schedule: the standard input can be read only once; name a -file", ErrUsage)
		}
	}
	return r, nil
}

// once runs once.
func (r *reconciler) once(ctx context.Context) error {
	began := r.Now()
	err := r.run(ctx)
	r.metrics.ran(r.Now(), r.Now().Sub(began), err)
	return err
}

// run takes its marks before it reads which containers exist, so that an ADD that comes meanwhile loses nothing. The
// store is closed while it reads, since ADDs wait for a file that is open.
func (r *reconciler) run(ctx context.Context) error {
	marks := map[string]pool.Mark{}
	err := r.eachPool(ctx, func(p *pool.Pool) (err error) {
		marks[p.Name()], err = p.Mark(ctx)
		return err
	})
	if err != nil {
		return err
	}
	exists, err := r.live.read(ctx)
	if err != nil {
		return err
	}
	var errs []error
	err = r.eachPool(ctx, func(p *pool.Pool) error {
		if mark, ok := marks[p.Name()]; ok {
			errs = append(errs, r.free(ctx, p, mark, exists))
		}
		return nil
	})
	if err == nil {
		err = r.giveBackSlices(ctx)
	}
	return errors.Join(append(errs, err)...)
}

// eachPool opens the store and calls f with each pool, up to the first error.
func (r *reconciler) eachPool(ctx context.Context, f func(*pool.Pool) error) error {
	return r.eachInStore(ctx, func(s store.Store, info pool.Info) error {
		p, err := pool.Open(ctx, s, info.Name, nil)
		if err == nil {
			err = f(p)
		}
		return err
	})
}

// eachInStore is eachPool with the store, and what is known of the pool.
func (r *reconciler) eachInStore(ctx context.Context, f func(store.Store, pool.Info) error) error {
	s, shared, err := r.open(ctx, network.Header{Store: r.store}, false)
	if err != nil {
		return err
	}
	defer s.Close()
	r.live.about(shared)
	for info, err := range pool.List(ctx, s) {
		if err != nil {
			return err
		}
		if !strings.HasPrefix(info.Name, r.pools) {
			continue
		}
		if err := f(s, info); err != nil {
			return err
		}
	}
	return nil
}

// free frees in one pool.
func (r *reconciler) free(ctx context.Context, p *pool.Pool, mark pool.Mark, exists func(pool.Allocation) bool) error {
	live := func(yield func(string, error) bool) { r.yieldLive(ctx, p, exists, yield) }
	found, err := p.Reconcile(ctx, mark, live, &pool.ReconcileOptions{Grace: r.grace, DryRun: r.dryRun})
	r.metrics.freed(p.Name(), found, r.dryRun)
	r.report("freed", p, found.Released)
	r.report("missing", p, found.Missing)
	return err
}

// yieldLive yields the owners of the pool that must be left alone: those that exist, and those that the source does not
// know of.
func (r *reconciler) yieldLive(
	ctx context.Context, p *pool.Pool, exists func(pool.Allocation) bool, yield func(string, error) bool,
) {
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			yield("", err)
			return
		}
		if (!r.live.covers(a) || exists(a)) && !yield(a.Owner, nil) {
			return
		}
	}
}

func (r *reconciler) report(what string, p *pool.Pool, allocations []pool.Allocation) {
	if r.dryRun && what == "freed" {
		what = "would free"
	}
	for _, a := range allocations {
		fmt.Fprintf(r.Stdout, "%s %s %s %v\n", what, p.Name(), a.Owner, a.Addrs())
	}
}
