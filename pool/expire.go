package pool

import "context"

// Expire frees all leases and cooldowns that have ended, and returns how many. It is never necessary, because a claim
// that needs an address takes those that have ended. It is for exact counts, and for callers that watch the pool.
//
// Errors: [ErrBusy]; [ErrNoPool]; those of the store. What was freed before the error stays free, and is counted. Cost:
// O(leases and cooldowns that have ended), if the store has an index of them, and one commit for every 4,096.
func (p *Pool) Expire(ctx context.Context) (expired int, err error) {
	call, ctx := p.observe(ctx, "Expire")
	defer call.end()
	expired, err = p.expire(ctx)
	return expired, call.result(p.failed("expire", "", err))
}

func (p *Pool) expire(ctx context.Context) (expired int, err error) {
	// This handle may not know yet that anything ends, and a commit without writes would not tell.
	if err := p.look(ctx, func(*state) error { return nil }); err != nil {
		return 0, err
	}
	for {
		o := newOp(ctx, p, &task{kind: taskExpire, limit: maxBatch})
		err := o.run()
		s := &o.one.step[0]
		if err == nil {
			err = s.err
		}
		if err != nil {
			return expired, err
		}
		n := s.outcome.ended
		if n == 0 {
			return expired, nil
		}
		expired += n
	}
}
