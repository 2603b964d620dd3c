package plugin

import (
	"net"
	"net/netip"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// add is ADD. It reads all that it needs before it changes anything.
func (p *plugin) add(cmd *skel.CmdArgs) error {
	args, err := network.ReadArgs(cmd.Args)
	if err != nil {
		return err
	}
	n, err := network.Read(cmd.StdinData, args)
	if err != nil {
		return err
	}
	dns, err := n.ReadDNS()
	if err != nil {
		return err
	}
	granted, err := p.grant(n, args, netpools.Owner(cmd.ContainerID, cmd.IfName))
	if err != nil {
		return cniError(err)
	}
	result, err := resultOf(n, dns, granted)
	if err != nil {
		return cniError(err)
	}
	return types.PrintResult(result, n.CNIVersion)
}

// grant gives the owner its addresses, one for each slot.
func (p *plugin) grant(n network.Network, args network.Args, owner string) ([]netip.Addr, error) {
	s, err := p.open(n.Header, true)
	if err != nil {
		return nil, err
	}
	defer s.close()
	claims := n.Claims(pool.Claim{Owner: owner, Labels: s.labels(args), Fenced: true})
	results, err := s.claim(n.Pools, claims)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, len(n.Slots))
	for i, slot := range n.Slots {
		of := &results[slot.Pool]
		addrs[i], *of = (*of)[0], (*of)[1:]
	}
	return addrs, nil
}

// labels are for people, for GC and for the reconciler.
func (s *session) labels(args network.Args) map[string]string {
	labels := netpools.Labels(s.Header, s.node)
	for name, value := range map[string]string{
		netpools.LabelPodNamespace: args.PodNamespace, netpools.LabelPodName: args.PodName, netpools.LabelPodUID: args.PodUID,
	} {
		if value != "" {
			labels[name] = value
		}
	}
	return labels
}

// claim makes the claims, each in its pool, in one commit. It returns the addresses of each.
func (s *session) claim(pools []network.Pool, claims []pool.Claim) ([][]netip.Addr, error) {
	handles := make([]*pool.Pool, len(pools))
	for i, of := range pools {
		var err error
		if handles[i], err = s.ensure(of); err != nil {
			return nil, err
		}
	}
	steps := make([]pool.Step, len(claims))
	for i, claim := range claims {
		steps[i] = pool.Allocate(claim).In(handles[i])
	}
	for {
		results, err := handles[0].All(s, steps...)
		if err == nil {
			return addrsOf(results), nil
		}
		if err := s.extend(pools, handles, err); err != nil {
			return nil, err
		}
	}
}

func addrsOf(results []pool.Result) [][]netip.Addr {
	addrs := make([][]netip.Addr, len(results))
	for i, r := range results {
		addrs[i] = r.Allocation.Addrs()
	}
	return addrs
}

// resultOf is what ADD returns.
func resultOf(n network.Network, dns config.DNS, addrs []netip.Addr) (*current.Result, error) {
	result := &current.Result{CNIVersion: current.ImplementedSpecVersion, DNS: types.DNS(dns)}
	for i, addr := range addrs {
		of, ok := n.Slots[i].Of(addr)
		if !ok {
			return nil, types.NewError(types.ErrInternal, "an address is in none of the ranges", addr.String())
		}
		result.IPs = append(result.IPs, &current.IPConfig{
			Address: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(of.Bits, addr.BitLen())},
			Gateway: of.Gateway.AsSlice(),
		})
	}
	for _, r := range n.Routes {
		result.Routes = append(result.Routes, routeOf(r))
	}
	return result, nil
}

func routeOf(r config.Route) *types.Route {
	addr := r.Destination.Addr()
	return &types.Route{
		Dst: net.IPNet{IP: addr.AsSlice(), Mask: net.CIDRMask(r.Destination.Bits(), addr.BitLen())},
		GW:  r.Gateway.AsSlice(), MTU: r.MTU, AdvMSS: r.AdvMSS, Priority: r.Priority, Table: r.Table, Scope: r.Scope,
	}
}
