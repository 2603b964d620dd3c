package durable

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"

	goipam "github.com/metal-stack/go-ipam"
)

const goIPAMModule = "github.com/metal-stack/go-ipam"

func goIPAMFile() Kind {
	return Kind{
		Name: "go-ipam file", Module: goIPAMModule,
		Note: "the file is rewritten whole, not synced, and has no lock between processes; " +
			"no owners: the caller keeps the address",
		Prepare: inFolder,
		Open: func(ctx context.Context, address string, prefix netip.Prefix) (Pool, error) {
			return openGoIPAM(ctx, goipam.NewLocalFile(ctx, filepath.Join(address, "go-ipam.json")), prefix)
		},
	}
}

// goIPAMPool remembers the address of each owner, as its callers do.
type goIPAMPool struct {
	goipam.Ipamer
	in   netip.Prefix
	held sync.Map
}

// openGoIPAM opens the prefix in any storage, and creates it if it is not there.
func openGoIPAM(ctx context.Context, storage goipam.Storage, prefix netip.Prefix) (Pool, error) {
	g := &goIPAMPool{Ipamer: goipam.NewWithStorage(storage), in: prefix}
	if _, err := g.PrefixFrom(ctx, prefix.String()); err == nil {
		return g, nil
	}
	if _, err := g.NewPrefix(ctx, prefix.String()); err != nil {
		return nil, err
	}
	return g, nil
}

func (g *goIPAMPool) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	ip, err := g.AcquireIP(ctx, g.in.String())
	if err != nil {
		return netip.Addr{}, err
	}
	g.held.Store(owner, ip.IP)
	return ip.IP, nil
}

func (g *goIPAMPool) Release(ctx context.Context, owner string) error {
	addr, ok := g.held.LoadAndDelete(owner)
	if !ok {
		return fmt.Errorf("%w: %q", goipam.ErrNotFound, owner)
	}
	return g.ReleaseIPFromPrefix(ctx, g.in.String(), addr.(netip.Addr).String())
}

// Fill loads a dump in which the lowest addresses are held.
func (g *goIPAMPool) Fill(ctx context.Context, owners []string) error {
	if len(owners) == 0 {
		return nil
	}
	ips, addr := map[string]bool{g.in.Addr().String(): true}, g.in.Addr()
	for _, owner := range owners {
		addr = addr.Next()
		ips[addr.String()] = true
		g.held.Store(owner, addr)
	}
	if _, err := g.DeletePrefix(ctx, g.in.String()); err != nil {
		return err
	}
	dump, err := json.Marshal([]map[string]any{{
		"Cidr": g.in.String(), "AvailableChildPrefixes": map[string]bool{}, "IPs": ips,
	}})
	if err != nil {
		return err
	}
	return g.Load(ctx, string(dump))
}

// Close does nothing: every change is written at once, and a storage of this library cannot be closed.
func (g *goIPAMPool) Close() error { return nil }
