package config

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// shortest is the shortest time that leases and offers may last: the messages count in seconds.
const shortest = time.Second

func (c *Config) validate() error {
	if len(c.Networks) == 0 {
		return errors.New("networks: there is none")
	}
	for name, d := range map[string]time.Duration{"offer": c.Offer, "quarantine": c.Quarantine} {
		if d < shortest {
			return fmt.Errorf("%s: %v is under a second", name, d)
		}
	}
	if c.Busy < 1 {
		return fmt.Errorf("busy: %d is not positive", c.Busy)
	}
	names, interfaces := map[string]bool{}, map[string]string{}
	all := map[netip.Prefix]string{}
	for i := range c.Networks {
		n := &c.Networks[i]
		where := fmt.Sprintf("network %q", n.Name)
		switch {
		case n.Name == "":
			return fmt.Errorf("networks: number %d has no name", i+1)
		case names[n.Name]:
			return fmt.Errorf("%s: the name is used twice", where)
		case interfaces[n.Interface] != "":
			return fmt.Errorf("%s: interface %q is that of network %q too: subnets of one link belong to one network",
				where, n.Interface, interfaces[n.Interface])
		}
		names[n.Name] = true
		if n.Interface != "" {
			interfaces[n.Interface] = n.Name
		}
		if err := n.validate(all); err != nil {
			return fmt.Errorf("%s: %w", where, err)
		}
	}
	return nil
}

// validate checks a network. all are the prefixes of all networks so far.
func (n *Network) validate(all map[netip.Prefix]string) error {
	switch {
	case n.Interface == "" && !n.Relayed:
		return errors.New("it has no interface, and is not relayed: nothing would come from it")
	case n.MinLease < shortest || n.MinLease > n.Lease || n.Lease > n.MaxLease:
		return fmt.Errorf("lease: want 1s <= minLease (%v) <= lease (%v) <= maxLease (%v)", n.MinLease, n.Lease, n.MaxLease)
	case n.MaxLease > 10*365*24*time.Hour:
		return fmt.Errorf("maxLease: %v is more than ten years", n.MaxLease)
	case len(n.Subnets) == 0:
		return errors.New("subnets: there is none")
	}
	for i := range n.Subnets {
		s := &n.Subnets[i]
		if err := s.validate(); err != nil {
			return fmt.Errorf("subnet %v: %w", s.Subnet, err)
		}
		prefixes := []netip.Prefix{s.Subnet}
		for _, d := range s.Prefixes {
			prefixes = append(prefixes, d.Prefix)
		}
		for _, prefix := range prefixes {
			for other, name := range all {
				if prefix.Overlaps(other) {
					return fmt.Errorf("%v overlaps with %v of network %q", prefix, other, name)
				}
			}
			all[prefix] = n.Name
		}
	}
	return nil
}

func (s *Subnet) validate() error {
	if !s.Subnet.IsValid() {
		return errors.New("subnet is missing, such as 192.0.2.0/24")
	}
	if s.Subnet.Masked() != s.Subnet {
		return fmt.Errorf("it has host bits, want %v", s.Subnet.Masked())
	}
	for _, part := range []struct {
		name  string
		texts []string
	}{{"pools", s.Pools}, {"exclude", s.Exclude}} {
		for _, text := range part.texts {
			r, err := cidr.ParseRange(text)
			if err != nil {
				return fmt.Errorf("%s: %w", part.name, err)
			}
			if !s.Subnet.Contains(r.From()) || !s.Subnet.Contains(r.To()) {
				return fmt.Errorf("%s: %q is not in the subnet", part.name, text)
			}
		}
	}
	if s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway) {
		return fmt.Errorf("gateway: %v is not in the subnet", s.Gateway)
	}
	if err := s.validateOptions(); err != nil {
		return err
	}
	for _, d := range s.Prefixes {
		if !s.Subnet.Addr().Is6() || !d.Prefix.IsValid() || d.Prefix.Masked() != d.Prefix || !d.Prefix.Addr().Is6() ||
			d.Length < d.Prefix.Bits() || d.Length > 128 {
			return fmt.Errorf("prefixes: of %v no prefixes of length %d can be delegated: want an IPv6 prefix without "+
				"host bits, and a length from its own to 128", d.Prefix, d.Length)
		}
	}
	return s.validateReservations()
}

// domainName is labels of 1 to 63 letters, digits, hyphens and underscores: RFC 1035, section 2.3.4.
var domainName = regexp.MustCompile(`^[0-9A-Za-z_-]{1,63}(\.[0-9A-Za-z_-]{1,63})*\.?$`)

func (s *Subnet) validateOptions() error {
	v4 := s.Subnet.Addr().Is4()
	for name, addrs := range map[string][]netip.Addr{"dns": s.DNS, "ntp": s.NTP} {
		for _, a := range addrs {
			if a.Is4() != v4 || a.Zone() != "" {
				return fmt.Errorf("%s: %v is not of the subnet's family", name, a)
			}
		}
	}
	if !v4 && (s.Gateway.IsValid() || len(s.Routes) > 0 || s.MTU != 0) {
		return errors.New("gateway, routes and mtu: DHCPv6 has none of these, router advertisements tell them")
	}
	for name, domains := range map[string][]string{"domain": {s.Domain}, "search": s.Search} {
		for _, domain := range domains {
			if domain != "" && (!domainName.MatchString(domain) || len(domain) > 253) {
				return fmt.Errorf("%s: %q is no domain name", name, domain)
			}
		}
	}
	if s.MTU != 0 && s.MTU < 68 {
		return fmt.Errorf("mtu: %d is under 68", s.MTU)
	}
	for _, r := range s.Routes {
		if !r.To.IsValid() || !r.Via.Is4() || !r.To.Addr().Is4() || r.To.Masked() != r.To {
			return fmt.Errorf("routes: to %v via %v: want an IPv4 prefix without host bits, and an IPv4 address", r.To, r.Via)
		}
	}
	return nil
}

func (s *Subnet) validateReservations() error {
	excluded := cidr.SetOf(s.Excluded()...)
	clients, addrs, prefixes := map[string]bool{}, map[netip.Addr]bool{}, map[netip.Prefix]bool{}
	for _, r := range s.Reservations {
		client, err := r.client(s.Subnet.Addr().Is4())
		if err != nil {
			return fmt.Errorf("reservations: %w", err)
		}
		where := "reservations: " + client
		switch {
		case clients[client]:
			return fmt.Errorf("%s: it has two", where)
		case !r.Address.IsValid() && !r.Prefix.IsValid():
			return fmt.Errorf("%s: address is missing", where)
		case r.Address.IsValid() && !s.Subnet.Contains(r.Address):
			return fmt.Errorf("%s: %v is not in the subnet", where, r.Address)
		case r.Address.IsValid() && (addrs[r.Address] || r.Address == s.Gateway || excluded.Contains(r.Address)):
			return fmt.Errorf("%s: %v is the gateway, excluded or reserved for another client", where, r.Address)
		case r.Prefix.IsValid() && (prefixes[r.Prefix] || !s.delegates(r.Prefix)):
			return fmt.Errorf("%s: %v is not one of the subnet's prefixes, or reserved for another client", where, r.Prefix)
		}
		clients[client], addrs[r.Address], prefixes[r.Prefix] = true, r.Address.IsValid(), r.Prefix.IsValid()
	}
	return nil
}

// client is the client of a reservation, as text.
func (r Reservation) client(v4 bool) (string, error) {
	named := map[bool]int{}
	for _, text := range []string{string(r.Hardware), string(r.ClientID), string(r.DUID)} {
		named[text != ""]++
	}
	switch {
	case named[true] != 1:
		return "", fmt.Errorf("address %v: want one of hardware, clientID and duid", r.Address)
	case v4 && r.DUID != "":
		return "", fmt.Errorf("duid %q: DHCPv4 clients have a clientID", r.DUID)
	case !v4 && r.ClientID != "":
		return "", fmt.Errorf("clientID %q: DHCPv6 clients have a duid", r.ClientID)
	}
	return string(r.Hardware) + string(r.ClientID) + string(r.DUID), nil
}

// delegates reports whether the prefix can be delegated.
func (s *Subnet) delegates(prefix netip.Prefix) bool {
	for _, d := range s.Prefixes {
		if prefix.Bits() == d.Length && prefix.Masked() == prefix && d.Prefix.Contains(prefix.Addr()) {
			return true
		}
	}
	return false
}

// PoolRanges returns the ranges of Pools, and Excluded those of Exclude.
func (s *Subnet) PoolRanges() []netipx.IPRange { return mustRanges(s.Pools) }

// Excluded returns the ranges of Exclude.
func (s *Subnet) Excluded() []netipx.IPRange { return mustRanges(s.Exclude) }

// mustRanges are the ranges of texts that validate has parsed before.
func mustRanges(texts []string) []netipx.IPRange {
	ranges := make([]netipx.IPRange, len(texts))
	for i, text := range texts {
		ranges[i], _ = cidr.ParseRange(text)
	}
	return ranges
}
