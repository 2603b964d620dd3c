package durable

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/allocator"
	"github.com/containernetworking/plugins/plugins/ipam/host-local/backend/disk"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

func hostLocalDisk() Kind {
	return Kind{
		Name: "host-local disk", Module: "github.com/containernetworking/plugins",
		Note: "a file an address, not synced; a lock for the folder; next after the last; keeps the gateway; " +
			"a second claim of an owner is an error, so who tries again after a crash releases first, as CNI runtimes do",
		ReleaseFirst: true, Prepare: inFolder, Open: openHostLocalDisk,
	}
}

const (
	hostLocalNetwork   = "pods"
	hostLocalInterface = "eth0"
	hostLocalRange     = "0"
)

// hostLocalPool keeps goroutines apart: the lock of the store is between processes.
type hostLocalPool struct {
	mu sync.Mutex
	*allocator.IPAllocator
	store *disk.Store
	dir   string
	first netip.Addr
}

func openHostLocalDisk(_ context.Context, address string, prefix netip.Prefix) (Pool, error) {
	subnet := net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
	r := allocator.Range{Subnet: types.IPNet(subnet)}
	if err := r.Canonicalize(); err != nil {
		return nil, err
	}
	store, err := disk.New(hostLocalNetwork, address)
	if err != nil {
		return nil, err
	}
	return &hostLocalPool{
		IPAllocator: allocator.NewIPAllocator(&allocator.RangeSet{r}, store, 0), store: store,
		dir: filepath.Join(address, hostLocalNetwork), first: prefix.Addr(),
	}, nil
}

func (h *hostLocalPool) Allocate(_ context.Context, owner string) (netip.Addr, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	c, err := h.Get(owner, hostLocalInterface, nil)
	if err != nil {
		return netip.Addr{}, err
	}
	addr, _ := netip.AddrFromSlice(c.Address.IP)
	return addr.Unmap(), nil
}

func (h *hostLocalPool) Release(_ context.Context, owner string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.IPAllocator.Release(owner, hostLocalInterface)
}

// Fill writes the files without the search for what each owner holds already. That of the latest address, which the
// store writes again for each one, is written once.
func (h *hostLocalPool) Fill(ctx context.Context, owners []string) error {
	addr := h.first.Next() // the gateway
	left := len(owners)
	return peer.Each(ctx, owners, func(owner string) error {
		addr, left = addr.Next(), left-1
		if left > 0 {
			text := owner + disk.LineBreak + hostLocalInterface
			return os.WriteFile(filepath.Join(h.dir, addr.String()), []byte(text), 0o600)
		}
		reserved, err := h.store.Reserve(owner, hostLocalInterface, addr.AsSlice(), hostLocalRange)
		if err == nil && !reserved {
			err = fmt.Errorf("%v is not free", addr)
		}
		return err
	})
}

// Audit implements Auditor. A file is a held address; an empty one is held by nobody.
func (h *hostLocalPool) Audit(context.Context) (map[string]netip.Addr, error) {
	entries, err := os.ReadDir(h.dir)
	if err != nil {
		return nil, err
	}
	held := map[string]netip.Addr{}
	for _, e := range entries {
		addr, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // the lock, the last address
		}
		text, err := os.ReadFile(filepath.Join(h.dir, e.Name()))
		if err != nil {
			return nil, err
		}
		owner, _, _ := strings.Cut(string(text), disk.LineBreak)
		if other, twice := held[owner]; twice || owner == "" {
			return nil, fmt.Errorf("not consistent: %v is held by %q, as %v is", addr, owner, other)
		}
		held[owner] = addr
	}
	return held, nil
}

func (h *hostLocalPool) Close() error { return h.store.Close() }
