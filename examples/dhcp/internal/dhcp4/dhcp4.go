// Package dhcp4 answers DHCPv4 messages: RFC 2131, section 4.3. It does not send or receive; see package server.
package dhcp4

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
)

// Why a message gets no answer. The errors wrap one of these, or the store's.
var (
	ErrMalformed = errors.New("malformed")
	// ErrNotOurs is returned for what is meant for another server, or comes from a link that is not configured.
	ErrNotOurs = errors.New("not ours")
	// ErrNone is returned if there is nothing to give.
	ErrNone = errors.New("nothing to give")
	// ErrDone is returned for messages that have no answer.
	ErrDone = errors.New("done")
)

// Server answers. Any number of goroutines may use it at once.
type Server struct {
	Leases        *leases.Leases
	Offer         time.Duration
	Authoritative bool
	RapidCommit   bool
}

// Receipt is where a message came in.
type Receipt struct {
	Interface string
	// Local are the IPv4 addresses of the interface.
	Local []netip.Addr
	// From is who sent it; the zero Addr if it has no address yet.
	From netip.Addr
}

// request is a message that is being answered.
type request struct {
	*Server
	in      *dhcpv4.DHCPv4
	receipt Receipt
	network *leases.Network
	client  leases.Client
	owner   string
	near    netip.Addr // in the subnet that comes first
	id      netip.Addr // the server's identifier, for this client
}

// Reply returns the answer to a message. The answer may be sent at once: what it promises is in the store.
func (s *Server) Reply(ctx context.Context, in *dhcpv4.DHCPv4, receipt Receipt) (*dhcpv4.DHCPv4, error) {
	r, err := s.read(in, receipt)
	if err != nil {
		return nil, err
	}
	switch in.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return r.discover(ctx)
	case dhcpv4.MessageTypeRequest:
		return r.request(ctx)
	case dhcpv4.MessageTypeRelease:
		return nil, r.end(ctx, addrOf(in.ClientIPAddr), s.Leases.Release)
	case dhcpv4.MessageTypeDecline:
		return nil, r.end(ctx, addrOf(in.RequestedIPAddress()), s.Leases.Decline)
	case dhcpv4.MessageTypeInform:
		return r.inform()
	}
	return nil, fmt.Errorf("%w: message of type %v", ErrMalformed, in.MessageType())
}

func (s *Server) read(in *dhcpv4.DHCPv4, receipt Receipt) (*request, error) {
	if in.OpCode != dhcpv4.OpcodeBootRequest || len(in.ClientHWAddr) > dhcpv4.MaxHWAddrLen {
		return nil, fmt.Errorf("%w: not a request", ErrMalformed)
	}
	r := &request{Server: s, in: in, receipt: receipt}
	if err := r.identify(); err != nil {
		return nil, err
	}
	if r.network = r.link(); r.network == nil {
		return nil, fmt.Errorf("%w: no network has its link", ErrNotOurs)
	}
	if !r.identifyServer() {
		return nil, fmt.Errorf("%w: it is for server %v", ErrNotOurs, in.ServerIdentifier())
	}
	return r, nil
}

// identify finds out who asks: the client identifier if there is one, else the hardware address (RFC 2131, section
// 4.2).
func (r *request) identify() error {
	if hw := r.in.ClientHWAddr; len(hw) > 0 {
		r.owner = "hw:" + hw.String()
		if r.in.HWType != iana.HWTypeEthernet {
			r.owner = fmt.Sprintf("hw:%d/%v", r.in.HWType, hw)
		}
		r.client.Names = append(r.client.Names, r.owner)
		r.client.Hardware = r.owner
	}
	if id := r.in.GetOneOption(dhcpv4.OptionClientIdentifier); len(id) > 0 {
		r.owner = "id:" + hex.EncodeToString(id)
		r.client.Names = append(r.client.Names, r.owner)
	}
	if r.owner == "" {
		return fmt.Errorf("%w: it has neither a client identifier nor a hardware address", ErrMalformed)
	}
	if info := r.in.RelayAgentInfo(); info != nil {
		circuit, remote := info.Get(dhcpv4.AgentCircuitIDSubOption), info.Get(dhcpv4.AgentRemoteIDSubOption)
		if len(circuit)+len(remote) > 0 {
			r.client.Circuit = hex.EncodeToString(circuit) + "/" + hex.EncodeToString(remote)
		}
	}
	r.client.Hostname = Printable(r.in.HostName())
	return nil
}

// Printable returns the text without what is not printable ASCII: clients send anything.
func Printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c > '~' {
			return -1
		}
		return c
	}, text)
}

// link finds the network of the client: as the relay says, by link selection (RFC 3527) or by its own address; as the
// client says (RFC 3011); by the address that the client has, if its message was routed; or by the interface.
func (r *request) link() *leases.Network {
	near := addrOf(r.in.GatewayIPAddr)
	relayed := near.IsValid()
	if info := r.in.RelayAgentInfo(); info != nil {
		if selected := addrOf(info.Get(dhcpv4.LinkSelectionSubOption)); selected.IsValid() {
			near = selected
		}
	} else if selected := addrOf(r.in.GetOneOption(dhcpv4.OptionSubnetSelection)); selected.IsValid() {
		near = selected
	}
	r.near = near
	if near.IsValid() {
		if n := r.Leases.At(near); n != nil && (n.Relayed || !relayed) {
			return n
		}
		return nil
	}
	direct := r.Leases.On(r.receipt.Interface)
	has := addrOf(r.in.ClientIPAddr)
	if has.IsValid() && r.receipt.From == has && (direct == nil || !direct.Contains(has)) {
		return r.Leases.At(has)
	}
	return direct
}

// identifyServer chooses the server's identifier, and reports whether the message is for this server. A relay may put
// its own address in place of the server's (RFC 5107).
func (r *request) identifyServer() bool {
	var named netip.Addr
	for _, local := range r.receipt.Local {
		if !r.id.IsValid() || r.network.Contains(local) && !r.network.Contains(r.id) {
			r.id = local
		}
	}
	if info := r.in.RelayAgentInfo(); info != nil {
		if override := addrOf(info.Get(dhcpv4.ServerIdentifierOverrideSubOption)); override.IsValid() {
			r.id = override
		}
	}
	if named = addrOf(r.in.ServerIdentifier()); !named.IsValid() || named == r.id {
		return r.id.IsValid()
	}
	for _, local := range r.receipt.Local {
		if named == local {
			r.id = local
			return true
		}
	}
	return false
}

func (r *request) want() leases.Want {
	return leases.Want{Kind: leases.V4, Owner: r.owner, First: true, Near: r.near}
}

// discover answers DHCPDISCOVER: RFC 2131, section 4.3.1. The offered address is kept for the client for a short time.
func (r *request) discover(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	want := r.want()
	want.Prefer = addrOf(r.in.RequestedIPAddress())
	lease := r.network.TTL(r.in.IPAddressLeaseTime(0))
	kept, answer := r.Offer, dhcpv4.MessageTypeOffer
	rapid := r.RapidCommit && r.in.Options.Has(dhcpv4.OptionRapidCommit)
	if rapid {
		kept, answer = lease, dhcpv4.MessageTypeAck
	}
	grant, err := r.grant(ctx, want, kept)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNone, err)
	}
	out := r.lease(answer, grant, lease)
	if rapid {
		out.UpdateOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil)) // RFC 4039
	}
	return out, nil
}

func (r *request) grant(ctx context.Context, want leases.Want, ttl time.Duration) (leases.Grant, error) {
	grants, err := r.Leases.Grant(ctx, r.network, r.client, ttl, want)
	if err == nil {
		err = grants[0].Err
	}
	return grants[0], err
}

// request answers DHCPREQUEST: RFC 2131, section 4.3.2. The client selects an offer (it names the server), knows its
// address from earlier (it names only the address), or has it (ciaddr) and renews or rebinds.
func (r *request) request(ctx context.Context) (*dhcpv4.DHCPv4, error) {
	want := r.want()
	want.Exact = true
	want.Prefer = addrOf(r.in.RequestedIPAddress())
	selecting := addrOf(r.in.ServerIdentifier()).IsValid()
	if !want.Prefer.IsValid() {
		want.Prefer, selecting = addrOf(r.in.ClientIPAddr), false
	}
	if !want.Prefer.IsValid() {
		return nil, fmt.Errorf("%w: a request for no address", ErrMalformed)
	}
	if !r.network.Contains(want.Prefer) {
		return r.nak("the address is not of this network"), nil
	}
	if !selecting && !r.Authoritative {
		// The client MUST get no answer if the server has no record of it: another server may have.
		if held, err := r.Leases.Holds(ctx, r.network, r.client, want); err != nil || !held {
			return nil, errors.Join(err, fmt.Errorf("%w: no record of it", ErrNotOurs))
		}
	}
	lease := r.network.TTL(r.in.IPAddressLeaseTime(0))
	grant, err := r.grant(ctx, want, lease)
	switch {
	case err == nil:
		return r.lease(dhcpv4.MessageTypeAck, grant, lease), nil
	case leases.Refused(err):
		return r.nak("the address is not available"), nil
	}
	return nil, err
}

// end does what DHCPRELEASE and DHCPDECLINE ask for, which have no answer: RFC 2131, sections 4.3.3 and 4.3.4.
func (r *request) end(
	ctx context.Context, addr netip.Addr,
	end func(context.Context, *leases.Network, leases.Client, ...leases.Want) ([]bool, error),
) error {
	if !addr.IsValid() {
		return fmt.Errorf("%w: no address", ErrMalformed)
	}
	want := r.want()
	want.Prefer = addr
	held, err := end(ctx, r.network, r.client, want)
	if err == nil && !held[0] {
		return fmt.Errorf("%w: the client does not hold %v", ErrNotOurs, addr)
	}
	return errors.Join(err, ErrDone)
}

func addrOf(ip net.IP) netip.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	if addr = addr.Unmap(); !ok || !addr.Is4() || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}
