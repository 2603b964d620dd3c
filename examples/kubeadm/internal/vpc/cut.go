package vpc

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Name is the name of the network's pool in a store. The pool of a subnet is named after it, a slash and the subnet.
const Name = "vpc"

// Wish is a subnet to be cut: a prefix of one family, or one of each. The zero Wish is none. A Wish may be copied; the
// copy shares Prefixes.
type Wish struct {
	Name     string
	Prefixes []Length
}

// Length is a prefix length of a family. It is a value.
type Length struct {
	Family pool.Family
	Bits   int
}

// Subnet is a subnet of the network. The zero Subnet is none. A Subnet may be copied; the copy shares Prefixes.
type Subnet struct {
	Name     string
	Prefixes []netip.Prefix
	// Pool hands out the addresses of nodes.
	Pool *pool.Pool
}

// Cut cuts subnets from the network, all or none, and returns them in the order of the wishes. Each gets the lowest
// free prefixes of its lengths; one that exists already stays where it is. The network may have grown since the last
// time.
func Cut(ctx context.Context, s store.Store, cloud Cloud, network []netip.Prefix, wishes []Wish) ([]Subnet, error) {
	if err := Check(cloud, network, wishes); err != nil {
		return nil, err
	}
	p, err := pool.Ensure(ctx, s, Name, networkSpec(network), pool.Update, nil)
	if err != nil {
		return nil, err
	}
	steps := make([]pool.Step, len(wishes))
	for i, w := range wishes {
		steps[i] = pool.Allocate(w.claim())
	}
	results, err := p.All(ctx, steps...)
	if err != nil {
		return nil, fmt.Errorf("%w; nothing was cut", err)
	}
	subnets := make([]Subnet, len(wishes))
	for i, w := range wishes {
		subnets[i] = Subnet{Name: w.Name, Prefixes: results[i].Allocation.Prefixes}
		spec := cloud.spec(subnets[i].Prefixes)
		if subnets[i].Pool, _, err = pool.Delegate(ctx, p, w.claim(), Name+"/"+w.Name, spec, nil); err != nil {
			return nil, err
		}
	}
	return subnets, nil
}

// Check returns an error for what the cloud does not allow, and for a name that is there twice. Cut checks the same.
func Check(cloud Cloud, network []netip.Prefix, wishes []Wish) error {
	var wrong []error
	for _, p := range network {
		wrong = append(wrong, cloud.CheckNetwork(p))
	}
	seen := map[string]bool{}
	for _, w := range wishes {
		for _, length := range w.Prefixes {
			if err := length.check(cloud, network); err != nil {
				wrong = append(wrong, fmt.Errorf("subnet %q: %w", w.Name, err))
			}
		}
		if seen[w.Name] {
			wrong = append(wrong, fmt.Errorf("subnet %q is there twice, want each name once", w.Name))
		}
		seen[w.Name] = true
	}
	return errors.Join(wrong...)
}

// check returns an error if the cloud has no such subnets, or if none would fit into the empty network.
func (l Length) check(cloud Cloud, network []netip.Prefix) error {
	fits := func(p netip.Prefix) bool { return pool.FamilyOf(p.Addr()) == l.Family && p.Bits() <= l.Bits }
	if err := cloud.CheckSubnet(l.Family, l.Bits); err != nil {
		return err
	}
	if !slices.ContainsFunc(network, fits) {
		return fmt.Errorf("a /%d does not fit into %v", l.Bits, network)
	}
	return nil
}

// networkSpec describes a pool of subnets: each of their addresses is part of one, so that none is reserved.
func networkSpec(network []netip.Prefix) pool.Spec {
	spec := pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}, IPv6: pool.FamilySpec{AllocateReserved: true}}
	for _, p := range network {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(p))
	}
	return spec
}

func (w Wish) claim() pool.Claim {
	claim := pool.Claim{Owner: w.Name}
	for _, length := range w.Prefixes {
		claim.Requests = append(claim.Requests, pool.Request{Family: length.Family, Bits: length.Bits})
	}
	return claim
}

// spec describes the pool of a subnet. What is reserved there is what the cloud keeps.
func (c Cloud) spec(prefixes []netip.Prefix) pool.Spec {
	spec := pool.Spec{IPv4: pool.FamilySpec{AllocateReserved: true}, IPv6: pool.FamilySpec{AllocateReserved: true}}
	for _, p := range prefixes {
		spec.Exclude = append(spec.Exclude, c.Reserved(p)...)
	}
	return spec
}
