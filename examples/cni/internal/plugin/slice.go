package plugin

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// ensureSlice returns a handle of the pool of this node's slices. It cuts the first one if the node has none.
func (s *session) ensureSlice(of network.Pool) (*pool.Pool, error) {
	name := network.SlicePool(of.Name, s.node)
	p, err := pool.Open(s, s.store, name, nil)
	if !errors.Is(err, pool.ErrNoPool) {
		return p, err
	}
	parent, err := s.ensureWhole(of)
	if err != nil {
		return nil, err
	}
	all := pool.FamilySpec{AllocateReserved: true}
	p, _, err = pool.Delegate(s, parent, s.sliceClaim(of, 0), name, pool.Spec{IPv4: all, IPv6: all}, nil)
	return p, err
}

// sliceClaim is the claim for the node's slice of a number, counted from 0.
func (s *session) sliceClaim(of network.Pool, number int) pool.Claim {
	return pool.Claim{
		Owner: fmt.Sprintf("%s/%d", s.node, number), Labels: map[string]string{netpools.LabelNode: s.node},
		Requests: []pool.Request{{Bits: of.SliceBits, Within: cidr.SetOf(of.Spec.Ranges...)}},
	}
}

// extend gives the node one more slice of the pool that has no room for the claims, or returns the error that says so.
func (s *session) extend(pools []network.Pool, handles []*pool.Pool, err error) error {
	var full *pool.Error
	if !errors.Is(err, pool.ErrExhausted) || !errors.As(err, &full) {
		return err
	}
	for i, p := range handles {
		if p.Name() != full.Pool || pools[i].SliceBits == 0 {
			continue
		}
		if _, err := s.ensureWhole(pools[i]); err != nil {
			return err
		}
		grants, err := p.Grants(s)
		if err != nil {
			return err
		}
		_, err = p.Extend(s, s.sliceClaim(pools[i], len(grants)))
		return err
	}
	return err
}

// namesFrom are the names of the pools in the store that begin so.
func (s *session) namesFrom(beginning string) ([]string, error) {
	var names []string
	for info, err := range pool.List(s, s.store) {
		if err != nil {
			return nil, err
		}
		if strings.HasPrefix(info.Name, beginning) {
			names = append(names, info.Name)
		}
	}
	return names, nil
}
