package addressing

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// policyLabel is the label of an allocation that has the policy of its Service.
const policyLabel = "ipFamilyPolicy"

// wish is what an owner is to have.
type wish struct {
	row   Row
	owner string
	// claim is what it is to have; without an owner it is to have nothing.
	claim pool.Claim
	// held is what it has; without an owner it has nothing. A node that was known by its address holds it under that.
	held pool.Allocation
	// fact says that it has this already in the cluster, whatever the pool knows.
	fact bool
	// implied says that Kubernetes makes the object by itself.
	implied bool
}

// turn says when a wish has its turn: addresses that must be these come before any others.
func (w *wish) turn() int {
	exact := 0
	for _, request := range w.claim.Requests {
		if request.Exact.IsValid() {
			exact++
		}
	}
	switch {
	case w.fact:
		return 0
	case w.implied:
		return 1
	case exact > 0 && exact == len(w.claim.Requests):
		return 2
	case exact > 0:
		return 3
	}
	return 4
}

// satisfied reports whether the owner has what it is to have.
func (w *wish) satisfied() bool {
	if w.held.Owner != w.owner || w.claim.Labels[policyLabel] != w.held.Labels[policyLabel] {
		return false
	}
	if len(w.claim.Requests) == 0 {
		return true // anything will do
	}
	return slices.EqualFunc(w.claim.Requests, w.held.Prefixes,
		func(r pool.Request, p netip.Prefix) bool { return r.Exact == p })
}

// fulfil does what is to be done for the wishes in a pool, each by itself, and sets the states of their rows. An error
// is one of the store, after which a part may be done; the next run does the rest.
func fulfil(ctx context.Context, p *pool.Pool, wishes []*wish) error {
	var release, allocate, exchange []*wish
	for _, w := range wishes {
		switch {
		case w.row.State == Failed || w.claim.Owner == "" && w.held.Owner == "":
		case w.claim.Owner == "":
			release = append(release, w)
		case w.satisfied():
			w.row.State, w.row.Prefixes = Kept, w.held.Prefixes
		case w.held.Owner == "":
			allocate = append(allocate, w)
		case w.fact: // others may have what it holds
			release = append(release, w)
			allocate = append(allocate, w)
		default:
			exchange = append(exchange, w)
		}
	}
	if err := keepClear(ctx, p, slices.Concat(allocate, exchange)); err != nil {
		return err
	}
	slices.SortStableFunc(allocate, func(a, b *wish) int { return a.turn() - b.turn() })
	for _, do := range []func() error{
		func() error { return each(ctx, p, release, releaseStep, (*wish).released) },
		func() error { return each(ctx, p, allocate, allocateStep, (*wish).allocated) },
		func() error { return exchanges(ctx, p, exchange) },
	} {
		if err := do(); err != nil {
			return err
		}
	}
	return nameHolders(ctx, p, wishes)
}

// keepClear keeps requests for any address off the addresses that others wish, but get only after them, because they
// get any address of the other family with it.
func keepClear(ctx context.Context, p *pool.Pool, wishes []*wish) error {
	var wished []netipx.IPRange
	for _, w := range wishes {
		for _, request := range w.claim.Requests {
			if request.Exact.IsValid() && (w.turn() == 3 || w.held.Owner != "") {
				wished = append(wished, netipx.RangeOfPrefix(request.Exact))
			}
		}
	}
	if len(wished) == 0 {
		return nil
	}
	info, err := p.Info(ctx)
	if err != nil {
		return err
	}
	others := map[pool.Family]*netipx.IPSet{}
	for _, family := range info.Spec.AllFamilies() {
		others[family] = cidr.Difference(info.Spec.Set(family), cidr.SetOf(wished...))
	}
	for _, w := range wishes {
		for i := range w.claim.Requests {
			if request := &w.claim.Requests[i]; !request.Exact.IsValid() {
				request.Within = others[request.Family]
			}
		}
	}
	return nil
}

func releaseStep(w *wish) pool.Step {
	return pool.Release(pool.Held{Owner: w.held.Owner, Generation: w.held.Generation})
}

func allocateStep(w *wish) pool.Step { return pool.Allocate(w.claim) }

// each does one step for each wish, in their order, and tells each wish its result.
func each(
	ctx context.Context, p *pool.Pool, wishes []*wish, step func(*wish) pool.Step, done func(*wish, pool.Result),
) error {
	steps := iter.Seq[pool.Step](func(yield func(pool.Step) bool) {
		for _, w := range wishes {
			if !yield(step(w)) {
				return
			}
		}
	})
	i := 0
	for result, err := range p.Each(ctx, steps) {
		if err != nil {
			return err
		}
		done(wishes[i], result)
		i++
	}
	return nil
}

func (w *wish) released(result pool.Result) {
	if result.Err != nil {
		w.fail(result.Err)
		return
	}
	w.row.State, w.row.Prefixes = Released, result.Allocation.Prefixes
}

func (w *wish) allocated(result pool.Result) {
	switch {
	case result.Err != nil:
		w.fail(result.Err)
		return
	case w.row.State == Released || w.held.Owner != "":
		w.row.State = Changed
	case w.fact:
		w.row.State = Adopted
	default:
		w.row.State = New
	}
	w.row.Prefixes, w.row.Err = result.Allocation.Prefixes, nil
}

func (w *wish) fail(err error) { w.row.State, w.row.Prefixes, w.row.Err = Failed, nil, err }

// batch is how many exchanges share a commit.
const batch = 512

// exchanges gives owners something else than they hold. No owner is without an address meanwhile, and one whose wish
// cannot be met keeps what it has.
func exchanges(ctx context.Context, p *pool.Pool, wishes []*wish) error {
	for some := range slices.Chunk(wishes, batch) {
		err := exchangeAll(ctx, p, some)
		if err == nil {
			continue
		}
		if !isRefusal(err) {
			return err
		}
		for _, w := range some { // one of them cannot be done
			if err := exchangeAll(ctx, p, []*wish{w}); isRefusal(err) {
				w.fail(err)
				w.row.Prefixes = w.held.Prefixes
			} else if err != nil {
				return err
			}
		}
	}
	return nil
}

// exchangeAll does all of the exchanges in one commit, or none.
func exchangeAll(ctx context.Context, p *pool.Pool, wishes []*wish) error {
	var steps []pool.Step
	for _, w := range wishes {
		steps = append(steps, releaseStep(w), allocateStep(w))
	}
	results, err := p.All(ctx, steps...)
	if err != nil {
		return err
	}
	for i, w := range wishes {
		w.allocated(results[2*i+1])
	}
	return nil
}

// isRefusal reports whether an error is about one claim, and not about the store.
func isRefusal(err error) bool {
	for _, refusal := range []error{
		pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrFamily, pool.ErrInvalid,
	} {
		if errors.Is(err, refusal) {
			return true
		}
	}
	return false
}

// nameHolders adds to each refusal of an address that is taken who has it.
func nameHolders(ctx context.Context, p *pool.Pool, wishes []*wish) error {
	for _, w := range wishes {
		if w.row.State != Failed || !errors.Is(w.row.Err, pool.ErrTaken) {
			continue
		}
		for _, request := range w.claim.Requests {
			if !request.Exact.IsValid() {
				continue
			}
			holder, err := p.Get(ctx, pool.Held{Addr: request.Exact.Addr()})
			if errors.Is(err, pool.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if holder.Owner != w.owner {
				w.row.Err = fmt.Errorf("%w by %s", w.row.Err, holder.Owner)
				break
			}
		}
	}
	return nil
}
