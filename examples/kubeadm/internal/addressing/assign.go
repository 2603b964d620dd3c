package addressing

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/pool"
)

// Assign gives each Node and each Service what it is to have. What an object of an API server has already is a fact,
// which the pools take over. It returns a row for each object, after those for the Services that Kubernetes makes by
// itself. What a pool refuses, because it is full or an address is taken, concerns one object, and is in its row.
//
// Assign first makes the pools follow the configuration. An error that wraps [pool.ErrOutOfRange] says that this would
// leave out addresses that are in use. Assign must be called once.
func (p *Pools) Assign(ctx context.Context) ([]Row, error) {
	if err := p.open(ctx); err != nil {
		return nil, err
	}
	if err := p.guardNodes(ctx, false); err != nil {
		return nil, err
	}
	if p.pods != nil {
		if err := fulfil(ctx, p.pods, p.nodes); err != nil {
			return nil, err
		}
	}
	if err := fulfil(ctx, p.addresses, p.services); err != nil {
		return nil, err
	}
	return rows(p.nodes, p.services), nil
}

func rows(wishes ...[]*wish) []Row {
	var all []Row
	for _, some := range wishes {
		for _, w := range some {
			all = append(all, w.row)
		}
	}
	return all
}

// nodeWishes returns what each node is to have.
func (p *Pools) nodeWishes(held map[string]pool.Allocation) ([]*wish, error) {
	var wishes []*wish
	var wrong []error
	for _, n := range p.cluster.Nodes {
		w := nodeWish(n, held)
		if len(p.cluster.PodSubnets) == 0 { // somebody else gives the pod CIDRs
			w.claim, w.row.Prefixes = pool.Claim{}, n.PodCIDRs
		}
		if w.held.Owner != "" && !n.Live && len(n.PodCIDRs) > 0 && !slices.Equal(n.PodCIDRs, w.held.Prefixes) {
			wrong = append(wrong, n.Immutable(w.held.Prefixes))
		}
		wishes = append(wishes, w)
	}
	return wishes, errors.Join(wrong...)
}

// nodeWish returns what a node is to have: what it has, or a pod CIDR of each family. A node that was known only by its
// address when it was given something has that.
func nodeWish(n cluster.Node, held map[string]pool.Allocation) *wish {
	w := &wish{owner: n.Name, held: held[n.Name], fact: n.Live && len(n.PodCIDRs) > 0}
	w.row = Row{Kind: "Node", Name: n.Name, Unnamed: n.Unnamed, Patch: len(n.PodCIDRs) == 0}
	if w.held.Owner == "" && len(n.IPs) > 0 {
		w.held = held[n.IPs[0].String()]
	}
	cidrs := n.PodCIDRs
	if len(cidrs) == 0 {
		cidrs = w.held.Prefixes
	}
	w.claim = nodeClaim(n.Name, cidrs)
	return w
}

// nodeClaim asks for these pod CIDRs, or for one of each family, both or none.
func nodeClaim(owner string, cidrs []netip.Prefix) pool.Claim {
	claim := pool.Claim{Owner: owner, Policy: pool.PreferDualStack}
	for _, prefix := range cidrs {
		claim.Policy = pool.SingleStack // no family but these
		claim.Requests = append(claim.Requests, pool.Request{Exact: prefix})
	}
	return claim
}

// serviceWishes returns what each Service is to have.
func (p *Pools) serviceWishes(held map[string]pool.Allocation) ([]*wish, error) {
	wishes := p.impliedWishes(held)
	var wrong []error
	for i := range p.cluster.Services {
		s := &p.cluster.Services[i]
		w, err := serviceWish(s, p.cluster.Families(), held[s.Owner()])
		if err != nil {
			wrong = append(wrong, err)
			continue
		}
		wishes = append(wishes, w)
	}
	return wishes, errors.Join(wrong...)
}

func serviceWish(s *cluster.Service, families []pool.Family, held pool.Allocation) (*wish, error) {
	policy, _ := cluster.PolicyNamed(held.Labels[policyLabel])
	want, err := s.Want(families, cluster.Held{Addrs: held.Addrs(), Policy: policy})
	if err != nil {
		return nil, err
	}
	w := &wish{owner: s.Owner(), held: held, fact: s.Live && len(s.ClusterIPs) > 0}
	w.row = Row{
		Kind: "Service", Namespace: s.Namespace, Name: s.Name, Headless: s.Headless,
		Policy: want.Policy, Families: want.Families, Patch: !s.Says(want),
	}
	if len(want.Addrs) > 0 {
		w.claim = serviceClaim(s.Owner(), want)
	}
	return w, nil
}

// serviceClaim asks for one address of each family, all or none.
func serviceClaim(owner string, want cluster.Want) pool.Claim {
	policy := cmp.Or(want.Policy, pool.SingleStack)
	claim := pool.Claim{Owner: owner, Labels: map[string]string{policyLabel: string(policy)}}
	for i, addr := range want.Addrs {
		request := pool.Request{Family: want.Families[i]}
		if addr.IsValid() {
			request.Exact = addrPrefix(addr)
		}
		claim.Requests = append(claim.Requests, request)
	}
	return claim
}

// The Services that each cluster of kubeadm has, and the indexes of their addresses in the first range.
var impliedServices = []struct {
	namespace, name string
	index           uint64
}{
	{"default", "kubernetes", 1},
	{"kube-system", "kube-dns", 10},
}

// impliedWishes are those of the Services that Kubernetes makes by itself, unless they are among the Services, or
// another one has their address.
func (p *Pools) impliedWishes(held map[string]pool.Allocation) []*wish {
	taken := map[netip.Addr]bool{}
	listed := map[string]bool{}
	for i := range p.cluster.Services {
		s := &p.cluster.Services[i]
		listed[s.Owner()] = true
		for _, addr := range s.ClusterIPs {
			taken[addr] = true
		}
	}
	for owner, a := range held {
		for _, addr := range a.Addrs() {
			taken[addr] = taken[addr] || owner != "default/kubernetes" && owner != "kube-system/kube-dns"
		}
	}
	var wishes []*wish
	for _, implied := range impliedServices {
		addr, owner := nth(p.cluster, implied.index), implied.namespace+"/"+implied.name
		if listed[owner] || taken[addr] {
			continue
		}
		want := cluster.Want{Families: p.cluster.Families()[:1], Addrs: []netip.Addr{addr}}
		wishes = append(wishes, &wish{
			row:   Row{Kind: "Service", Namespace: implied.namespace, Name: implied.name, Families: want.Families},
			owner: owner, claim: serviceClaim(owner, want), held: held[owner], implied: true,
		})
	}
	return wishes
}
