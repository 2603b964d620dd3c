package peer

import (
	"context"
	"net"
	"net/netip"
	"strconv"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	hostlocal "github.com/containernetworking/plugins/plugins/ipam/host-local/backend/testing"
)

func hostLocal() Peer {
	return Peer{
		Name: "host-local", Module: "github.com/containernetworking/plugins", Package: "host-local's allocator", Order: Next,
		Note: "keeps network, broadcast and gateway; in memory with the store of its own tests, which is a map; " +
			"a second claim of an owner is an error",
		NewSpace: newHostLocal, NewOwners: newHostLocalOwners,
	}
}

const (
	hostLocalInterface = "eth0"
	hostLocalRange     = "0"
)

// hostLocalSpace names the owner of an address after the address, or after the number of the call that took it.
type hostLocalSpace struct {
	*allocator.IPAllocator
	set    *allocator.RangeSet
	bits   int
	calls  int
	owners map[netip.Addr]string
}

func newHostLocal(s Shape) (Space, error) {
	if !s.Single() {
		return nil, cannot("only single addresses")
	}
	h := &hostLocalSpace{bits: s.Bits, owners: map[netip.Addr]string{}}
	var err error
	if h.set, err = hostLocalSet(s.Prefix); err == nil {
		err = h.Fill(context.Background(), nil)
	}
	return h, err
}

func hostLocalSet(prefix netip.Prefix) (*allocator.RangeSet, error) {
	r := allocator.Range{Subnet: types.IPNet(*ipNet(prefix))}
	if err := r.Canonicalize(); err != nil {
		return nil, cannot("%v", err)
	}
	return &allocator.RangeSet{r}, nil
}

func (h *hostLocalSpace) Take(int) (netip.Prefix, error) {
	h.calls++
	owner := "call-" + strconv.Itoa(h.calls)
	c, err := h.Get(owner, hostLocalInterface, nil)
	if err != nil {
		return netip.Prefix{}, err
	}
	p, err := fromIP(c.Address.IP, h.bits)
	h.owners[p.Addr()] = owner
	return p, err
}

func (h *hostLocalSpace) Release(p netip.Prefix) error {
	owner, ok := h.owners[p.Addr()]
	if !ok {
		owner = p.Addr().String()
	}
	delete(h.owners, p.Addr())
	return h.IPAllocator.Release(owner, hostLocalInterface)
}

// Fill gives the store a map, as its constructor takes it.
func (h *hostLocalSpace) Fill(_ context.Context, held []netip.Prefix) error {
	addrs, last := make(map[string]string, len(held)), map[string]net.IP{}
	for _, p := range held {
		text := p.Addr().String()
		addrs[text] = text
		last[hostLocalRange] = p.Addr().AsSlice()
	}
	h.IPAllocator = allocator.NewIPAllocator(h.set, hostlocal.NewFakeStore(addrs, last), 0)
	return nil
}

// hostLocalOwners keeps goroutines apart: the store in memory has no lock, and the lock of the store
// on disk only keeps processes apart.
type hostLocalOwners struct {
	mu sync.Mutex
	*allocator.IPAllocator
	prefix netip.Prefix
}

func newHostLocalOwners(prefix netip.Prefix) (Owners, error) {
	return newHostLocalOn(hostlocal.NewFakeStore(map[string]string{}, map[string]net.IP{}), prefix)
}

func newHostLocalOn(store backend.Store, prefix netip.Prefix) (*hostLocalOwners, error) {
	set, err := hostLocalSet(prefix)
	if err != nil {
		return nil, err
	}
	return &hostLocalOwners{IPAllocator: allocator.NewIPAllocator(set, store, 0), prefix: prefix}, nil
}

func (h *hostLocalOwners) Allocate(_ context.Context, owner string) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, err := h.Get(owner, hostLocalInterface, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	p, err := fromIP(c.Address.IP, h.prefix.Addr().BitLen())
	return p.Addr(), err
}

func (h *hostLocalOwners) Release(_ context.Context, owner string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.IPAllocator.Release(owner, hostLocalInterface)
}
