package leases

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// Known is a lease that another server has given.
type Known struct {
	Kind   Kind
	Owner  string
	Client Client
	Prefix netip.Prefix
	// Ends is when it ends. The zero time means never.
	Ends time.Time
}

// Adopted is what became of a lease of another server. Err is nil if it is now a lease of this one.
type Adopted struct {
	Known
	Err error
}

// Adopt takes over leases that other servers have given. It may be repeated. Those that have ended are left out. The
// error is that of the store; some may have been taken over then.
func (l *Leases) Adopt(ctx context.Context, all []Known) ([]Adopted, error) {
	now := l.clock()
	byPool := map[*pool.Pool][]Known{}
	var done []Adopted
	for _, k := range all {
		if !k.Ends.IsZero() && !k.Ends.After(now) {
			continue
		}
		if s := l.sourceOf(k); s != nil {
			byPool[s.Pool] = append(byPool[s.Pool], k)
		} else {
			done = append(done, Adopted{k, fmt.Errorf("%w: no subnet of the configuration has %v", pool.ErrNotInPool, k.Prefix)})
		}
	}
	for p, known := range byPool {
		var steps []pool.Step
		for _, k := range known {
			steps = append(steps, pool.Allocate(l.claimOf(k, now)))
		}
		i := 0
		for result, err := range p.Each(ctx, slices.Values(steps)) {
			if err != nil {
				return done, err
			}
			done = append(done, Adopted{known[i], result.Err})
			i++
		}
	}
	return done, nil
}

func (l *Leases) sourceOf(k Known) *Source {
	for _, n := range l.Networks {
		for _, s := range n.sources[k.Kind] {
			if s.Within.Contains(k.Prefix.Addr()) {
				return s
			}
		}
	}
	return nil
}

// claimOf is the claim of a lease. If it is reserved for the client, it is under the reservation's name.
func (l *Leases) claimOf(k Known, now time.Time) pool.Claim {
	claim := pool.Claim{Owner: k.Owner, Requests: []pool.Request{{Exact: k.Prefix}}, Labels: labelsOf(k.Client)}
	if !k.Ends.IsZero() {
		claim.TTL = k.Ends.Sub(now)
	}
	for _, n := range l.Networks {
		if r, ok := n.reservationOf(k.Kind, k.Client.Names); ok && r.prefix == k.Prefix {
			claim.Owner = r.owner
			claim.Labels[fromLabel] = fromConfiguration
		}
	}
	return claim
}
