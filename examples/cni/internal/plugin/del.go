package plugin

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// del is DEL. It frees what the attachment holds in all pools of the network, in one commit. It is done if there is
// nothing to free.
func (p *plugin) del(cmd *skel.CmdArgs) error {
	h, err := network.ReadHeader(cmd.StdinData)
	if err != nil {
		return err
	}
	s, err := p.open(h, false)
	if err == nil {
		defer s.close()
		err = s.release(netpools.Owner(cmd.ContainerID, cmd.IfName))
	}
	if nothingHeld(err) {
		return nil
	}
	return cniError(err)
}

func (s *session) release(owner string) error {
	pools, err := s.existing()
	if err != nil || len(pools) == 0 {
		return err
	}
	steps := make([]pool.Step, len(pools))
	for i, p := range pools {
		steps[i] = pool.Release(pool.Held{Owner: owner, Optional: true}).In(p)
	}
	_, err = pools[0].All(s, steps...)
	return err
}
