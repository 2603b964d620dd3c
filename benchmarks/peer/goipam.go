package peer

import (
	"context"
	"encoding/json"
	"net/netip"
	"sync"

	goipam "github.com/metal-stack/go-ipam"
	"go4.org/netipx"
)

func goIPAM() Peer {
	return Peer{
		Name: "go-ipam", Module: "github.com/metal-stack/go-ipam", Package: "memory storage", Order: Lowest,
		Note: "no owners: the caller keeps the address; addresses and child prefixes not in the same prefix; " +
			"each change copies the whole prefix; filled by loading a dump",
		NewSpace: newGoIPAM, NewOwners: newGoIPAMOwners,
	}
}

type goIPAMSpace struct {
	goipam.Ipamer
	shape Shape
}

func newGoIPAM(s Shape) (Space, error) {
	ipam := goipam.New(context.Background())
	_, err := ipam.NewPrefix(context.Background(), s.Prefix.String())
	return goIPAMSpace{ipam, s}, err
}

func (g goIPAMSpace) Take(bits int) (netip.Prefix, error) {
	ctx, in := context.Background(), g.shape.Prefix.String()
	if g.shape.Single() {
		ip, err := g.AcquireIP(ctx, in)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(ip.IP, bits), nil
	}
	child, err := g.AcquireChildPrefix(ctx, in, uint8(bits))
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.ParsePrefix(child.Cidr)
}

func (g goIPAMSpace) Release(p netip.Prefix) error {
	ctx, in := context.Background(), g.shape.Prefix.String()
	if g.shape.Single() {
		return g.ReleaseIPFromPrefix(ctx, in, p.Addr().String())
	}
	child, err := g.PrefixFrom(ctx, p.String())
	if err != nil {
		return err
	}
	return g.ReleaseChildPrefix(ctx, child)
}

// mostLoaded is how many addresses or prefixes a dump may have: each is an entry of a map that every change copies.
const mostLoaded = 1 << 20

func (g goIPAMSpace) Fill(ctx context.Context, held []netip.Prefix) error {
	if len(held) > mostLoaded {
		return cannot("not tried beyond %d: each change copies a map of all that is held", mostLoaded)
	}
	if len(held) == 0 {
		return nil
	}
	if _, err := g.DeletePrefix(ctx, g.shape.Prefix.String()); err != nil {
		return err
	}
	dump, err := json.Marshal(goIPAMDump(g.shape, held))
	if err != nil {
		return err
	}
	return g.Load(ctx, string(dump))
}

// goIPAMPrefix is a prefix as Dump writes it.
type goIPAMPrefix struct {
	Cidr, ParentCidr       string
	AvailableChildPrefixes map[string]bool
	IsParent               bool
	IPs                    map[string]bool
}

// goIPAMDump is what Dump returns when all these are held. Network and broadcast address are held in each IPv4 prefix.
func goIPAMDump(s Shape, held []netip.Prefix) []goIPAMPrefix {
	parent := newGoIPAMPrefix(s.Prefix, "")
	dump := []goIPAMPrefix{parent}
	for _, p := range held {
		if s.Single() {
			parent.IPs[p.Addr().String()] = true
			continue
		}
		parent.AvailableChildPrefixes[p.String()] = false
		dump = append(dump, newGoIPAMPrefix(p, s.Prefix.String()))
	}
	dump[0].IsParent = !s.Single()
	return dump
}

func newGoIPAMPrefix(p netip.Prefix, parent string) goIPAMPrefix {
	r := netipx.RangeOfPrefix(p)
	made := goIPAMPrefix{Cidr: p.String(), ParentCidr: parent, AvailableChildPrefixes: map[string]bool{}}
	made.IPs = map[string]bool{r.From().String(): true}
	if p.Addr().Is4() {
		made.IPs[r.To().String()] = true
	}
	return made
}

// goIPAMOwners remembers the address of each owner, as its callers do.
type goIPAMOwners struct {
	goipam.Ipamer
	in   string
	held sync.Map
}

func newGoIPAMOwners(prefix netip.Prefix) (Owners, error) {
	ipam := goipam.New(context.Background())
	_, err := ipam.NewPrefix(context.Background(), prefix.String())
	return &goIPAMOwners{Ipamer: ipam, in: prefix.String()}, err
}

func (g *goIPAMOwners) Allocate(ctx context.Context, owner string) (netip.Addr, error) {
	ip, err := g.AcquireIP(ctx, g.in)
	if err != nil {
		return netip.Addr{}, err
	}
	g.held.Store(owner, ip.IP)
	return ip.IP, nil
}

func (g *goIPAMOwners) Release(ctx context.Context, owner string) error {
	addr, ok := g.held.LoadAndDelete(owner)
	if !ok {
		return goipam.ErrNotFound
	}
	return g.ReleaseIPFromPrefix(ctx, g.in, addr.(netip.Addr).String())
}
