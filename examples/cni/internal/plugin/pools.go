package plugin

import (
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// ensure returns a handle of the pool, which has at least what the configuration needs. If other configurations have
// other ranges for it, the pool has the ranges of all: each claim is for addresses of its own configuration.
func (s *session) ensure(of network.Pool) (*pool.Pool, error) {
	if of.SliceBits != 0 {
		return s.ensureSlice(of)
	}
	return s.ensureWhole(of)
}

func (s *session) ensureWhole(of network.Pool) (*pool.Pool, error) {
	if err := s.adopt(of); err != nil {
		return nil, err
	}
	p, err := pool.Ensure(s, s.store, of.Name, of.Spec, pool.Refuse, nil)
	if !errors.Is(err, pool.ErrDrift) {
		return p, err
	}
	if p, err = pool.Open(s, s.store, of.Name, nil); err != nil {
		return nil, err
	}
	return p, s.grow(p, of.Spec)
}

// grow adds to a pool what the spec has and it has not.
func (s *session) grow(p *pool.Pool, spec pool.Spec) error {
	info, err := p.Info(s)
	if err != nil || network.Covers(info.Spec, spec) {
		return err
	}
	added := cidr.Difference(network.Gateways(spec), network.Gateways(info.Spec))
	for _, r := range added.Ranges() { // each is one gateway, or several in a row
		for gateway := r.From(); r.Contains(gateway); gateway = gateway.Next() {
			if err := s.refuseHeldGateway(p, pool.Held{Addr: gateway}); err != nil {
				return err
			}
		}
	}
	return p.UpdateFunc(s, func(now pool.Spec) (pool.Spec, error) { return network.Grown(now, spec), nil })
}

// refuseHeldGateway returns an error if a container has got the gateway of this configuration by another one. Who was
// given it as a fixed address may be that gateway.
func (s *session) refuseHeldGateway(p *pool.Pool, gateway pool.Held) error {
	held, err := p.Get(s, gateway)
	switch {
	case errors.Is(err, pool.ErrNotFound):
		return nil
	case err != nil || held.Labels[LabelKind] == string(network.Static):
		return err
	}
	return types.NewError(types.ErrInvalidNetworkConfig, "a gateway is in use as an address",
		fmt.Sprintf("gateway: %v is held by %s", gateway.Addr, held.Owner))
}

// existing returns handles of the pools of a configuration that exist: those that an attachment of it may have
// addresses of.
func (s *session) existing() ([]*pool.Pool, error) {
	names, err := s.poolNames()
	if err != nil {
		return nil, err
	}
	var found []*pool.Pool
	for _, name := range names {
		p, err := pool.Open(s, s.store, name, nil)
		if errors.Is(err, pool.ErrNoPool) {
			continue
		}
		if err != nil {
			return nil, err
		}
		found = append(found, p)
	}
	return found, nil
}

func (s *session) poolNames() ([]string, error) {
	if s.Kind != network.Whereabouts {
		return []string{s.Name}, nil
	}
	names := []string{network.SharedPool(s.NetworkName)}
	if s.Sliced {
		names = append(names, network.SlicePool(network.SlicedPool(s.NetworkName), s.node))
	}
	if s.Overlapping {
		return names, nil
	}
	ranges, err := s.namesFrom(network.RangePools(s.NetworkName))
	return append(names, ranges...), err
}
