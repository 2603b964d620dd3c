package plugin

import (
	"errors"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// ensure returns a handle of the pool that containers get addresses of.
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
	return netpools.Ensure(s, s.store, of.Name, of.Spec)
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
