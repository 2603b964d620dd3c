package plugin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
)

// check is CHECK. The attachment must hold what ADD has returned, and nothing else.
func (p *plugin) check(cmd *skel.CmdArgs) error {
	h, err := network.ReadHeader(cmd.StdinData)
	if err != nil {
		return err
	}
	returned, err := previous(cmd.StdinData)
	if err != nil {
		return err
	}
	s, err := p.open(h, false)
	if err == nil {
		defer s.close()
		err = s.compare(netpools.Owner(cmd.ContainerID, cmd.IfName), returned)
	}
	if nothingHeld(err) {
		return errNothing
	}
	return cniError(err)
}

// previous are the addresses that ADD has returned.
func previous(data []byte) ([]netip.Addr, error) {
	var conf types.PluginConf
	if err := json.Unmarshal(data, &conf); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure, "the configuration cannot be read", err.Error())
	}
	if conf.RawPrevResult == nil {
		return nil, wrongPrevious("it is missing, but CHECK needs it")
	}
	if err := version.ParsePrevResult(&conf); err != nil {
		return nil, wrongPrevious(err.Error())
	}
	result, err := current.NewResultFromResult(conf.PrevResult)
	if err != nil {
		return nil, wrongPrevious(err.Error())
	}
	var addrs []netip.Addr
	for _, ip := range result.IPs {
		if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs, nil
}

func wrongPrevious(details string) error {
	return types.NewError(types.ErrInvalidNetworkConfig, "invalid network configuration", "prevResult: "+details)
}

var errNothing = types.NewError(CodeChanged, "the attachment is not as ADD has left it", "it holds no address")

// compare compares what the owner holds with what ADD has returned to it.
func (s *session) compare(owner string, returned []netip.Addr) error {
	pools, err := s.existing()
	if err != nil {
		return err
	}
	var held []netip.Addr
	for _, p := range pools {
		a, err := p.Get(s, pool.Held{Owner: owner})
		if err != nil && !errors.Is(err, pool.ErrNotFound) {
			return err
		}
		held = append(held, a.Addrs()...)
	}
	if len(held) == 0 {
		return errNothing
	}
	for _, addr := range held {
		if !slices.Contains(returned, addr) {
			return changed("it holds %v, which is not in prevResult.ips", addr)
		}
	}
	return s.refuseOthers(pools, held, returned)
}

// refuseOthers returns an error if somebody else holds an address that ADD has returned.
func (s *session) refuseOthers(pools []*pool.Pool, held, returned []netip.Addr) error {
	for _, addr := range returned {
		if slices.Contains(held, addr) {
			continue
		}
		for _, p := range pools {
			other, err := p.Get(s, pool.Held{Addr: addr})
			if err == nil {
				return changed("%v of prevResult.ips is held by %s", addr, other.Owner)
			}
			if !errors.Is(err, pool.ErrNotFound) {
				return err
			}
		}
	}
	return nil
}

func changed(format string, args ...any) error {
	return types.NewError(CodeChanged, errNothing.Msg, fmt.Sprintf(format, args...))
}
