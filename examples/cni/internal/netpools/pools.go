// Package netpools makes the pools of networks, and says what stands in them.
package netpools

import (
	"context"
	"errors"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/cni/internal/network"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Ensure returns a handle of a pool that has at least the ranges and gateways of the spec. If other configurations need
// others, the pool has those of all: each claim is for addresses of its own configuration. It returns CNI's error if a
// container has a gateway of this configuration by another one; then nothing has changed.
func Ensure(ctx context.Context, s store.Store, name string, spec pool.Spec) (*pool.Pool, error) {
	p, err := pool.Ensure(ctx, s, name, spec, pool.Refuse, nil)
	if !errors.Is(err, pool.ErrDrift) {
		return p, err
	}
	if p, err = pool.Open(ctx, s, name, nil); err != nil {
		return nil, err
	}
	return p, grow(ctx, p, spec)
}

// grow adds to a pool what the spec has and it has not.
func grow(ctx context.Context, p *pool.Pool, spec pool.Spec) error {
	info, err := p.Info(ctx)
	if err != nil || network.Covers(info.Spec, spec) {
		return err
	}
	added := cidr.Difference(network.Gateways(spec), network.Gateways(info.Spec))
	for _, r := range added.Ranges() { // each is one gateway, or several in a row
		for gateway := r.From(); r.Contains(gateway); gateway = gateway.Next() {
			if err := refuseHeldGateway(ctx, p, pool.Held{Addr: gateway}); err != nil {
				return err
			}
		}
	}
	return p.UpdateFunc(ctx, func(now pool.Spec) (pool.Spec, error) { return network.Grown(now, spec), nil })
}

// refuseHeldGateway returns an error if a container has got a gateway as its address. One that was given it as a fixed
// address may be the gateway.
func refuseHeldGateway(ctx context.Context, p *pool.Pool, gateway pool.Held) error {
	held, err := p.Get(ctx, gateway)
	switch {
	case errors.Is(err, pool.ErrNotFound):
		return nil
	case err != nil || held.Labels[LabelKind] == string(network.Static):
		return err
	}
	return types.NewError(types.ErrInvalidNetworkConfig, "a gateway is in use as an address",
		fmt.Sprintf("gateway: %v is held by %s", gateway.Addr, held.Owner))
}
