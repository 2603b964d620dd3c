package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Network describes a network: a routing domain in which no address is held twice, whatever pools it is in. A network
// exists once it has a pool or an external range; see [Spec.Network] and [SetExternal]. The zero Network describes
// none. A Network may be copied; the copy shares its maps.
type Network struct {
	// Name is the name of the network.
	Name string
	// Pools are the ranges of each pool in the network, by the pool's name. Delegated pools are not listed.
	Pools map[string][]netipx.IPRange
	// Held are the addresses that a pool holds outside its ranges, because it was drained or was imported that way, by
	// the pool's name. Other pools of the network must not have them in their ranges. Addresses that have been released
	// since may still be listed, but other pools may have them. Those of leases and cooldowns that have ended stay
	// blocked until [Pool.Expire]. nil if there are none.
	Held map[string][]netipx.IPRange
	// External are the addresses that others hand out, such as a DHCP server.
	External []netipx.IPRange
}

// network is the record of a network, as it is or as it is to be.
type network struct {
	head     store.Record
	ranges   map[string][]netipx.IPRange
	held     map[string][]netipx.IPRange
	external []netipx.IPRange
}

// networkData is what the record of a network has as its data.
type networkData struct {
	Format   int                 `json:"format"`
	Pools    map[string][]string `json:"pools,omitempty"`
	Held     map[string][]string `json:"held,omitempty"`
	External []string            `json:"external,omitempty"`
}

func networkKey(name string) store.Key { return store.Key{Kind: store.KindNetwork, Pool: name} }

// network implements [home]. A network that does not exist is empty.
func (s *stored) network(ctx context.Context, name string) (*network, error) {
	return readNetwork(ctx, s.store, name)
}

func readNetwork(ctx context.Context, s store.Store, name string) (*network, error) {
	head, err := s.Get(ctx, networkKey(name))
	if errors.Is(err, store.ErrNotFound) {
		empty := store.Record{Key: networkKey(name), State: stateActive}
		return &network{head: empty, ranges: map[string][]netipx.IPRange{}, held: map[string][]netipx.IPRange{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return networkOf(head)
}

func networkOf(head store.Record) (*network, error) {
	n := &network{head: head}
	var data networkData
	what := errorf("the record of the network %q", head.Pool).Error()
	err := json.Unmarshal(head.Data, &data)
	if err = checkFormat(networkFormat, what, head.Data, data.Format, err); errors.Is(err, ErrNewerFormat) {
		return nil, err
	}
	if err == nil {
		n.ranges, err = parseRangeMap(data.Pools)
	}
	if err == nil {
		n.held, err = parseRangeMap(data.Held)
	}
	if err == nil {
		n.external, err = parseRanges(data.External)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrCorrupt, what, err)
	}
	return n, nil
}

func parseRangeMap(texts map[string][]string) (map[string][]netipx.IPRange, error) {
	ranges := map[string][]netipx.IPRange{}
	for name, list := range texts {
		var err error
		if ranges[name], err = parseRanges(list); err != nil {
			return nil, err
		}
	}
	return ranges, nil
}

func formatRangeMap(ranges map[string][]netipx.IPRange) map[string][]string {
	texts := map[string][]string{}
	for name, list := range ranges {
		texts[name] = formatRanges(list)
	}
	return texts
}

// change is what makes the stored network this one. A network that is empty goes.
func (n *network) change() (store.Change, error) {
	head := n.head
	if len(n.ranges) == 0 && len(n.external) == 0 {
		return store.Change{Head: head, Writes: []store.Write{{Op: store.Delete, Record: store.Record{Key: head.Key}}}}, nil
	}
	var err error
	head.Data, err = json.Marshal(networkData{
		networkFormat, formatRangeMap(n.ranges), formatRangeMap(n.held), formatRanges(n.external),
	})
	return store.Change{Head: head}, err
}

// externalIn returns what is external of the ranges.
func (n *network) externalIn(ranges []netipx.IPRange) []netipx.IPRange {
	if len(n.external) == 0 {
		return nil
	}
	return cidr.Intersection(cidr.SetOf(n.external...), cidr.SetOf(ranges...)).Ranges()
}

// put makes these the ranges of a pool in the network, and what it holds outside of them.
func (n *network) put(pool string, ranges, held []netipx.IPRange) {
	n.ranges[pool] = ranges
	delete(n.held, pool)
	if len(held) > 0 {
		n.held[pool] = held
	}
}

// drop takes a pool out of the network.
func (n *network) drop(pool string) {
	delete(n.ranges, pool)
	delete(n.held, pool)
}

// network returns a network that takes part in the attempt, and is read unless it did before.
func (a *attempt) network(p *Pool, name string) (*network, error) {
	for _, n := range a.nets {
		if n.head.Key == networkKey(name) {
			return n, nil
		}
	}
	n, err := p.home.network(a.ctx, name)
	if err == nil {
		a.nets = append(a.nets, n)
	}
	return n, err
}

// admit puts the ranges of a pool into the network, with what it holds outside of them. It refuses if they overlap with
// the ranges of another pool, or with what that holds outside of its own.
//
// What a pool holds outside of its ranges grows only in commits that also replace the network's record. That record
// therefore guards all that is read of other pools here.
func (a *attempt) admit(p *Pool, n *network, ranges, held []netipx.IPRange) error {
	ranges = cidr.SetOf(ranges...).Ranges()
	mine := cidr.SetOf(append(slices.Clone(ranges), held...)...)
	for _, other := range slices.Sorted(maps.Keys(n.ranges)) {
		if other == p.name {
			continue
		}
		if common := cidr.Intersection(mine, cidr.SetOf(n.ranges[other]...)); len(common.Ranges()) > 0 {
			return errorf("%w: %v are of the pool %q in the network %q",
				ErrOverlap, cidr.FormatSet(common), other, n.head.Pool)
		}
		if !cidr.Overlaps(mine, cidr.SetOf(n.held[other]...)) {
			continue
		}
		still, err := a.heldOutside(p, other)
		if err != nil {
			return err
		}
		if common := cidr.Intersection(mine, cidr.SetOf(still...)); len(common.Ranges()) > 0 {
			return errorf("%w: %v are out of range of the pool %q in the network %q, and still held there",
				ErrOverlap, cidr.FormatSet(common), other, n.head.Pool)
		}
		n.put(other, n.ranges[other], still)
	}
	n.put(p.name, ranges, held)
	return nil
}

// heldOutside returns what the pool of that name, in the store of p, holds outside of its ranges.
func (a *attempt) heldOutside(p *Pool, name string) ([]netipx.IPRange, error) {
	other, err := p.home.neighbour(name)
	if err != nil {
		return nil, err
	}
	if err := other.home.refresh(a.ctx); err != nil {
		return nil, errorf("the pool %q of the network: %w", name, err)
	}
	var outside outside
	rules := other.home.state().rules
	for h, err := range other.home.all(a.ctx) {
		if err != nil {
			return nil, err
		}
		outside.add(rules, rules.current(h))
	}
	return outside.of(rules.allRanges()), nil
}

// outside collects what records hold.
type outside struct{ prefixes []netip.Prefix }

// add adds what a record holds, which is read by the rules: on both sides, if it moves.
func (o *outside) add(r *rules, h *holding) {
	o.prefixes = append(append(o.prefixes, h.Prefixes...), r.moving.allNew(h.Prefixes)...)
}

// of returns what of it lies outside of the ranges.
func (o *outside) of(ranges []netipx.IPRange) []netipx.IPRange {
	return cidr.Difference(setOfPrefixes(o.prefixes), cidr.SetOf(ranges...)).Ranges()
}

// setOfPrefixes is the set of all addresses of the prefixes.
func setOfPrefixes(prefixes []netip.Prefix) *netipx.IPSet {
	ranges := make([]netipx.IPRange, len(prefixes))
	for i, p := range prefixes {
		ranges[i] = netipx.RangeOfPrefix(p)
	}
	return cidr.SetOf(ranges...)
}

// Networks iterates over the networks in the store, in the store's order. An error ends the iteration. Cost: O(pools in
// networks).
func Networks(ctx context.Context, s store.Store) iter.Seq2[Network, error] {
	return func(yield func(Network, error) bool) {
		for head, err := range s.List(ctx, store.KindNetwork, "") {
			var n *network
			if err == nil {
				n, err = networkOf(head)
			}
			if err != nil {
				yield(Network{}, &Error{Op: "list networks", Err: err})
				return
			}
			found := Network{Name: head.Pool, Pools: n.ranges, External: n.external}
			if len(n.held) > 0 {
				found.Held = n.held
			}
			if !yield(found, nil) {
				return
			}
		}
	}
}

// SetExternal declares which addresses of a network are handed out by others, such as a DHCP server. The ranges replace
// those declared before; none means that nothing is external. From then on the addresses count as reserved in every
// pool of the network, and in every pool delegated from one: none of them hands them out. All these pools change in one
// commit. Pools created later respect the ranges too.
//
// If any of the addresses is held, the change is refused with [ErrOutOfRange], and the error names the pool. With
// drain the addresses stay held, count as out of range, and are not handed out again.
//
// Errors: [ErrInvalid], also if nothing would be left of a pool; [ErrOutOfRange]; [ErrBusy]; [store.ErrTooLarge] if it
// affects more pools than the store takes in one commit; those of the store. Cost: one read for each pool of the
// network and for each delegated pool that has any of the addresses, O(allocations) of the affected pools, and one
// commit.
func SetExternal(
	ctx context.Context, s store.Store, networkName string, external []netipx.IPRange, drain bool, options *Options,
) error {
	err := validateName("network", networkName)
	for _, r := range external {
		if err == nil {
			err = validateRange("external range", r)
		}
	}
	if err == nil {
		err = setExternal(ctx, s, networkName, cidr.SetOf(external...).Ranges(), drain, options)
	}
	return wrapped(err, Error{Op: "declare external in network " + briefText(networkName)})
}

func setExternal(
	ctx context.Context, s store.Store, name string, external []netipx.IPRange, drain bool, options *Options,
) error {
	// The queue of a pool of its own, which does not take part, since nobody waits for a network.
	turn := &Pool{options: options.withDefaults()}
	turn.home = newStored(s, "", &turn.options)
	return exclusively(ctx, func(a *attempt) error {
		n, err := a.network(turn, name)
		if err != nil {
			return err
		}
		n.external = external
		for _, pool := range slices.Sorted(maps.Keys(n.ranges)) {
			d, err := a.open(turn, pool)
			if errors.Is(err, ErrNoPool) { // deleted by hand
				continue
			}
			if err != nil {
				return err
			}
			if err := a.withhold(d, n.externalIn(d.state().rules.allRanges()), drain); err != nil {
				return d.pool.failed("declare external", "", err)
			}
		}
		return nil
	}, turn)
}

// withhold gives the draft's pool other addresses that it may not hand out.
func (a *attempt) withhold(d *draft, withheld []netipx.IPRange, drain bool) error {
	now := d.state()
	if slices.Equal(now.rules.withheld, withheld) {
		return nil
	}
	if err := a.rebuild(d, now.rules.Spec, withheld, now.parent, now.rules.moving, drain); err != nil {
		return err
	}
	if now.parent.isZero() {
		return d.next.rules.requireRoom()
	}
	return nil
}
