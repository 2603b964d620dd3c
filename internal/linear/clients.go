package linear

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest/faults"
)

// Clients are concurrent users of one pool. The zero Clients is not valid.
type Clients struct {
	// Open returns another handle on the store. Each handle has Goroutines clients.
	Open                func(ctx context.Context) (store.Store, error)
	Handles, Goroutines int
	// Each client makes that many calls, and goes on until For has passed.
	Calls int
	For   time.Duration
	// Addresses and Owners are how many of them there are. With fewer of both, calls meet more often.
	Addresses, Owners int
	// Own gives each client an owner of its own, for which no other client calls anything but Get. Without it each calls
	// for all owners. Give them their own if Rates lose requests or replies: a pool that has lost the reply to a release
	// releases again, unless the call names the generation, and so also what another client was granted meanwhile for
	// the same owner.
	Own bool
	// Seed chooses the calls and the faults, of which Rates says how frequent they are.
	Seed  uint64
	Rates faults.Rates
}

// History is what clients asked for and were told.
type History struct {
	addresses  int
	operations []porcupine.Operation
}

// Len returns the number of calls, and Unknown how many of them left open whether they took effect.
func (h History) Len() int { return len(h.operations) }

// Unknown returns the number of calls that left open whether they took effect.
func (h History) Unknown() int {
	n := 0
	for _, o := range h.operations {
		if o.Output.(answer).unknown {
			n++
		}
	}
	return n
}

// Check has porcupine decide whether the history is linearizable. Its answer is [porcupine.Unknown] if it does not know
// after that time. With a path, a picture of the history is written there if it is not linearizable.
func (h History) Check(patience time.Duration, path string) (porcupine.CheckResult, error) {
	m := model(h.addresses)
	result, info := porcupine.CheckOperationsVerbose(m, h.operations, patience)
	if result != porcupine.Illegal || path == "" {
		return result, nil
	}
	return result, porcupine.VisualizePath(m, info, path)
}

// Run creates the pool, lets the clients work, and returns what they were told. Its error joins the errors that a pool
// may not answer with. In the history, the outcomes of these calls are unknown.
func (c Clients) Run(ctx context.Context, name string) (History, error) {
	spec, err := pool.ParseSpec(fmt.Sprintf("%s-%s", addrOf(1), addrOf(byte(c.Addresses))))
	if err != nil {
		return History{}, err
	}
	injector := &faults.Injector{Choose: faults.Random(c.Seed, c.Rates)}
	begin := time.Now()
	parts := make([]part, c.Handles*c.Goroutines)
	var all sync.WaitGroup
	for handle := range c.Handles {
		s, err := c.Open(ctx)
		if err != nil {
			return History{}, err
		}
		defer s.Close()
		p, err := pool.Ensure(ctx, s, name, spec, pool.Refuse, nil)
		if err == nil {
			p, err = pool.Open(ctx, injector.Wrap(s), name, nil)
			for ; errors.Is(err, faults.ErrInjected); p, err = pool.Open(ctx, injector.Wrap(s), name, nil) {
			}
		}
		if err != nil {
			return History{}, err
		}
		for n := range c.Goroutines {
			client := handle*c.Goroutines + n
			all.Go(func() { parts[client] = c.work(ctx, p, client, begin) })
		}
	}
	all.Wait()
	h := History{addresses: c.Addresses}
	for _, part := range parts {
		h.operations, err = append(h.operations, part.operations...), errors.Join(err, part.err)
	}
	return h, err
}

// part is what one client did.
type part struct {
	operations []porcupine.Operation
	err        error
}

// work makes the calls of one client.
func (c Clients) work(ctx context.Context, p *pool.Pool, client int, begin time.Time) part {
	var done part
	random := rand.New(rand.NewPCG(c.Seed, uint64(client)))
	for n := 0; (n < c.Calls || time.Since(begin) < c.For) && ctx.Err() == nil; n++ {
		in := call{
			method: method(random.IntN(int(methods))), owner: 1 + byte(random.IntN(c.Owners)),
			addr: 1 + byte(random.IntN(c.Addresses)),
		}
		if c.Own && in.method != get {
			in.owner = 1 + byte(client)
		}
		o := porcupine.Operation{ClientId: client, Input: in, Call: int64(time.Since(begin))}
		out := in.make(ctx, p)
		o.Output, o.Return = out, int64(time.Since(begin))
		switch {
		case out.unknown:
			o.Return = math.MaxInt64
		case errors.Is(out.err, faults.ErrInjected), errors.Is(out.err, pool.ErrBusy):
			continue // nothing took effect, and nothing is said of the pool
		case out.err != nil && !known(out.err):
			done.err = errors.Join(done.err, fmt.Errorf("%+v: %w", in, out.err))
			o.Output, o.Return = answer{err: out.err, unknown: true}, math.MaxInt64
		}
		done.operations = append(done.operations, o)
	}
	return done
}

// known reports whether a pool of the model answers with the error.
func known(err error) bool {
	for _, one := range []error{pool.ErrExhausted, pool.ErrTaken, pool.ErrHeld, pool.ErrNotFound} {
		if errors.Is(err, one) {
			return true
		}
	}
	return false
}

// make makes the call.
func (c call) make(ctx context.Context, p *pool.Pool) answer {
	var a pool.Allocation
	var err error
	held := pool.Held{Owner: fmt.Sprint("owner-", c.owner)}
	claim := pool.Claim{Owner: held.Owner, TTL: time.Hour}
	switch c.method {
	case allocate:
		a, err = p.Allocate(ctx, claim)
	case allocateExact:
		claim.Requests = []pool.Request{pool.ExactAddr(addrOf(c.addr))}
		a, err = p.Allocate(ctx, claim)
	case release:
		a, err = p.Release(ctx, held)
	case renew:
		a, err = p.Renew(ctx, held, time.Hour)
	case get:
		a, err = p.Get(ctx, held)
	}
	if err != nil {
		return answer{err: err, unknown: errors.Is(err, store.ErrUnknown)}
	}
	return answer{addr: numberOf(a.Prefixes[0].Addr())}
}
