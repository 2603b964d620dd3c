package leases

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// Client is who asks.
type Client struct {
	// Names are those that a reservation may know it by, the hardware address first.
	Names []string
	// Hardware and Circuit are what the quotas count by; see config.Config. Either may be empty.
	Hardware, Circuit string
	// Hostname is what the client calls itself, or empty.
	Hostname string
}

// Want is one address or prefix that a client asks for.
type Want struct {
	Kind Kind
	// Owner is the identity of the client, with the IAID in DHCPv6: the same text means the same lease.
	Owner string
	// First reports whether it is the one of its kind that a reservation of the client is for.
	First bool
	// Prefer is an address that the client would like, or must have if Exact is set.
	Prefer netip.Addr
	Exact  bool
	// Near is an address in the subnet that comes first, such as a relay's.
	Near netip.Addr
}

// Grant is what a client got.
type Grant struct {
	Want
	// Prefix is the prefix, or the address as a prefix of its full length. Invalid if Err is not nil.
	Prefix   netip.Prefix
	Source   *Source
	Hostname string // of the reservation, if any
	// Err says why there is none. It wraps one of package pool's errors, or [ErrQuota].
	Err error
}

// Addr returns the address.
func (g Grant) Addr() netip.Addr { return g.Prefix.Addr() }

// Grant gives a client what it wants, as leases that last for ttl, in one commit, which is durable when Grant
// returns. A client that holds it already gets it again: RFC 2131, section 4.3.1, and RFC 8415, section 18.3. What
// cannot be had has its error in its result, and does not keep the client from the rest. The error is that of the
// store.
func (l *Leases) Grant(ctx context.Context, n *Network, c Client, ttl time.Duration, wants ...Want) ([]Grant, error) {
	grants, undos := make([]Grant, len(wants)), make([]func(), len(wants))
	plans := make([]plan, 0, len(wants))
	now := l.clock()
	for i, want := range wants {
		grants[i].Want = want
		p, err := l.plan(n, c, want, ttl)
		if err == nil {
			undos[i], err = l.quota.take(l.parties(p.claim.Labels), p.claim.Owner, now, now.Add(ttl))
		}
		if grants[i].Err = err; err == nil {
			p.grant = &grants[i]
			plans = append(plans, p)
		}
	}
	err := commit(ctx, plans)
	for i := range grants {
		if undos[i] != nil && (err != nil || grants[i].Err != nil) {
			undos[i]()
		}
	}
	return grants, err
}

// labelsOf are the labels of what a client holds.
func labelsOf(c Client) map[string]string {
	labels := map[string]string{}
	for name, value := range map[string]string{hardwareLabel: c.Hardware, circuitLabel: c.Circuit, hostLabel: c.Hostname} {
		if value != "" {
			labels[name] = value
		}
	}
	return labels
}

// plan is how a want is met.
type plan struct {
	grant   *Grant
	claim   pool.Claim
	sources []*Source
	// exchange reports whether the client first gives back what it holds, and instead is what to do if the plan fails:
	// nil means nothing.
	exchange bool
	instead  *plan
	// reserved is the reservation that the claim is for, if any.
	reserved *reservation
}

func (l *Leases) plan(n *Network, c Client, want Want, ttl time.Duration) (plan, error) {
	labels := labelsOf(c)
	usual, err := n.usual(want, pool.Claim{Owner: want.Owner, TTL: ttl, Labels: labels})
	r, reserved := n.reservationOf(want.Kind, c.Names)
	if !reserved || !want.First {
		return usual, err
	}
	if want.Exact && want.Prefer != r.prefix.Addr() {
		return plan{}, errOther
	}
	p := plan{claim: r.claim(), sources: []*Source{r.source}, reserved: &r}
	maps.Copy(p.claim.Labels, labels)
	p.claim.TTL = ttl
	if !want.Exact && err == nil {
		// Somebody else may still have the address from the time before the reservation.
		p.instead = &usual
	}
	return p, nil
}

// errOther is returned to a client that asks to keep another address than the one that is reserved for it.
var errOther = errors.New("another address is reserved for the client")

// usual is the plan for a client without a reservation.
func (n *Network) usual(want Want, claim pool.Claim) (plan, error) {
	sources := slices.Clone(n.sources[want.Kind])
	for _, first := range []netip.Addr{want.Near, want.Prefer} {
		slices.SortStableFunc(sources, func(a, b *Source) int { return rank(a, first) - rank(b, first) })
	}
	if want.Exact {
		sources = slices.DeleteFunc(sources, func(s *Source) bool { return !s.Within.Contains(want.Prefer) })
	}
	if len(sources) == 0 {
		return plan{}, pool.ErrNotInPool
	}
	request := pool.Request{Prefer: want.Prefer}
	if want.Exact {
		request = pool.ExactAddr(want.Prefer)
	}
	claim.Requests = []pool.Request{request}
	return plan{claim: claim, sources: sources}, nil
}

func rank(s *Source, addr netip.Addr) int {
	if addr.IsValid() && s.Within.Contains(addr) {
		return 0
	}
	return 1
}

// steps are the steps of a plan.
func (p *plan) steps() []pool.Step {
	pools := make([]*pool.Pool, len(p.sources))
	for i, s := range p.sources {
		pools[i] = s.Pool
	}
	var steps []pool.Step
	if p.exchange {
		held := pool.Held{Owner: p.claim.Owner, Optional: true}
		steps = append(steps, pool.Release(held).In(pools[0]))
	}
	if p.reserves() {
		steps = append(steps, pool.Reserve(p.reserved.claim()).In(pools...))
	}
	return append(steps, pool.Allocate(p.claim).In(pools...))
}

// reserves reports whether the plan keeps what the configuration reserves and the pool does not keep yet.
func (p *plan) reserves() bool { return p.reserved != nil && !p.reserved.kept.Load() }

// commit does all plans in one commit. A plan that fails gets another try if there is one, or leaves the others alone.
func commit(ctx context.Context, plans []plan) error {
	for len(plans) > 0 {
		results, err := do(ctx, plans)
		if err == nil {
			for i, p := range plans {
				p.grant.Prefix = results[i].Allocation.Prefixes[0]
				if p.reserved != nil {
					p.grant.Hostname = p.reserved.hostname
					p.reserved.kept.Store(true)
				}
				j := slices.IndexFunc(p.sources, func(s *Source) bool { return s.Pool == results[i].Pool })
				p.grant.Source = p.sources[j]
			}
			return nil
		}
		var failure *pool.Error
		if !errors.As(err, &failure) || !refused(err) {
			return err
		}
		i := slices.IndexFunc(plans, func(p plan) bool { return p.claim.Owner == failure.Owner })
		if i < 0 {
			return err
		}
		if again, ok := plans[i].next(err); ok {
			plans[i] = again
			continue
		}
		plans[i].grant.Err = err
		plans = slices.Delete(plans, i, i+1)
	}
	return nil
}

// do does the plans in one commit, or none of them, and returns the results of the claims.
func do(ctx context.Context, plans []plan) ([]pool.Result, error) {
	first := plans[0].sources[0].Pool
	if len(plans) == 1 && len(plans[0].sources) == 1 && !plans[0].exchange && !plans[0].reserves() {
		a, err := first.Allocate(ctx, plans[0].claim)
		return []pool.Result{{Pool: first, Allocation: a}}, err
	}
	var steps []pool.Step
	for i := range plans {
		steps = append(steps, plans[i].steps()...)
	}
	results, err := first.All(ctx, steps...)
	if err != nil {
		return nil, err
	}
	var claims []pool.Result
	for i, step := range steps {
		if step.Op == "allocate" {
			claims = append(claims, results[i])
		}
	}
	return claims, nil
}

// next returns what to try after the error, if anything.
func (p *plan) next(err error) (plan, bool) {
	asked := p.claim.Requests[0]
	switch {
	case errors.Is(err, pool.ErrHeld) && !p.exchange && (p.instead != nil || !asked.Exact.IsValid()):
		// It held a dynamic address before the reservation, or a prefix of another length.
		again := *p
		again.exchange = true
		return again, true
	case p.instead != nil:
		again := *p.instead
		again.grant = p.grant
		return again, true
	}
	return plan{}, false
}

// refused reports whether the pool, rather than the store, said no.
func refused(err error) bool {
	for _, no := range []error{pool.ErrExhausted, pool.ErrTaken, pool.ErrNotInPool, pool.ErrHeld, pool.ErrCordoned} {
		if errors.Is(err, no) {
			return true
		}
	}
	return false
}

// Refused reports whether the error of a grant is about the address: the client must do without it. Any other error is
// of the store, or about the client's quota, and the client gets no answer.
func Refused(err error) bool { return errors.Is(err, errOther) || refused(err) }

// Holds reports whether the client has a lease of exactly that address.
func (l *Leases) Holds(ctx context.Context, n *Network, c Client, want Want) (bool, error) {
	for _, s := range n.sources[want.Kind] {
		if !s.Within.Contains(want.Prefer) {
			continue
		}
		_, err := s.Pool.Get(ctx, pool.Held{Owner: n.owner(c, want), Addr: want.Prefer})
		if err == nil || !errors.Is(err, pool.ErrNotFound) {
			return err == nil, err
		}
	}
	return false, nil
}

// owner is the owner of what the client holds.
func (n *Network) owner(c Client, want Want) string {
	if r, ok := n.reservationOf(want.Kind, c.Names); ok && want.First && r.prefix.Contains(want.Prefer) {
		return r.owner
	}
	return want.Owner
}

// Release gives back addresses or prefixes that the client holds, in one commit, and reports which of them it held. A
// released address stays with its client for a while; see config.Config.Sticky.
func (l *Leases) Release(ctx context.Context, n *Network, c Client, wants ...Want) ([]bool, error) {
	return l.end(ctx, n, c, pool.Release, wants)
}

// Decline gives back addresses that others use: they are given to nobody, not to this client either, until the
// quarantine ends. A client may not put more addresses into quarantine than its quota allows.
func (l *Leases) Decline(ctx context.Context, n *Network, c Client, wants ...Want) ([]bool, error) {
	now := l.clock()
	until := now.Add(l.config.Quarantine)
	parties := l.parties(map[string]string{hardwareLabel: c.Hardware, circuitLabel: c.Circuit})
	for _, want := range wants {
		if _, err := l.quota.take(parties, "declined "+want.Prefer.String(), now, until); err != nil {
			return nil, err
		}
	}
	return l.end(ctx, n, c, func(h pool.Held) pool.Step { return pool.Decline(h, l.config.Quarantine) }, wants)
}

func (l *Leases) end(
	ctx context.Context, n *Network, c Client, step func(pool.Held) pool.Step, wants []Want,
) ([]bool, error) {
	var steps []pool.Step
	at := make([]int, len(wants))
	for i, want := range wants {
		at[i] = -1
		for _, s := range n.sources[want.Kind] {
			if s.Within.Contains(want.Prefer) {
				at[i] = len(steps)
				held := pool.Held{Owner: n.owner(c, want), Addr: want.Prefer, Optional: true}
				steps = append(steps, step(held).In(s.Pool))
			}
		}
	}
	held := make([]bool, len(wants))
	if len(steps) == 0 {
		return held, nil
	}
	results, err := steps[0].Pools[0].All(ctx, steps...)
	if err != nil {
		return nil, err
	}
	for i, j := range at {
		if j >= 0 && results[j].Allocation.Owner != "" {
			held[i] = true
			l.forget(results[j].Allocation)
		}
	}
	return held, nil
}

// forget no longer counts what was held.
func (l *Leases) forget(a pool.Allocation) {
	for _, p := range l.parties(a.Labels) {
		l.quota.forget(a.Owner, p.name)
	}
}
