package clusterapi

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// decodeV1alpha2 decodes the spec of a pool of v1alpha2.
func decodeV1alpha2(v value) (pool.Spec, error) {
	fields, err := v.object("addresses", "prefix", "gateway", "excludedAddresses", "allocateReservedIPAddresses",
		"addressReuseGracePeriodSeconds")
	if err != nil {
		return pool.Spec{}, err
	}
	entries, subnet, err := decodeAddresses(fields)
	if err != nil {
		return pool.Spec{}, err
	}
	excluded, err := fields.child("excludedAddresses").entries()
	if err == nil {
		err = checkFamily(excluded, pool.FamilyOf(subnet.Addr()))
	}
	if err != nil {
		return pool.Spec{}, err
	}
	spec := pool.Spec{Ranges: merge(entries), Exclude: merge(excluded), Subnets: []pool.Subnet{{Prefix: subnet}}}
	if spec.Subnets[0].Gateway, err = fields.child("gateway").gatewayIn(subnet); err != nil {
		return pool.Spec{}, err
	}
	reserved, err := fields.child("allocateReservedIPAddresses").flag()
	if err != nil {
		return pool.Spec{}, err
	}
	spec.IPv4.AllocateReserved, spec.IPv6.AllocateReserved = reserved, reserved
	if err := checkGracePeriod(fields.child("addressReuseGracePeriodSeconds")); err != nil {
		return pool.Spec{}, err
	}
	return spec, checkRoom(fields.child("addresses"), spec)
}

// decodeAddresses decodes the addresses, and the subnet in which they must all lie: that of the first one.
func decodeAddresses(spec object) ([]entry, netip.Prefix, error) {
	list := spec.child("addresses")
	entries, err := list.entries()
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	if len(entries) == 0 {
		return nil, netip.Prefix{}, list.refuse("there are no addresses", "at least one, such as 192.0.2.10-192.0.2.20")
	}
	first := entries[0].addresses.From()
	if err := checkFamily(entries, pool.FamilyOf(first)); err != nil {
		return nil, netip.Prefix{}, err
	}
	bits, err := spec.child("prefix").lengthFor(pool.FamilyOf(first))
	if err != nil {
		return nil, netip.Prefix{}, err
	}
	subnet := netip.PrefixFrom(first, bits).Masked()
	return entries, subnet, checkInSubnet(entries, subnet)
}

// lengthFor is the value of the length of a subnet of the family.
func (v value) lengthFor(family pool.Family) (int, error) {
	want := fmt.Sprintf("0 to %d, the length of the addresses' %v subnet", family.Width(), family)
	if v.missing() {
		return 0, v.refuse("is missing", want)
	}
	bits, err := v.number()
	if err != nil {
		return 0, err
	}
	if bits < 0 || bits > int64(family.Width()) {
		return 0, v.refuse("is out of range", want)
	}
	return int(bits), nil
}

// checkGracePeriod refuses a time between release and reuse, which pools do not have yet.
func checkGracePeriod(v value) error {
	seconds, err := v.number()
	switch {
	case err != nil:
		return err
	case seconds < 0:
		return v.refuse("is negative", "0 or more seconds")
	case seconds > 0:
		return v.refuse("is not supported yet", "0, which reuses addresses as soon as they are released")
	}
	return nil
}

// checkRoom refuses a pool that has nothing to hand out.
func checkRoom(v value, spec pool.Spec) error {
	if len(spec.Set(spec.AllFamilies()[0]).Ranges()) > 0 {
		return nil
	}
	return v.refuse("leaves nothing to hand out: each address is excluded, the gateway, or reserved for the subnet",
		"one more address at least")
}

// decodeV1alpha1 decodes the spec of a pool of v1alpha1, as the provider converts it to v1alpha2: to the one range from
// start to end. A bound that is missing is the first or last address of the subnet that hosts may have.
func decodeV1alpha1(v value) (pool.Spec, error) {
	fields, err := v.object("subnet", "start", "end", "prefix", "gateway")
	if err != nil {
		return pool.Spec{}, err
	}
	subnet, err := decodeSubnet(fields)
	if err != nil {
		return pool.Spec{}, err
	}
	addresses, err := decodeBounds(fields, subnet)
	if err != nil {
		return pool.Spec{}, err
	}
	gateway, err := fields.child("gateway").gatewayIn(subnet)
	if err != nil {
		return pool.Spec{}, err
	}
	spec := pool.Spec{Ranges: []netipx.IPRange{addresses}, Subnets: []pool.Subnet{{Prefix: subnet, Gateway: gateway}}}
	return spec, checkRoom(fields.child("subnet"), spec)
}

// decodeSubnet decodes the subnet of v1alpha1. It may be missing if there are start, end and prefix.
func decodeSubnet(spec object) (netip.Prefix, error) {
	subnet, err := spec.child("subnet").prefix()
	if err != nil {
		return netip.Prefix{}, err
	}
	length := spec.child("prefix")
	bits, err := length.number()
	if err != nil {
		return netip.Prefix{}, err
	}
	if subnet.IsValid() {
		if bits != 0 && bits != int64(subnet.Bits()) {
			return netip.Prefix{}, length.refuse("is not the length of spec.subnet",
				fmt.Sprintf("%d, or no prefix", subnet.Bits()))
		}
		return subnet, nil
	}
	start, err := spec.child("start").addr()
	if err != nil {
		return netip.Prefix{}, err
	}
	if !start.IsValid() || spec.child("end").missing() || bits == 0 {
		return netip.Prefix{}, spec.child("subnet").refuse("there are no addresses",
			"a subnet such as 192.0.2.0/24, or start, end and prefix")
	}
	if _, err := length.lengthFor(pool.FamilyOf(start)); err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(start, int(bits)).Masked(), nil
}

// decodeBounds decodes the range from start to end.
func decodeBounds(spec object, subnet netip.Prefix) (netipx.IPRange, error) {
	usable := cidr.Usable(subnet)
	start, err := spec.child("start").boundIn(subnet, usable.From())
	if err != nil {
		return netipx.IPRange{}, err
	}
	end, err := spec.child("end").boundIn(subnet, usable.To())
	if err != nil {
		return netipx.IPRange{}, err
	}
	if end.Less(start) {
		bound := spec.child("start")
		if bound.missing() {
			bound = spec.child("end")
		}
		return netipx.IPRange{}, bound.refuse(fmt.Sprintf("makes the range %v-%v, which is empty", start, end),
			"the start not after the end")
	}
	return netipx.IPRangeFrom(start, end), nil
}

// boundIn is the value of an address in the subnet, or missing if there is none.
func (v value) boundIn(subnet netip.Prefix, missing netip.Addr) (netip.Addr, error) {
	addr, err := v.addr()
	if err != nil {
		return netip.Addr{}, err
	}
	if !addr.IsValid() {
		return missing, nil
	}
	if err := v.checkFamily(addr, pool.FamilyOf(subnet.Addr())); err != nil {
		return netip.Addr{}, err
	}
	if !subnet.Contains(addr) {
		return netip.Addr{}, v.refuse("is outside of the subnet", fmt.Sprintf("an address in %v", subnet))
	}
	return addr, nil
}

// merge are the addresses of the entries in the fewest ranges, in order.
func merge(entries []entry) []netipx.IPRange {
	var ranges []netipx.IPRange
	for _, e := range entries {
		ranges = append(ranges, e.addresses)
	}
	return cidr.SetOf(ranges...).Ranges()
}
