package clusterapi

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// parser takes a CIDR with host bits for the prefix that holds it, as the provider does.
var parser = cidr.Parser{MaskHostBits: true}

// entry is an item of a list of addresses.
type entry struct {
	value
	addresses netipx.IPRange
}

// entries are the items of a list of addresses; none if it is missing.
func (v value) entries() ([]entry, error) {
	items, err := v.items()
	if err != nil {
		return nil, err
	}
	var entries []entry
	for _, item := range items {
		addresses, err := item.addresses()
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry{item, addresses})
	}
	return entries, nil
}

// addresses is the value of an address, a CIDR or a range.
func (v value) addresses() (netipx.IPRange, error) {
	text, err := v.text()
	if err != nil {
		return netipx.IPRange{}, err
	}
	addresses, subnet, err := parser.SubnetRange(text)
	if err != nil {
		return netipx.IPRange{}, v.unparsable(err)
	}
	if subnet.IsValid() && strings.Contains(text, "-") {
		return netipx.IPRange{}, v.refuse("is a range with a length", "the range alone, since spec.prefix has the length")
	}
	return addresses, nil
}

// addr is the value of a single address; the zero Addr if it is missing.
func (v value) addr() (netip.Addr, error) {
	text, err := v.text()
	if err != nil || text == "" {
		return netip.Addr{}, err
	}
	addr, err := cidr.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, v.unparsable(err)
	}
	return addr, nil
}

// prefix is the value of a CIDR; the zero Prefix if it is missing.
func (v value) prefix() (netip.Prefix, error) {
	text, err := v.text()
	if err != nil || text == "" {
		return netip.Prefix{}, err
	}
	prefix, err := parser.Prefix(text)
	if err != nil {
		return netip.Prefix{}, v.unparsable(err)
	}
	return prefix, nil
}

// unparsable says where in the file the text is that cannot be parsed.
func (v value) unparsable(err error) error {
	var parse *cidr.ParseError
	if !errors.As(err, &parse) {
		return v.refuse("cannot be parsed: "+err.Error(), "")
	}
	return v.refuse("cannot be parsed: "+parse.Rule, parse.Want)
}

// checkFamily refuses the first entry that is not of the family.
func checkFamily(entries []entry, family pool.Family) error {
	for _, e := range entries {
		if err := e.checkFamily(e.addresses.From(), family); err != nil {
			return err
		}
	}
	return nil
}

func (v value) checkFamily(addr netip.Addr, family pool.Family) error {
	if got := pool.FamilyOf(addr); got != family {
		return v.refuse(fmt.Sprintf("is %v, but the pool is %v", got, family), fmt.Sprintf("%v only", family))
	}
	return nil
}

// checkInSubnet refuses the first entry that does not lie in the subnet.
func checkInSubnet(entries []entry, subnet netip.Prefix) error {
	for _, e := range entries {
		if !subnet.Contains(e.addresses.From()) || !subnet.Contains(e.addresses.To()) {
			return e.refuse(fmt.Sprintf("is not in the subnet of the first address, %v", subnet), "all addresses in one subnet")
		}
	}
	return nil
}

// gatewayIn is the value of a gateway in the subnet; the zero Addr if it is missing.
func (v value) gatewayIn(subnet netip.Prefix) (netip.Addr, error) {
	gateway, err := v.addr()
	if err != nil || !gateway.IsValid() {
		return netip.Addr{}, err
	}
	if err := v.checkFamily(gateway, pool.FamilyOf(subnet.Addr())); err != nil {
		return netip.Addr{}, err
	}
	if !subnet.Contains(gateway) {
		return netip.Addr{}, v.refuse("is outside of the subnet", fmt.Sprintf("an address in %v", subnet))
	}
	return gateway, nil
}
