package leases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/pool"
)

// reservation is what the configuration keeps for a client.
type reservation struct {
	source   *Source
	owner    string
	prefix   netip.Prefix
	hostname string
	// kept reports whether the pool keeps it. It does not while another client still has it from the time before.
	kept *atomic.Bool
}

// The label of reservations that come from the configuration. Those without it are people's, who made them with Keep.
const (
	fromLabel         = "from"
	fromConfiguration = "configuration"
)

// clientOf returns the name by which a reservation knows its client, which is also its owner.
func clientOf(r config.Reservation) string {
	switch {
	case r.Hardware != "":
		return "hw:" + string(r.Hardware)
	case r.ClientID != "":
		return "id:" + string(r.ClientID)
	}
	return "duid:" + string(r.DUID)
}

// prefixOf returns what the reservation keeps of the source; it is not valid if it keeps nothing of it.
func (s *Source) prefixOf(r config.Reservation) netip.Prefix {
	prefix := r.Prefix
	if s.Kind != PD && r.Address.IsValid() {
		prefix = netip.PrefixFrom(r.Address, r.Address.BitLen())
	}
	if !prefix.IsValid() || prefix.Bits() != s.bits || !s.Within.Contains(prefix.Addr()) {
		return netip.Prefix{}
	}
	return prefix
}

// aside are the addresses that the configuration reserves outside the pools. They are a band of their own, so that only
// reservations get them.
func aside(s *config.Subnet) []netipx.IPRange {
	pools := cidr.SetOf(s.PoolRanges()...)
	var ranges []netipx.IPRange
	for _, r := range s.Reservations {
		if r.Address.IsValid() && !pools.Contains(r.Address) {
			ranges = append(ranges, netipx.IPRangeFrom(r.Address, r.Address))
		}
	}
	return ranges
}

// reserve keeps what the configuration says in the source's pool, and what it no longer says no longer.
func (n *Network) reserve(ctx context.Context, s *Source) error {
	if n.reserved[s.Kind] == nil {
		n.reserved[s.Kind] = map[string]reservation{}
	}
	wanted := map[string]reservation{}
	for _, r := range s.Subnet.Reservations {
		if prefix := s.prefixOf(r); prefix.IsValid() {
			kept := reservation{source: s, owner: clientOf(r), prefix: prefix, hostname: r.Hostname, kept: new(atomic.Bool)}
			wanted[kept.owner], n.reserved[s.Kind][kept.owner] = kept, kept
		}
	}
	var old []pool.Step
	for a, err := range s.Pool.Reservations(ctx) {
		if err != nil {
			return err
		}
		if r, ok := wanted[a.Owner]; a.Labels[fromLabel] == fromConfiguration && (!ok || r.prefix != a.Prefixes[0]) {
			old = append(old, pool.Unreserve(pool.Held{Owner: a.Owner, Optional: true}))
		}
	}
	for result, err := range s.Pool.Each(ctx, slices.Values(old)) {
		if err = errors.Join(err, result.Err); err != nil {
			return err
		}
	}
	return s.keepAll(ctx, wanted)
}

func (s *Source) keepAll(ctx context.Context, wanted map[string]reservation) error {
	var steps []pool.Step
	for _, r := range wanted {
		steps = append(steps, pool.Reserve(r.claim()))
	}
	i := 0
	for result, err := range s.Pool.Each(ctx, slices.Values(steps)) {
		if err != nil {
			return err
		}
		// A refusal is no error: a client has it, or the owner has another one. It is kept when the client comes next.
		if result.Err != nil && !refused(result.Err) {
			return result.Err
		}
		wanted[steps[i].Claim.Owner].kept.Store(result.Err == nil)
		i++
	}
	return nil
}

func (r reservation) claim() pool.Claim {
	return pool.Claim{
		Owner: r.owner, Requests: []pool.Request{{Exact: r.prefix}}, Labels: map[string]string{fromLabel: fromConfiguration},
	}
}

// reservationOf returns what is kept for a client that has these names. A reservation for its hardware comes first:
// that is the name that it has before it has booted a system, too.
func (n *Network) reservationOf(kind Kind, names []string) (reservation, bool) {
	for _, name := range names {
		if r, ok := n.reserved[kind][name]; ok {
			return r, true
		}
	}
	return reservation{}, false
}

// Keep makes reservations of all leases that have not ended: their clients keep what they have. It returns them, and
// may be repeated.
func (l *Leases) Keep(ctx context.Context) ([]pool.Allocation, error) {
	var kept []pool.Allocation
	now := l.clock()
	for _, n := range l.Networks {
		for _, s := range n.Sources() {
			var steps []pool.Step
			for a, err := range s.Pool.Allocations(ctx) {
				if err != nil {
					return kept, err
				}
				if !a.Reserved && !a.Expired(now) {
					steps = append(steps, pool.Reserve(exactly(a)))
				}
			}
			for result, err := range s.Pool.Each(ctx, slices.Values(steps)) {
				if err = errors.Join(err, result.Err); err != nil {
					return kept, fmt.Errorf("network %q: %w", n.Name, err)
				}
				kept = append(kept, result.Allocation)
			}
		}
	}
	return kept, nil
}

// Unkeep ends the reservations that Keep has made. Leases stay as they are.
func (l *Leases) Unkeep(ctx context.Context) ([]pool.Allocation, error) {
	var ended []pool.Allocation
	for _, n := range l.Networks {
		for _, s := range n.Sources() {
			var steps []pool.Step
			for a, err := range s.Pool.Reservations(ctx) {
				if err != nil {
					return ended, err
				}
				if a.Labels[fromLabel] != fromConfiguration {
					steps = append(steps, pool.Unreserve(pool.Held{Owner: a.Owner, Optional: true}))
				}
			}
			for result, err := range s.Pool.Each(ctx, slices.Values(steps)) {
				if err = errors.Join(err, result.Err); err != nil {
					return ended, fmt.Errorf("network %q: %w", n.Name, err)
				}
				ended = append(ended, result.Allocation)
			}
		}
	}
	return ended, nil
}

// exactly is the claim for what is held.
func exactly(a pool.Allocation) pool.Claim {
	claim := pool.Claim{Owner: a.Owner}
	for _, p := range a.Prefixes {
		claim.Requests = append(claim.Requests, pool.Request{Exact: p})
	}
	return claim
}
