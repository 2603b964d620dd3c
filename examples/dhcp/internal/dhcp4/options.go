package dhcp4

import (
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
)

// answer returns a message with what all answers have: RFC 2131, table 3. What the relay said comes back as it is (RFC
// 3046, section 2.2), and so does the client's identifier (RFC 6842).
func (r *request) answer(of dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	out := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootReply, HWType: r.in.HWType, TransactionID: r.in.TransactionID, Flags: r.in.Flags,
		ClientHWAddr: r.in.ClientHWAddr, GatewayIPAddr: r.in.GatewayIPAddr, Options: dhcpv4.Options{},
	}
	out.UpdateOption(dhcpv4.OptMessageType(of))
	out.UpdateOption(dhcpv4.OptServerIdentifier(r.id.AsSlice()))
	for _, code := range []dhcpv4.OptionCode{
		dhcpv4.OptionRelayAgentInformation, dhcpv4.OptionClientIdentifier, dhcpv4.OptionSubnetSelection,
	} {
		if value := r.in.GetOneOption(code); value != nil {
			out.UpdateOption(dhcpv4.OptGeneric(code, value))
		}
	}
	return out
}

// nak tells the client to begin again. A relay broadcasts it, because the client may have no address there.
func (r *request) nak(why string) *dhcpv4.DHCPv4 {
	out := r.answer(dhcpv4.MessageTypeNak)
	out.UpdateOption(dhcpv4.OptMessage(why))
	out.DeleteOption(dhcpv4.OptionSubnetSelection)
	if addrOf(out.GatewayIPAddr).IsValid() {
		out.SetBroadcast()
	}
	return out
}

// lease is an offer or an acknowledgement of a lease.
func (r *request) lease(of dhcpv4.MessageType, grant leases.Grant, lease time.Duration) *dhcpv4.DHCPv4 {
	out := r.answer(of)
	out.YourIPAddr = grant.Addr().AsSlice()
	if of == dhcpv4.MessageTypeAck {
		out.ClientIPAddr = r.in.ClientIPAddr
	}
	out.UpdateOption(dhcpv4.OptIPAddressLeaseTime(lease))
	// The times of RFC 2131, section 4.4.5.
	r.ifAsked(out, dhcpv4.OptRenewTimeValue(lease/2))
	r.ifAsked(out, dhcpv4.OptRebindingTimeValue(lease*7/8))
	r.options(out, grant.Source.Subnet)
	if grant.Hostname != "" {
		r.ifAsked(out, dhcpv4.OptHostName(grant.Hostname))
	}
	return out
}

// inform answers DHCPINFORM of a client that has an address from elsewhere: RFC 2131, section 4.3.5.
func (r *request) inform() (*dhcpv4.DHCPv4, error) {
	out := r.answer(dhcpv4.MessageTypeAck)
	out.ClientIPAddr = r.in.ClientIPAddr
	has := addrOf(r.in.ClientIPAddr)
	for _, s := range r.network.SubnetsOf(true) {
		if !has.IsValid() || s.Subnet.Contains(has) {
			r.options(out, s)
			return out, nil
		}
	}
	return nil, ErrNotOurs
}

// options adds what the subnet says: the mask always, and the rest if the client asks for it or asks for nothing.
func (r *request) options(out *dhcpv4.DHCPv4, s *config.Subnet) {
	out.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(s.Subnet.Bits(), 32)))
	if s.Gateway.IsValid() {
		r.ifAsked(out, dhcpv4.OptRouter(s.Gateway.AsSlice()))
	}
	if len(s.Routes) > 0 {
		r.ifAsked(out, dhcpv4.OptClasslessStaticRoute(routes(s)...))
	}
	if len(s.DNS) > 0 {
		r.ifAsked(out, dhcpv4.OptDNS(IPs(s.DNS)...))
	}
	if len(s.NTP) > 0 {
		r.ifAsked(out, dhcpv4.OptNTPServers(IPs(s.NTP)...))
	}
	if s.Domain != "" {
		r.ifAsked(out, dhcpv4.OptDomainName(s.Domain))
	}
	if len(s.Search) > 0 {
		r.ifAsked(out, dhcpv4.OptDomainSearch(&rfc1035label.Labels{Labels: s.Search}))
	}
	if s.MTU != 0 {
		r.ifAsked(out, dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, []byte{byte(s.MTU >> 8), byte(s.MTU)}))
	}
}

func (r *request) ifAsked(out *dhcpv4.DHCPv4, option dhcpv4.Option) {
	asked := r.in.GetOneOption(dhcpv4.OptionParameterRequestList)
	if len(asked) == 0 || slices.Contains(asked, option.Code.Code()) {
		out.UpdateOption(option)
	}
}

// routes are those of the subnet, and the default route: a client that gets this option ignores the gateway's (RFC
// 3442).
func routes(s *config.Subnet) []*dhcpv4.Route {
	var found []*dhcpv4.Route
	add := func(to netip.Prefix, via netip.Addr) {
		dest := &net.IPNet{IP: to.Addr().AsSlice(), Mask: net.CIDRMask(to.Bits(), 32)}
		found = append(found, &dhcpv4.Route{Dest: dest, Router: via.AsSlice()})
	}
	for _, route := range s.Routes {
		add(route.To, route.Via)
	}
	if s.Gateway.IsValid() {
		add(netip.PrefixFrom(netip.IPv4Unspecified(), 0), s.Gateway)
	}
	return found
}

// IPs returns addresses in the form of package net.
func IPs(addrs []netip.Addr) []net.IP {
	ips := make([]net.IP, len(addrs))
	for i, a := range addrs {
		ips[i] = a.AsSlice()
	}
	return ips
}
