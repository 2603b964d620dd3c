// Package leases is what a DHCP server decides, without packets: which client gets which address or prefix, of which
// subnet of its link, and until when. The addresses themselves are pools of the library: one for each subnet, and one
// for each prefix that is delegated from. So all that must hold when servers crash or share a store is the library's
// work.
package leases

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Kind is what a client asks for.
type Kind string

// The kinds: a DHCPv4 address, and the identity associations of DHCPv6 (RFC 8415, section 4.2).
const (
	V4 Kind = "v4"
	NA Kind = "na"
	PD Kind = "pd"
)

// routingDomain is the network that all pools are in, so that no two of them overlap.
const routingDomain = "dhcp"

// Leases are the leases of all networks of a configuration. Any number of goroutines may use it at once.
type Leases struct {
	Networks []*Network

	config *config.Config
	quota  *quota
	clock  func() time.Time
}

// Network is a link: where its clients get their addresses from.
type Network struct {
	*config.Network
	sources map[Kind][]*Source
	// reserved are the sources and prefixes that are kept for clients, by the names of the clients.
	reserved map[Kind]map[string]reservation
}

// Source is a pool that clients of a link get addresses or prefixes from.
type Source struct {
	Kind   Kind
	Pool   *pool.Pool
	Subnet *config.Subnet
	// Within is what all of its addresses lie in, and bits the length of what it grants.
	Within netip.Prefix
	bits   int
	spec   pool.Spec
}

// Open opens the pools of a configuration, and creates or changes them as it says. What is held of a range that the
// configuration no longer has stays held until the lease ends.
func Open(ctx context.Context, s store.Store, c *config.Config, options *pool.Options) (*Leases, error) {
	l := &Leases{config: c, quota: newQuota(), clock: time.Now}
	if options != nil && options.Clock != nil {
		l.clock = options.Clock
	}
	for i := range c.Networks {
		n := &Network{Network: &c.Networks[i], sources: map[Kind][]*Source{}, reserved: map[Kind]map[string]reservation{}}
		for j := range n.Subnets {
			for _, source := range sourcesOf(c, n.Network, &n.Subnets[j]) {
				if err := source.open(ctx, s, options); err != nil {
					return nil, fmt.Errorf("network %q: %w", n.Name, err)
				}
				if err := n.reserve(ctx, source); err != nil {
					return nil, fmt.Errorf("network %q: %w", n.Name, err)
				}
				n.sources[source.Kind] = append(n.sources[source.Kind], source)
			}
		}
		l.Networks = append(l.Networks, n)
	}
	if err := l.count(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// sourcesOf returns what a subnet gives, without pools yet.
func sourcesOf(c *config.Config, n *config.Network, s *config.Subnet) []*Source {
	common := pool.Spec{Cooldown: c.Sticky, Network: routingDomain, Labels: map[string]string{"link": n.Name}}
	kind, family := V4, pool.IPv4
	if s.Subnet.Addr().Is6() {
		kind, family = NA, pool.IPv6
	}
	var sources []*Source
	addresses := &Source{Kind: kind, Subnet: s, Within: s.Subnet, bits: family.Width(), spec: common}
	addresses.spec.Families = []pool.Family{family}
	addresses.spec.Subnets = []pool.Subnet{{Prefix: s.Subnet, Gateway: s.Gateway}}
	addresses.spec.Ranges, addresses.spec.Exclude = s.PoolRanges(), s.Excluded()
	if kept := aside(s); len(kept) > 0 {
		addresses.spec.Ranges = append(addresses.spec.Ranges, kept...)
		addresses.spec.Bands = []pool.Band{{Name: "reservations", Ranges: kept, Exclusive: true}}
	}
	if len(addresses.spec.Ranges) > 0 {
		sources = append(sources, addresses)
	}
	for _, d := range s.Prefixes {
		source := &Source{Kind: PD, Subnet: s, Within: d.Prefix, bits: d.Length, spec: common}
		source.spec.Ranges = []netipx.IPRange{netipx.RangeOfPrefix(d.Prefix)}
		source.spec.IPv6 = pool.FamilySpec{Bits: d.Length, MinBits: d.Length, MaxBits: d.Length, AllocateReserved: true}
		sources = append(sources, source)
	}
	return sources
}

// name is that of the pool.
func (s *Source) name() string {
	if s.Kind == PD {
		return "pd " + s.Within.String()
	}
	return s.Within.String()
}

func (s *Source) open(ctx context.Context, db store.Store, options *pool.Options) error {
	var err error
	s.Pool, err = pool.Ensure(ctx, db, s.name(), s.spec, pool.Drain, options)
	return err
}

// Sources returns all pools of the network.
func (n *Network) Sources() []*Source {
	return slices.Concat(n.sources[V4], n.sources[NA], n.sources[PD])
}

// Contains reports whether the address lies in one of the network's subnets.
func (n *Network) Contains(addr netip.Addr) bool {
	return slices.ContainsFunc(n.Subnets, func(s config.Subnet) bool { return s.Subnet.Contains(addr) })
}

// SubnetsOf returns the network's subnets of a family.
func (n *Network) SubnetsOf(v4 bool) []*config.Subnet {
	var subnets []*config.Subnet
	for i := range n.Subnets {
		if n.Subnets[i].Subnet.Addr().Is4() == v4 {
			subnets = append(subnets, &n.Subnets[i])
		}
	}
	return subnets
}

// On returns the network whose clients are heard on an interface, or nil.
func (l *Leases) On(iface string) *Network {
	for _, n := range l.Networks {
		if n.Interface == iface {
			return n
		}
	}
	return nil
}

// At returns the network that has an address in one of its subnets, or nil: that of a relay, for one.
func (l *Leases) At(addr netip.Addr) *Network {
	for _, n := range l.Networks {
		if n.Contains(addr) {
			return n
		}
	}
	return nil
}

// ErrOwnAddress is returned if a pool would hand out an address that the server itself has.
var ErrOwnAddress = errors.New("it is the server's own")

// CheckOwn returns ErrOwnAddress if one of the addresses, which the server has, would be handed out.
func (l *Leases) CheckOwn(own []netip.Addr) error {
	for _, n := range l.Networks {
		for _, s := range slices.Concat(n.sources[V4], n.sources[NA]) {
			set := s.spec.Set(pool.FamilyOf(s.Within.Addr()))
			for _, addr := range own {
				if set.Contains(addr) {
					return fmt.Errorf("network %q: subnet %v: pools have %v: %w: add it to exclude, or leave it out of pools",
						n.Name, s.Within, addr, ErrOwnAddress)
				}
			}
		}
	}
	return nil
}

// TTL returns how long a lease lasts if the client asks for a time; 0 if it asks for none.
func (n *Network) TTL(asked time.Duration) time.Duration {
	if asked <= 0 {
		return n.Lease
	}
	return min(max(asked, n.MinLease), n.MaxLease)
}
