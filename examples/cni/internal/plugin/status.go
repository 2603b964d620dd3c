package plugin

import (
	"errors"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// status is STATUS: an error if an ADD would fail now. It changes nothing.
func (p *plugin) status(cmd *skel.CmdArgs) error {
	n, err := network.Read(cmd.StdinData, network.Args{})
	if err == nil {
		_, err = n.ReadDNS()
	}
	if err != nil {
		return err
	}
	s, err := p.open(n.Header, false)
	if err == nil {
		defer s.close()
		err = s.tryAll(n)
	}
	if err == nil || nothingHeld(err) {
		return nil
	}
	var wrong *types.Error
	if errors.As(err, &wrong) {
		return err
	}
	_, message := describe(err)
	return types.NewError(CodeUnavailable, message, err.Error())
}

// probe is the owner of claims that are only tried. It is not one of an attachment, since it has no slash.
const probe = "status"

// tryAll tries a claim in each of the pools. An address that only one container can have is not asked for.
func (s *session) tryAll(n network.Network) error {
	for i := range n.Slots {
		n.Slots[i].Request.Exact = pool.Request{}.Exact
	}
	for i, claim := range n.Claims(pool.Claim{Owner: probe}) {
		var free []pool.Request
		for _, r := range claim.Requests {
			if r.Within != nil {
				free = append(free, r)
			}
		}
		if claim.Requests = free; len(free) == 0 {
			continue
		}
		if err := s.try(n.Pools[i], claim); err != nil {
			return err
		}
	}
	return nil
}

// try tries a claim, unless ADD would first have to make the pool, or to make it larger.
func (s *session) try(of network.Pool, claim pool.Claim) error {
	whole, err := pool.Open(s, s.store, of.Name, nil)
	if err != nil {
		return err
	}
	info, err := whole.Info(s)
	if err != nil || !network.Covers(info.Spec, of.Spec) {
		return err
	}
	if of.SliceBits == 0 {
		_, err := whole.DryRun(s, claim)
		return err
	}
	slice, err := pool.Open(s, s.store, network.SlicePool(of.Name, s.node), nil)
	if err == nil {
		_, err = slice.DryRun(s, claim)
	}
	if errors.Is(err, pool.ErrExhausted) || errors.Is(err, pool.ErrNoPool) {
		more := s.sliceClaim(of, 0)
		more.Owner = probe
		_, err = whole.DryRun(s, more)
	}
	return err
}
