package addressing

import (
	"context"
	"iter"

	"github.com/ipalloc/ipalloc/pool"
)

// Repair makes the pools agree with the Nodes and Services, which must be all that the cluster has: what others hold is
// released, and what these have is taken over. A kind of which there is no object is left alone. It gives nothing to an
// object that has nothing, except to the Services that Kubernetes makes by itself.
//
// It returns a row for each object, and one for each owner that is gone. An object that has what another one has, or
// what no range has, has the state [Failed]. Like Assign it makes the pools follow the configuration, and must be
// called once.
func (p *Pools) Repair(ctx context.Context) ([]Row, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	if err := p.guardNodes(ctx, true); err != nil {
		return nil, err
	}
	var found []Row
	if p.pods != nil && len(p.cluster.Nodes) > 0 {
		gone, err := repair(ctx, p.pods, "Node", p.nodes)
		if err != nil {
			return nil, err
		}
		found = append(append(found, rows(p.nodes)...), gone...)
	}
	if len(p.cluster.Services) > 0 {
		gone, err := repair(ctx, p.addresses, "Service", p.services)
		if err != nil {
			return nil, err
		}
		found = append(append(found, rows(p.services)...), gone...)
	}
	return found, nil
}

// repair releases what is held by owners without a wish, and takes over what the others have.
func repair(ctx context.Context, p *pool.Pool, kind string, wishes []*wish) ([]Row, error) {
	mark, err := p.Mark(ctx)
	if err != nil {
		return nil, err
	}
	found, err := p.Reconcile(ctx, mark, owners(wishes), nil)
	if err != nil {
		return nil, err
	}
	var gone []Row
	for _, a := range found.Released {
		row := Row{Kind: kind, Name: a.Owner, State: Released, Prefixes: a.Prefixes}
		gone = append(gone, row)
	}
	var facts []*wish
	for _, w := range wishes {
		if w.turn() <= 2 || w.claim.Owner == "" || w.satisfied() {
			facts = append(facts, w)
		}
	}
	return gone, fulfil(ctx, p, facts)
}

// owners iterates over the owners that the cluster has.
func owners(wishes []*wish) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for _, w := range wishes {
			if !yield(w.owner, nil) {
				return
			}
		}
	}
}
