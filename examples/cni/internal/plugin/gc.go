package plugin

import (
	"errors"
	"iter"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// gc is GC. It frees what attachments of this network on this node hold that are not in the list of those that exist.
func (p *plugin) gc(cmd *skel.CmdArgs) error {
	h, err := network.ReadHeader(cmd.StdinData)
	if err != nil {
		return err
	}
	if h.Valid == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "invalid network configuration",
			"cni.dev/valid-attachments: is missing, and without it nothing may be freed")
	}
	s, err := p.open(h, false)
	if err == nil {
		defer s.close()
		err = s.collect()
	}
	if nothingHeld(err) {
		return nil
	}
	return cniError(err)
}

// collect frees in all pools, and goes on after an error in one.
func (s *session) collect() error {
	valid := map[string]bool{}
	for _, a := range s.Valid {
		valid[netpools.Owner(a.ContainerID, a.IfName)] = true
	}
	pools, err := s.existing()
	if err != nil {
		return err
	}
	var errs []error
	for _, p := range pools {
		mark, err := p.Mark(s)
		if err == nil {
			_, err = p.Reconcile(s, mark, s.live(p, valid), nil)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// live are the owners that GC must leave alone: those in the list, and those that the list is not about.
func (s *session) live(p *pool.Pool, valid map[string]bool) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for a, err := range p.Allocations(s) {
			if err != nil {
				yield("", err)
				return
			}
			if (valid[a.Owner] || !s.isOurs(a)) && !yield(a.Owner, nil) {
				return
			}
		}
	}
}

// isOurs reports whether this network on this node has made the allocation. A store that is not shared is this node's
// alone, whatever the node was called before.
func (s *session) isOurs(a pool.Allocation) bool {
	return a.Labels[netpools.LabelNetwork] == s.Name && (!s.shared || a.Labels[netpools.LabelNode] == s.node)
}
