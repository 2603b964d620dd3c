// Package vpc cuts the network of a cloud into subnets for nodes. Each subnet is a pool of its own, which does not hand
// out the addresses that the cloud keeps.
package vpc

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// Cloud says what a cloud allows, and what it keeps. The zero Cloud is none. A Cloud is a value.
type Cloud struct {
	// Name is the name of the cloud, in lower case.
	Name string

	network, subnet4, subnet6 lengths
}

// lengths are the prefix lengths that a cloud allows.
type lengths struct{ from, to, step int }

func (l lengths) allow(bits int) bool {
	return bits >= l.from && bits <= l.to && (bits-l.from)%l.step == 0
}

func (l lengths) String() string {
	switch {
	case l.from == l.to:
		return fmt.Sprintf("/%d", l.from)
	case l.step > 1:
		return fmt.Sprintf("/%d to /%d in steps of %d", l.from, l.to, l.step)
	}
	return fmt.Sprintf("/%d to /%d", l.from, l.to)
}

// Clouds returns the clouds that are known.
func Clouds() []Cloud {
	return []Cloud{
		{Name: "aws", network: lengths{16, 28, 1}, subnet4: lengths{16, 28, 1}, subnet6: lengths{44, 64, 4}},
		{Name: "azure", network: lengths{2, 29, 1}, subnet4: lengths{2, 29, 1}, subnet6: lengths{64, 64, 1}},
	}
}

// CheckNetwork returns an error if the network cannot be one of the cloud.
func (c Cloud) CheckNetwork(p netip.Prefix) error {
	if p.Addr().Is4() && !c.network.allow(p.Bits()) {
		return fmt.Errorf("%v cannot be a network of %s, want a length of %v", p, c.Name, c.network)
	}
	return nil
}

// CheckSubnet returns an error if the cloud has no subnets of this length.
func (c Cloud) CheckSubnet(family pool.Family, bits int) error {
	of := c.subnet4
	if family == pool.IPv6 {
		of = c.subnet6
	}
	if !of.allow(bits) {
		return fmt.Errorf("%s has no %v subnets of length /%d, want %v", c.Name, family, bits, of)
	}
	return nil
}

// Reserved returns the addresses of a subnet that the cloud keeps: the first four and the last one.
func (c Cloud) Reserved(subnet netip.Prefix) []netipx.IPRange {
	all := cidr.SetOf(netipx.RangeOfPrefix(subnet))
	fourth, ok := cidr.Nth(all, cidr.CountOf(3))
	if !ok {
		return []netipx.IPRange{netipx.RangeOfPrefix(subnet)}
	}
	last := netipx.PrefixLastIP(subnet)
	return []netipx.IPRange{netipx.IPRangeFrom(subnet.Addr(), fourth), netipx.IPRangeFrom(last, last)}
}
