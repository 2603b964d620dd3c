// Package addressing gives the nodes of a cluster their pod CIDRs and its Services their addresses, from two pools in
// one network: what one has, the other does not hand out.
package addressing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// The names of the pools, of their network and of the band of static addresses in a store.
const (
	PodPool     = "pods"
	ServicePool = "services"
	Network     = "cluster"
	StaticBand  = "static"
)

// Options configure [Prepare]. The zero Options are the defaults.
type Options struct {
	// Strategy says which of the free pod CIDRs and addresses are given. Default: the lowest one.
	Strategy pool.Strategy
	// Drift says what becomes of addresses that are in use and no longer in a range. Default: the change is refused.
	Drift pool.Drift
}

// Pools are the pools of a cluster in a store, and what is to be done with them. The zero Pools are not usable, and
// Pools must not be copied.
type Pools struct {
	store           store.Store
	cluster         *cluster.Cluster
	options         Options
	before          *netipx.IPSet  // the ranges of Services
	held            []netip.Prefix // what anybody holds
	nodes, services []*wish

	pods, addresses *pool.Pool // pods is nil if nodes get none
}

// Prepare decides what each Node and Service of the cluster is to have, and changes nothing. What breaks a rule of the
// API server is an error, which joins a [*config.FieldError] for each.
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func Prepare(ctx context.Context, s store.Store, c *cluster.Cluster, options Options) (*Pools, error) {
	p := &Pools{store: s, cluster: c, options: options}
	pods, _, err := kept(ctx, s, PodPool)
	if err != nil {
		return nil, err
	}
	addresses, ranges, err := kept(ctx, s, ServicePool)
	if err != nil {
		return nil, err
	}
	p.before = cidr.SetOf(ranges...)
	for _, held := range []map[string]pool.Allocation{pods, addresses} {
		for _, a := range held {
			p.held = append(p.held, a.Prefixes...)
		}
	}
	var wrongNodes, wrongServices error
	p.nodes, wrongNodes = p.nodeWishes(pods)
	p.services, wrongServices = p.serviceWishes(addresses)
	return p, errors.Join(wrongNodes, wrongServices)
}

// kept returns what the owners of a pool in the store hold, and its ranges; nothing if there is no such pool.
func kept(ctx context.Context, s store.Store, name string) (map[string]pool.Allocation, []netipx.IPRange, error) {
	p, err := pool.Open(ctx, s, name, nil)
	if errors.Is(err, pool.ErrNoPool) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	info, err := p.Info(ctx)
	if err != nil {
		return nil, nil, err
	}
	held := map[string]pool.Allocation{}
	for a, err := range p.Allocations(ctx) {
		if err != nil {
			return nil, nil, err
		}
		held[a.Owner] = a
	}
	return held, info.Spec.Ranges, nil
}

// open makes the pools follow the configuration of the cluster: it creates them, or grows and shrinks them. The ranges
// of Services are left out of the pod subnets, as in the node controller of Kubernetes.
//
// When a range of Services grows into a pod subnet, the pods give it up first. If a node has it, nothing is changed.
func (p *Pools) open(ctx context.Context) error {
	services, err := serviceSpec(p.cluster, p.options.Strategy)
	if err != nil {
		return err
	}
	now := cidr.SetOf(services.Ranges...)
	if err := p.openPods(ctx, cidr.Union(p.before, now)); err != nil {
		return err
	}
	if p.addresses, err = pool.Ensure(ctx, p.store, ServicePool, services, p.options.Drift, nil); err != nil {
		return explain(err, "Services have addresses outside of the new ranges")
	}
	return p.openPods(ctx, now)
}

// openPods makes the pool of pod CIDRs, without the addresses of Services.
func (p *Pools) openPods(ctx context.Context, without *netipx.IPSet) error {
	if len(p.cluster.PodSubnets) == 0 {
		return nil
	}
	var err error
	spec := podSpec(p.cluster, p.options.Strategy, without)
	p.pods, err = pool.Ensure(ctx, p.store, PodPool, spec, p.options.Drift, nil)
	return explain(err, "nodes have pod CIDRs outside of the new ranges, or where Services are to be")
}

// explain says what an error of a pool means for the cluster, and what to do about it.
func explain(err error, meaning string) error {
	if errors.Is(err, pool.ErrOutOfRange) {
		return fmt.Errorf("%s (-drain keeps them until they are released): %w", meaning, err)
	}
	return err
}

// serviceSpec describes the pool of the addresses of Services: all ranges, with one band of the static addresses of
// each.
func serviceSpec(c *cluster.Cluster, strategy pool.Strategy) (pool.Spec, error) {
	var texts []string
	var static []netipx.IPRange
	for _, p := range c.Ranges() {
		texts = append(texts, p.String())
		if band, ok := pool.ServiceBand(p); ok {
			static = append(static, band)
		}
	}
	spec, err := pool.ParseSpec(texts...)
	if err != nil {
		return pool.Spec{}, err
	}
	spec.Families, spec.Strategy, spec.Network = c.Families(), strategy, Network
	if len(static) > 0 {
		spec.Bands = []pool.Band{{Name: StaticBand, Ranges: cidr.SetOf(static...).Ranges()}}
	}
	return spec, nil
}

// podSpec describes the pool of pod CIDRs.
func podSpec(c *cluster.Cluster, strategy pool.Strategy, without *netipx.IPSet) pool.Spec {
	spec := pool.Spec{Strategy: strategy, Network: Network}
	var ranges []netipx.IPRange
	for _, p := range c.PodSubnets {
		ranges = append(ranges, netipx.RangeOfPrefix(p))
		spec.Subnets = append(spec.Subnets, pool.Subnet{Prefix: p})
		family := pool.FamilyOf(p.Addr())
		spec.Families = append(spec.Families, family)
		of := &spec.IPv4
		if family == pool.IPv6 {
			of = &spec.IPv6
		}
		of.Bits = c.NodeBits[family]
	}
	spec.Ranges = cidr.Difference(cidr.SetOf(ranges...), without).Ranges()
	return spec
}

func addrPrefix(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, addr.BitLen()) }

// nth returns an address of the first range of Services by its index.
func nth(c *cluster.Cluster, index uint64) netip.Addr {
	addr, _ := cidr.Nth(cidr.SetOf(netipx.RangeOfPrefix(c.ServiceSubnets[0])), cidr.CountOf(index))
	return addr
}
