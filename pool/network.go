package pool

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/store"
)

// Network describes a network: a routing domain, in which the ranges of pools must not overlap. A network comes into being with its first pool
// or foreign range; see [Spec.Network] and [SetForeign].
type Network struct {
	// Name is the name of the network.
	Name string
	// Pools are the ranges of each pool in it, by the pool's name. Pools that were carved from these are not listed.
	Pools map[string][]netipx.IPRange
	// Foreign are the addresses that others hand out, such as a DHCP server.
	Foreign []netipx.IPRange
}

// network is the record of a network.
type network struct {
	head    store.Record
	ranges  map[string][]netipx.IPRange
	foreign []netipx.IPRange
}

// networkData is what the record of a network has as its data.
type networkData struct {
	Pools   map[string][]string `json:"pools,omitempty"`
	Foreign []string            `json:"foreign,omitempty"`
}

// readNetwork reads a network. One that does not exist is empty.
func readNetwork(ctx context.Context, s store.Store, name string) (*network, error) {
	key := store.Key{Kind: store.KindNetwork, Pool: name}
	head, err := s.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return &network{head: store.Record{Key: key, State: stateActive}, ranges: map[string][]netipx.IPRange{}}, nil
	}
	if err != nil {
		return nil, err
	}
	return networkOf(head)
}

func networkOf(head store.Record) (*network, error) {
	n := &network{head: head, ranges: map[string][]netipx.IPRange{}}
	var data networkData
	err := json.Unmarshal(head.Data, &data)
	for name, texts := range data.Pools {
		if err == nil {
			n.ranges[name], err = parseRanges(texts)
		}
	}
	if err == nil {
		n.foreign, err = parseRanges(data.Foreign)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the record of the network %q: %w", ErrCorrupt, head.Pool, err)
	}
	return n, nil
}

// admit puts the ranges of a pool in the place of those that it has in the network, unless they overlap with another pool's.
func (n *network) admit(pool string, spec Spec) error {
	ranges := cidr.SetOf(spec.ranges()...).Ranges()
	mine := cidr.SetOf(ranges...)
	for _, other := range slices.Sorted(maps.Keys(n.ranges)) {
		if common := cidr.Intersection(mine, cidr.SetOf(n.ranges[other]...)); other != pool && len(common.Ranges()) > 0 {
			return fmt.Errorf("%w: %v are of the pool %q in the network %q", ErrOverlap, cidr.FormatSet(common), other, n.head.Pool)
		}
	}
	n.ranges[pool] = ranges
	return nil
}

// foreignIn returns what is foreign of the ranges of a pool. A nil network has nothing foreign.
func (n *network) foreignIn(spec Spec) []netipx.IPRange {
	if n == nil || len(n.foreign) == 0 {
		return nil
	}
	return cidr.Intersection(cidr.SetOf(n.foreign...), cidr.SetOf(spec.ranges()...)).Ranges()
}

// change is what makes the stored network this one. A network that is empty goes.
func (n *network) change() (store.Change, error) {
	head := n.head
	if len(n.ranges) == 0 && len(n.foreign) == 0 {
		return store.Change{Head: head, Writes: []store.Write{{Op: store.Delete, Record: store.Record{Key: head.Key}}}}, nil
	}
	data := networkData{Pools: map[string][]string{}, Foreign: formatRanges(n.foreign)}
	for name, ranges := range n.ranges {
		data.Pools[name] = formatRanges(ranges)
	}
	var err error
	head.Data, err = json.Marshal(data)
	return store.Change{Head: head}, err
}

// Networks iterates over the networks in the store, in the store's order. An error is the last thing that it yields. Cost: O(pools in networks).
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
			if !yield(Network{Name: head.Pool, Pools: n.ranges, Foreign: n.foreign}, nil) {
				return
			}
		}
	}
}

// SetForeign declares which addresses of a network others hand out, such as a DHCP server, in the place of what was declared before: no
// ranges mean none. No pool in the network, and none that was carved from these, hands them out from then on, which is one change for all of
// them: they count as reserved. Pools that are created later respect them too.
//
// If any of them are held the change is refused with a [StrandedError] about the pool in the error; with drain they stay held, count as out of
// range, and are not handed out again.
//
// Errors: [ErrInvalid], also if nothing would be left of a pool; [ErrStranded]; [ErrBusy]; those of the store. Cost: one read for each pool in
// the store, O(allocations) of the pools that it concerns, and one commit.
func SetForeign(ctx context.Context, s store.Store, networkName string, foreign []netipx.IPRange, drain bool, options *Options) error {
	err := validateName("network", networkName)
	for _, r := range foreign {
		if err == nil {
			err = validateRange("foreign range", r)
		}
	}
	if err == nil {
		err = setForeign(ctx, s, networkName, cidr.SetOf(foreign...).Ranges(), drain, options)
	}
	if err == nil {
		return nil
	}
	var inner *Error
	if errors.As(err, &inner) {
		return err
	}
	return &Error{Op: "declare foreign in network " + networkName, Err: storeError(err)}
}

func setForeign(ctx context.Context, s store.Store, name string, foreign []netipx.IPRange, drain bool, options *Options) error {
	return blank("", options).retry(ctx, func() error {
		n, err := readNetwork(ctx, s, name)
		if err != nil {
			return err
		}
		n.foreign = foreign
		change, err := n.change()
		if err != nil {
			return err
		}
		changes := []store.Change{change}
		for info, err := range List(ctx, s) {
			if err != nil {
				return err
			}
			if info.Spec.Network != name || slices.Equal(info.Foreign, n.foreignIn(info.Spec)) {
				continue
			}
			change, err := foreignChange(ctx, s, info.Name, n, drain, options)
			if err != nil {
				return err
			}
			changes = append(changes, change)
		}
		_, err = s.Commit(ctx, changes...)
		return err
	})
}

// foreignChange is the change of one pool.
func foreignChange(ctx context.Context, s store.Store, name string, n *network, drain bool, options *Options) (store.Change, error) {
	p, err := Open(ctx, s, name, options)
	if err != nil {
		return store.Change{}, err
	}
	rebuilt, err := p.rebuilt(ctx, p.ledger.spec.Spec, n.foreignIn(p.ledger.spec.Spec), drain)
	if err != nil {
		return store.Change{}, p.failed("declare foreign", "", err)
	}
	next, err := p.replacement(rebuilt)
	return next.change, err
}
