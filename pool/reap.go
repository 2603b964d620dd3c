package pool

import "context"

// Reap frees all leases and cooldowns that have ended, and returns how many. Nothing requires it, since who needs an address takes what has
// ended. It is for exact counts, and for those who watch the pool.
//
// Errors: [ErrBusy]; those of the store. Cost: O(what has ended), with a store that has an index by expiry, and one commit for every 4,096.
func (p *Pool) Reap(ctx context.Context) (reaped int, err error) {
	// This handle may not know yet that anything expires, and a commit without writes would not tell.
	if err := p.exclusively(ctx, p.catchUp); err != nil {
		return 0, p.failed("reap", "", err)
	}
	for {
		o := &op{ctx: ctx, tasks: []task{{kind: taskReap}}}
		if err := p.submitAny(o); err != nil {
			return reaped, p.failed("reap", "", err)
		}
		t := &o.tasks[0]
		reaped += len(t.writes)
		if t.err != nil || len(t.writes) == 0 {
			return reaped, p.failed("reap", "", t.err)
		}
	}
}

// planReap frees what has ended, as much of it as goes into one commit.
func (p *Pool) planReap(ctx context.Context, t *task) error {
	if p.ledger.tallies.expiring == 0 {
		return nil
	}
	for h, err := range p.expiring(ctx) {
		switch {
		case err != nil:
			return err
		case !h.due(p.time) || len(t.writes) >= maxBatch || t.limit > 0 && len(t.writes) >= t.limit:
			return nil
		case p.written[h.key(p.name)] || p.planningOf(h) != nil || h.Child != "":
			continue
		}
		if err := p.ledger.free(h); err != nil {
			return err
		}
		p.remove(t, h)
	}
	return nil
}
