package clusterapi

import (
	"fmt"
	"math"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// entry is a part of a pool, and the value that says so.
type entry struct {
	tree.Value
	addresses netipx.IPRange
}

// readV1alpha2 reads the spec of a pool of addresses in v1alpha2.
func (p *Pool) readV1alpha2(spec tree.Object) tree.Value {
	spec.RefuseUnknown("addresses", "prefix", "gateway", "excludedAddresses", "allocateReservedIPAddresses",
		"addressReuseGracePeriodSeconds", "network", "externalAddresses", "drain", "dualStackPool")
	reserved := spec.Field("allocateReservedIPAddresses").Flag(false)
	p.Spec.IPv4.AllocateReserved, p.Spec.IPv6.AllocateReserved = reserved, reserved
	p.readGracePeriod(spec.Field("addressReuseGracePeriodSeconds"))
	list, errors := spec.Field("addresses"), spec.Errors()
	addresses := readEntries(list)
	if len(addresses) == 0 && spec.Errors() == errors {
		list.Refuse("there are no addresses", "at least one, such as 192.0.2.10-192.0.2.20")
	}
	p.Prefix = readLength(spec.Field("prefix"), 1, addresses)
	p.setAddresses(spec, addresses, readEntries(spec.Field("excludedAddresses")))
	if other := spec.Field("dualStackPool"); !other.Missing() {
		p.DualStackPool = readName(other)
	}
	if len(addresses) > 0 {
		p.readNetwork(spec, pool.FamilyOf(addresses[0].addresses.From()))
	}
	return list
}

// readV1alpha1 reads the spec of a pool in v1alpha1, which says the addresses in several forms.
func (p *Pool) readV1alpha1(spec tree.Object) tree.Value {
	spec.RefuseUnknown("addresses", "subnet", "start", "end", "prefix", "gateway")
	list, field, length, errors := spec.Field("addresses"), spec.Field("subnet"), spec.Field("prefix"), spec.Errors()
	addresses := readEntries(list)
	var subnet netip.Prefix
	if !field.Missing() {
		subnet, _ = field.MaskedPrefix()
	}
	if bounds := readBounds(spec, subnet); bounds.addresses.IsValid() {
		addresses = append(addresses, bounds)
	}
	if len(addresses) == 0 && spec.Errors() == errors {
		field.Refuse("there are no addresses", "addresses, a subnet such as 192.0.2.0/24, or start, end and prefix")
	}
	p.readV1alpha1Length(length, field, subnet, addresses)
	p.setAddresses(spec, addresses, nil)
	if field.Missing() {
		return list
	}
	return field
}

// readV1alpha1Length reads the length of the addresses' subnet. If it is missing or 0, it is that of the field subnet.
func (p *Pool) readV1alpha1Length(length, field tree.Value, subnet netip.Prefix, addresses []entry) {
	if field.Missing() {
		p.Prefix = readLength(length, 1, addresses)
		return
	}
	if !length.Missing() {
		p.Prefix = readLength(length, 0, addresses)
	}
	if p.Prefix != 0 || !subnet.IsValid() || len(addresses) == 0 {
		return
	}
	width := pool.FamilyOf(addresses[0].addresses.From()).Width()
	if p.Prefix = subnet.Bits(); p.Prefix < 1 || p.Prefix > width {
		field.Refuse("has a length that is out of range", fmt.Sprintf("1 to %d, as the addresses have", width))
	}
}

// readBounds reads the range from start to end; the zero entry if there is none, or one that is refused.
func readBounds(spec tree.Object, subnet netip.Prefix) entry {
	start, end := spec.Field("start"), spec.Field("end")
	if !subnet.IsValid() && (start.Missing() || end.Missing()) {
		return entry{} // means nothing, unless the subnet was refused
	}
	first, last := defaultBounds(subnet)
	bound, errors := spec.Field("subnet"), spec.Errors()
	if !end.Missing() {
		bound = end
		last, _ = end.Addr()
	}
	if !start.Missing() {
		bound = start
		first, _ = start.Addr()
	}
	if spec.Errors() != errors {
		return entry{}
	}
	switch {
	case first.BitLen() != last.BitLen():
		bound.Refuse(fmt.Sprintf("makes the range %v-%v, of two families", first, last), "both bounds of one family")
	case last.Less(first):
		bound.Refuse(fmt.Sprintf("makes the range %v-%v, which is empty", first, last), "a start that is not after the end")
	default:
		return entry{bound, netipx.IPRangeFrom(first, last)}
	}
	return entry{}
}

// defaultBounds are what a missing start and a missing end stand for; the zero Addr without a subnet.
func defaultBounds(subnet netip.Prefix) (first, last netip.Addr) {
	if !subnet.IsValid() {
		return netip.Addr{}, netip.Addr{}
	}
	all := netipx.RangeOfPrefix(subnet)
	if subnet.Addr().BitLen()-subnet.Bits() < 2 {
		return all.From(), all.To()
	}
	return all.From().Next(), all.To().Prev()
}

// readEntries reads a list of addresses, without those that are refused.
func readEntries(v tree.Value) []entry {
	var entries []entry
	for _, item := range v.Items() {
		if addresses, ok := item.Range(); ok {
			entries = append(entries, entry{item, addresses})
		}
	}
	return entries
}

// readLength reads the length of the subnet of the addresses, which may be refused already; 0 if it is refused.
func readLength(v tree.Value, low int, addresses []entry) int {
	width := pool.IPv6.Width()
	want := "1 to 128, the length of the addresses' subnet"
	if len(addresses) > 0 {
		family := pool.FamilyOf(addresses[0].addresses.From())
		width = family.Width()
		want = fmt.Sprintf("1 to %d, the length of the addresses' %v subnet", width, family)
	}
	length, _ := v.Number(low, width, want)
	return length
}

func (p *Pool) readGracePeriod(v tree.Value) {
	if v.Missing() {
		return
	}
	if seconds, ok := v.Number(0, math.MaxInt32, "0 to 2147483647 seconds"); ok {
		p.Spec.Cooldown = time.Duration(seconds) * time.Second
	}
}

// setAddresses sets what the pool hands out, in the subnet of length p.Prefix that holds the first address.
func (p *Pool) setAddresses(spec tree.Object, addresses, excluded []entry) {
	if len(addresses) == 0 {
		return // was refused
	}
	first := addresses[0].addresses.From()
	family := pool.FamilyOf(first)
	p.readGateway(spec.Field("gateway"), family)
	subnet := netip.PrefixFrom(first, p.Prefix).Masked()
	for _, e := range addresses {
		if e.CheckFamily(e.addresses.From(), family, "the pool") && p.Prefix > 0 {
			e.checkIn(subnet)
		}
	}
	for _, e := range excluded {
		e.CheckFamily(e.addresses.From(), family, "the pool")
	}
	p.Spec.Ranges, p.Spec.Exclude = merge(addresses), merge(excluded)
	p.Spec.Subnets = []pool.Subnet{{Prefix: subnet}}
	if subnet.Contains(p.Gateway) {
		p.Spec.Subnets[0].Gateway = p.Gateway
	}
}

func (e entry) checkIn(subnet netip.Prefix) {
	if !subnet.Contains(e.addresses.From()) || !subnet.Contains(e.addresses.To()) {
		e.Refuse(fmt.Sprintf("is not in the subnet of the first address, %v", subnet), "all addresses in one subnet")
	}
}

func (p *Pool) readGateway(v tree.Value, family pool.Family) {
	if v.Missing() {
		return
	}
	if gateway, ok := v.Addr(); ok && v.CheckFamily(gateway, family, "the pool") {
		p.Gateway = gateway
	}
}

// merge are the addresses of the entries in the fewest ranges, in order.
func merge(entries []entry) []netipx.IPRange {
	ranges := make([]netipx.IPRange, len(entries))
	for i, e := range entries {
		ranges[i] = e.addresses
	}
	return cidr.SetOf(ranges...).Ranges()
}
