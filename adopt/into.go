package adopt

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

var (
	// ErrOutside is the error of an entry that lies in the ranges of none of the pools.
	ErrOutside = errors.New("in no pool")
	// ErrAmbiguous is the error of an entry that lies in several of the pools, none of which was delegated from the
	// others.
	ErrAmbiguous = errors.New("in several pools")
	// ErrTwice is the error of an entry with a prefix that an earlier entry has, of another owner. The earlier one is
	// taken over.
	ErrTwice = errors.New("twice in the source")
)

// Options are what [Into] may be told. The zero Options are the defaults.
type Options struct {
	// Labels are those of each allocation, beside those of its entry, over which they prevail.
	Labels map[string]string
	// DryRun does the same to copies of the pools in memory, so that nothing is changed. It takes about 2 KiB
	// of memory for each allocation in the pools, and for each entry.
	DryRun bool
	// Clock tells the time, for the ends of leases: the clock of the pools. Default: time.Now.
	Clock func() time.Time
}

// Outcome says what became of an entry.
type Outcome string

// The outcomes.
const (
	// Adopted is an entry that is now an allocation.
	Adopted Outcome = "adopted"
	// Held is an entry that was one before: the owner held just that.
	Held Outcome = "held"
	// Ended is a lease that has ended, and is left out.
	Ended Outcome = "ended"
	// Clash is an entry that could not be taken over. Err says why.
	Clash Outcome = "clash"
)

// Result is what became of an entry, or of those of its prefixes that lie in one pool.
type Result struct {
	// Entry has only the prefixes that the result is about.
	Entry
	Outcome Outcome
	// Pool is the name of the pool; empty if the entry is in none.
	Pool string
	// Err says why the entry was not taken over; nil if it was. It wraps ErrOutside, ErrAmbiguous or ErrTwice, or is an
	// error of [pool.Pool.Allocate], such as pool.ErrTaken, pool.ErrHeld or pool.ErrNotInPool.
	Err error
	// Holder is who has the address instead, or the first one of the prefix, if Err wraps pool.ErrTaken or ErrTwice;
	// empty if nobody has, as when it cools down. With ErrTwice, HolderAt is where the earlier entry stands.
	Holder, HolderAt string
}

// Into takes over the entries into the pools: each becomes an allocation of its owner, of exactly its prefixes, in the
// pool whose ranges contain them; of a pool and those delegated from it, in the last one. An entry whose prefixes lie
// in several pools becomes an allocation in each. If the labels of an
// entry break a rule of pools, they are left out.
//
// It yields what became of each entry, those of one pool in their order. An entry that cannot be taken over does not
// keep the others from it. Into may be repeated: what was taken over before is Held.
//
// All entries are read and checked first, so the sequence is ranged over twice. If an entry cannot be read, nothing is
// changed, and its error is the only one. An error that ends the call is yielded last, with the zero Result: that of a
// reader, of a store or of the context. What was yielded before is done, and so may be up to 4,096 entries in each
// pool.
//
// Cost: one commit for every 4,096 entries in a pool, and a read for each that clashes. In memory 4,096 entries for
// each pool, and about a bit for each address where they are dense.
func Into(ctx context.Context, pools []*pool.Pool, entries Entries, options *Options) iter.Seq2[Result, error] {
	return func(yield func(Result, error) bool) {
		a := adoption{yield: yield}
		if options != nil {
			a.options = *options
		}
		if a.options.Clock == nil {
			a.options.Clock = time.Now //nolint:forbidigo // the default
		}
		if err := a.run(ctx, pools, entries); err != nil && !errors.Is(err, errStop) {
			yield(Result{}, err)
		}
	}
}

// errStop ends a call whose caller wants no more results.
var errStop = errors.New("stop")

// batchSize is how many entries are given to a pool at once: what [pool.Pool.Each] commits at once.
const batchSize = 4096

// adoption is a call of Into.
type adoption struct {
	options Options
	now     time.Time
	yield   func(Result, error) bool
	homes   []*home
	routes  routes
	// contested are the prefixes that several entries have, with the first of these, once it was met.
	contested map[netip.Prefix]*Entry
}

// home is a pool, and what is to be done in it. In a dry run the pool is a copy, and the info that of the original but
// for the revision.
type home struct {
	*pool.Pool
	info  pool.Info
	batch []Entry
}

func (a *adoption) run(ctx context.Context, pools []*pool.Pool, entries Entries) error {
	a.now = a.options.Clock()
	n, err := a.survey(entries)
	if err != nil {
		return err
	}
	if err := a.open(ctx, pools); err != nil {
		return err
	}
	for e, err := range entries {
		if err != nil {
			return fmt.Errorf("the source has changed since it was checked: %w", err)
		}
		n--
		if err := a.take(ctx, e); err != nil {
			return err
		}
	}
	if n != 0 {
		return fmt.Errorf("%w: the source did not give the same entries when it was read again", pool.ErrInvalid)
	}
	for _, h := range a.homes {
		if err := a.flush(ctx, h); err != nil {
			return err
		}
	}
	return nil
}

// survey reads all entries, and learns which prefixes are there more than once. It returns how many entries there are.
func (a *adoption) survey(entries Entries) (n int, err error) {
	a.contested = map[netip.Prefix]*Entry{}
	seen := map[bool]*allocator.Allocator{}
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		r := netipx.RangeOfPrefix(netip.MustParsePrefix(all))
		if seen[r.From().Is4()], err = allocator.New(cidr.SetOf(r)); err != nil {
			return 0, err
		}
	}
	for e, err := range entries {
		if err != nil {
			return n, err
		}
		n++
		if a.hasEnded(e) {
			continue
		}
		for _, p := range e.Prefixes {
			if !p.IsValid() || p != p.Masked() {
				continue // which the pool refuses
			}
			of := seen[p.Addr().Is4()]
			if of.IsTaken(p) {
				a.contested[p] = nil
			} else if _, err := of.Occupy(netipx.RangeOfPrefix(p)); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// hasEnded reports whether nothing is left of a lease. Pools do not count less than a microsecond.
func (a *adoption) hasEnded(e Entry) bool {
	return !e.Ends.IsZero() && e.Ends.Sub(a.now) < time.Microsecond
}

func (a *adoption) open(ctx context.Context, pools []*pool.Pool) error {
	for _, p := range pools {
		info, err := p.Info(ctx)
		if err == nil && a.options.DryRun {
			p, info.Revision, err = copyOf(ctx, p, a.options.Clock)
		}
		if err != nil {
			return err
		}
		a.homes = append(a.homes, &home{Pool: p, info: info})
	}
	a.routes = newRoutes(a.homes)
	return nil
}

// take does what is to be done with an entry.
func (a *adoption) take(ctx context.Context, e Entry) error {
	if a.hasEnded(e) {
		return a.tell(Result{Entry: e, Outcome: Ended})
	}
	parts, err := a.parts(e)
	if err != nil {
		return err
	}
	for _, p := range parts {
		if first := a.rival(p.Entry); first != nil {
			err = a.tell(Result{
				Entry: p.Entry, Outcome: Clash, Pool: p.home.info.Name, Holder: first.Owner, HolderAt: first.At,
				Err: fmt.Errorf("%w: %q has it at %s", ErrTwice, first.Owner, first.At),
			})
		} else if p.home.batch = append(p.home.batch, p.Entry); len(p.home.batch) == batchSize {
			err = a.flush(ctx, p.home)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// part is an entry with those of its prefixes that lie in one pool.
type part struct {
	Entry
	home *home
}

// parts divides an entry among the pools, and tells of prefixes that lie in none.
func (a *adoption) parts(e Entry) ([]part, error) {
	var parts []part
	for _, p := range e.Prefixes {
		one := e
		one.Prefixes = []netip.Prefix{p}
		h, err := a.routes.find(p)
		if err != nil {
			if err := a.tell(Result{Entry: one, Outcome: Clash, Err: err}); err != nil {
				return nil, err
			}
			continue
		}
		i := slices.IndexFunc(parts, func(other part) bool { return other.home == h })
		if i >= 0 {
			parts[i].Prefixes = append(parts[i].Prefixes, p)
		} else {
			parts = append(parts, part{one, h})
		}
	}
	return parts, nil
}

// rival is an earlier entry, of another owner, that has one of the prefixes; nil if there is none.
func (a *adoption) rival(e Entry) *Entry {
	for _, p := range e.Prefixes {
		first, contested := a.contested[p]
		if first != nil && first.Owner != e.Owner {
			return first
		}
		if contested && first == nil {
			a.contested[p] = &e
		}
	}
	return nil
}

func (a *adoption) tell(r Result) error {
	if !a.yield(r, nil) {
		return errStop
	}
	return nil
}

// flush gives the owners in the pool what they have, and tells of each.
func (a *adoption) flush(ctx context.Context, h *home) error {
	batch := h.batch
	h.batch = nil
	results := make([]pool.Result, 0, len(batch))
	var failed error
	for result, err := range h.Each(ctx, a.steps(batch)) {
		if err != nil {
			failed = err
			break
		}
		results = append(results, result)
	}
	for i, result := range results {
		r, err := a.resultOf(ctx, h, batch[i], result)
		if err == nil {
			err = a.tell(r)
		}
		if err != nil {
			return errors.Join(failed, err)
		}
	}
	return failed
}

func (a *adoption) steps(batch []Entry) iter.Seq[pool.Step] {
	return func(yield func(pool.Step) bool) {
		for _, e := range batch {
			if !yield(pool.Allocate(a.claimOf(e))) {
				return
			}
		}
	}
}

// claimOf is the claim of an entry. It has only the labels of the options if those of the entry break a rule.
func (a *adoption) claimOf(e Entry) pool.Claim {
	claim := pool.Claim{Owner: e.Owner, Scope: e.Scope, Labels: map[string]string{}}
	for _, p := range e.Prefixes {
		claim.Requests = append(claim.Requests, pool.Request{Exact: p})
	}
	if !e.Ends.IsZero() {
		claim.TTL = e.Ends.Sub(a.now)
	}
	maps.Copy(claim.Labels, e.Labels)
	maps.Copy(claim.Labels, a.options.Labels)
	if claim.Validate() != nil {
		claim.Labels = a.options.Labels
	}
	return claim
}

func (a *adoption) resultOf(ctx context.Context, h *home, e Entry, result pool.Result) (Result, error) {
	r := Result{Entry: e, Outcome: Adopted, Pool: h.info.Name, Err: result.Err}
	switch {
	case errors.Is(result.Err, store.ErrUnknown):
		return Result{}, result.Err
	case result.Err != nil:
		r.Outcome = Clash
	case result.Allocation.Generation <= h.info.Revision:
		r.Outcome = Held
	}
	var failed *pool.Error
	if !errors.Is(result.Err, pool.ErrTaken) || !errors.As(result.Err, &failed) {
		return r, nil
	}
	holder, err := h.Get(ctx, pool.Held{Addr: failed.Prefix.Addr(), Optional: true})
	r.Holder = holder.Owner
	return r, err
}
