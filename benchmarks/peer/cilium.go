package peer

import (
	"context"
	"net/netip"
	"sync"

	"github.com/cilium/cilium/pkg/ipalloc"
	"github.com/cilium/cilium/pkg/ipam/service/ipallocator"
	"go4.org/netipx"
)

func cilium() Peer {
	return Peer{
		Name: "Cilium", Module: "github.com/cilium/cilium", Package: "pkg/ipam/service/ipallocator", Order: Random,
		Note: "a bitmap; never packed in its own use; no owners; IPv6 is capped at 65,536 addresses", NewSpace: newCilium,
	}
}

type ciliumSpace struct {
	*ipallocator.Range
	bits int
}

func newCilium(s Shape) (Space, error) {
	if !s.Single() {
		return nil, cannot("only single addresses")
	}
	if s.Prefix.Addr().Is6() && s.Prefix.Bits() < 112 {
		return nil, cannot("capped at 65,536 addresses of a prefix")
	}
	return ciliumSpace{ipallocator.NewCIDRRange(s.Prefix), s.Bits}, nil
}

func (c ciliumSpace) Take(int) (netip.Prefix, error) {
	addr, err := c.AllocateNext()
	return netip.PrefixFrom(addr, c.bits), err
}

func (c ciliumSpace) Release(p netip.Prefix) error {
	c.Range.Release(p.Addr())
	return nil
}

func (c ciliumSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error { return c.Allocate(p.Addr()) })
}

func (c ciliumSpace) Snapshot() (int, error) {
	_, data, err := c.Range.Snapshot()
	if err != nil {
		return 0, err
	}
	return len(data), ipallocator.NewCIDRRange(c.CIDR()).Restore(c.CIDR(), data)
}

func ciliumHash() Peer {
	return Peer{
		Name: "Cilium ipalloc", Module: "github.com/cilium/cilium", Package: "pkg/ipalloc, its HashAllocator", Order: Any,
		Note: "the first of the smallest free block; a value beside each address, here the owner, " +
			"which is no key: the caller finds the address",
		NewSpace: newCiliumHash, NewOwners: newCiliumOwners,
	}
}

type ciliumHashSpace struct {
	*ipalloc.HashAllocator[string]
	bits int
}

func newHash(prefix netip.Prefix) (*ipalloc.HashAllocator[string], error) {
	r := netipx.RangeOfPrefix(prefix)
	return ipalloc.NewHashAllocator[string](r.From(), r.To(), 0)
}

func newCiliumHash(s Shape) (Space, error) {
	if !s.Single() {
		return nil, cannot("only single addresses")
	}
	a, err := newHash(s.Prefix)
	return ciliumHashSpace{a, s.Bits}, err
}

func (c ciliumHashSpace) Take(int) (netip.Prefix, error) {
	addr, err := c.AllocAny("")
	return netip.PrefixFrom(addr, c.bits), err
}

func (c ciliumHashSpace) Release(p netip.Prefix) error { return c.Free(p.Addr()) }

func (c ciliumHashSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	return Each(ctx, held, func(p netip.Prefix) error { return c.Alloc(p.Addr(), "") })
}

// ciliumOwners remembers the address of each owner, as its callers do.
type ciliumOwners struct {
	*ipalloc.HashAllocator[string]
	held sync.Map
}

func newCiliumOwners(prefix netip.Prefix) (Owners, error) {
	a, err := newHash(prefix)
	return &ciliumOwners{HashAllocator: a}, err
}

func (c *ciliumOwners) Allocate(_ context.Context, owner string) (netip.Addr, error) {
	addr, err := c.AllocAny(owner)
	if err == nil {
		c.held.Store(owner, addr)
	}
	return addr, err
}

func (c *ciliumOwners) Release(_ context.Context, owner string) error {
	addr, ok := c.held.LoadAndDelete(owner)
	if !ok {
		return ipalloc.ErrNotFound
	}
	return c.Free(addr.(netip.Addr))
}
