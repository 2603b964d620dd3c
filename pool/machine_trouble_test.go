package pool_test

import (
	"context"
	"errors"
	"slices"

	"pgregory.net/rapid"

	"github.com/ipalloc/ipalloc/internal/world"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// trouble is what goes wrong during one call. The zero trouble is nothing.
type trouble struct {
	before  bool               // the context has ended before the call
	ends    int                // at which request to the store the context ends; 0 for at none
	commit  int                // which commit goes wrong; 0 for none
	effect  faults.Effect      // how
	late    int                // for LandLate
	cause   error              // of what goes wrong
	outage  int                // at which request after that commit nothing gets through any more; 0 for at none
	refused int                // from which request on nothing gets through; 0 for none
	cancel  context.CancelFunc // of the call
	count   struct{ all, commits, since int }
}

// anyTrouble draws what goes wrong with a call, mostly nothing.
func anyTrouble(t *rapid.T, inStore bool) trouble {
	kinds := []string{"none", "none", "none", "none", "before", "ends", "ends", "commit", "outage", "outage", "refused"}
	if !inStore {
		kinds = kinds[:5]
	}
	switch rapid.SampledFrom(kinds).Draw(t, "trouble") {
	case "before":
		return trouble{before: true}
	case "ends":
		return trouble{ends: rapid.IntRange(1, 5).Draw(t, "at request")}
	case "commit":
		return anyCommitTrouble(t)
	case "outage":
		trouble := anyCommitTrouble(t)
		trouble.outage = rapid.IntRange(1, 6).Draw(t, "outage")
		return trouble
	case "refused":
		return trouble{refused: rapid.IntRange(1, 5).Draw(t, "from request")}
	}
	return trouble{}
}

func anyCommitTrouble(t *rapid.T) trouble {
	return trouble{
		commit: rapid.SampledFrom([]int{1, 1, 1, 2}).Draw(t, "commit"),
		effect: rapid.SampledFrom([]faults.Effect{
			faults.Refuse, faults.LoseRequest, faults.LoseReply, faults.LoseReply, faults.LandLate,
		}).Draw(t, "effect"),
		late:  rapid.IntRange(1, 3).Draw(t, "late"),
		cause: rapid.SampledFrom([]error{nil, context.DeadlineExceeded}).Draw(t, "cause"),
	}
}

// choose is what happens to a request.
func (tr *trouble) choose(call faults.Call) faults.Fault {
	tr.count.all++
	if tr.count.all == tr.ends {
		tr.cancel()
	}
	commits := call.Method == faults.Commit
	if commits {
		tr.count.commits++
	}
	if tr.count.commits >= tr.commit && tr.commit > 0 {
		tr.count.since++
	}
	switch {
	case tr.refused > 0 && tr.count.all >= tr.refused, tr.outage > 0 && tr.count.since > tr.outage:
		return faults.Fault{Effect: faults.Refuse, Err: tr.cause}
	case commits && tr.count.commits == tr.commit:
		return faults.Fault{Effect: tr.effect, Late: tr.late, Err: tr.cause}
	}
	return faults.Fault{}
}

// call makes a call, in which something may go wrong.
func (s *machine) call(t *rapid.T, do func(ctx context.Context) error) error {
	return s.callWith(anyTrouble(t, s.store != nil), do)
}

// callWith makes a call in which this goes wrong.
func (s *machine) callWith(tr trouble, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	tr.cancel = cancel
	s.trouble = tr
	if tr.before {
		cancel()
	}
	if s.store == nil {
		return do(ctx)
	}
	s.faults.Choose = s.trouble.choose
	err := do(ctx)
	s.faults.Choose = nil
	for range 4 { // which lets what is late land
		_, _ = s.base.Get(context.Background(), store.Key{Kind: store.KindPool, Pool: "nobody's"})
	}
	return err
}

// any reports whether something goes wrong.
func (tr *trouble) any() bool { return tr.before || tr.ends > 0 || tr.commit > 0 || tr.refused > 0 }

// mayHaveReleased reports whether a call that succeeded may have been refused otherwise, since nothing that it names is
// held: the answer of its commit was lost, and what the handle took to be held was gone already.
func (s *machine) mayHaveReleased(err error, no world.Refusals) bool {
	tr := &s.trouble
	lost := tr.commit > 0 && tr.count.commits >= tr.commit && tr.effect != faults.Refuse
	return err == nil && lost && len(no) > 0 && !slices.ContainsFunc(no, func(refusal error) bool {
		return !errors.Is(refusal, pool.ErrNotFound) && !errors.Is(refusal, pool.ErrGeneration)
	})
}

// isTrouble reports whether an error comes from what went wrong in the last call.
func (s *machine) isTrouble(err error) bool {
	if !s.trouble.any() {
		return false
	}
	for _, each := range []error{
		context.Canceled, context.DeadlineExceeded, faults.ErrInjected, store.ErrUnknown, pool.ErrBusy,
	} {
		if errors.Is(err, each) {
			return true
		}
	}
	return false
}
