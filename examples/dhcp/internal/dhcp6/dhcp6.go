// Package dhcp6 answers DHCPv6 messages: RFC 8415, section 18.3. It does not send or receive; see package server.
package dhcp6

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
)

// Why a message gets no answer. The errors wrap one of these, or the store's.
var (
	ErrMalformed = errors.New("malformed")
	// ErrNotOurs is returned for what is meant for another server, or comes from a link that is not configured.
	ErrNotOurs = errors.New("not ours")
)

const (
	// maxRelays is HOP_COUNT_LIMIT, and maxDUID the largest length of a DUID: RFC 8415, sections 7.6 and 11.1.
	maxRelays = 8
	maxDUID   = 130
	// maxIAs is how many identity associations a message may have here. Clients have one or two.
	maxIAs = 16
)

// Server answers. Any number of goroutines may use it at once.
type Server struct {
	Leases        *leases.Leases
	DUID          dhcpv6.DUID
	Offer         time.Duration
	Authoritative bool
	RapidCommit   bool
}

// Receipt is where a message came in.
type Receipt struct {
	Interface string
	From      netip.Addr
}

// request is a message that is being answered.
type request struct {
	*Server
	in      *dhcpv6.Message
	network *leases.Network
	client  leases.Client
	duid    string
	near    netip.Addr
}

// Reply returns the answer to a message, for the one who sent it: a client or a relay. The answer may be sent at once:
// what it promises is in the store.
func (s *Server) Reply(ctx context.Context, packet dhcpv6.DHCPv6, receipt Receipt) (dhcpv6.DHCPv6, error) {
	r, outer, err := s.read(packet, receipt)
	if err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	out, err := r.reply(ctx)
	switch {
	case err != nil:
		return nil, err
	case outer == nil:
		return out, nil
	}
	return dhcpv6.NewRelayReplFromRelayForw(outer, out)
}

// read takes a message out of those of the relays, and finds out whose it is and which link it is from.
func (s *Server) read(packet dhcpv6.DHCPv6, receipt Receipt) (*request, *dhcpv6.RelayMessage, error) {
	r := &request{Server: s}
	outer, _ := packet.(*dhcpv6.RelayMessage)
	peer := receipt.From
	for depth := 0; packet.IsRelay(); depth++ {
		relay, ok := packet.(*dhcpv6.RelayMessage)
		if !ok || relay.MessageType != dhcpv6.MessageTypeRelayForward || depth == maxRelays {
			return nil, nil, fmt.Errorf("%w: not a relayed message, or of more than %d relays", ErrMalformed, maxRelays)
		}
		peer = r.relayed(relay)
		var err error
		if packet, err = dhcpv6.DecapsulateRelay(relay); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
		}
	}
	in, ok := packet.(*dhcpv6.Message)
	if !ok {
		return nil, nil, fmt.Errorf("%w: no message in it", ErrMalformed)
	}
	r.in = in
	if peer.IsValid() {
		r.client.Hardware = "peer:" + peer.WithZone("").String()
	}
	if err := r.identify(); err != nil {
		return nil, nil, err
	}
	if r.network = s.link(r.near, outer != nil, receipt); r.network == nil {
		return nil, nil, fmt.Errorf("%w: no network has its link", ErrNotOurs)
	}
	return r, outer, nil
}

// relayed learns what a relay says, and returns the peer. The relay next to the client is the last one, and the link
// address of the last one that names one counts: RFC 8415, section 13.1.
func (r *request) relayed(relay *dhcpv6.RelayMessage) netip.Addr {
	if link := addrOf(relay.LinkAddr); link.IsValid() && !link.IsLinkLocalUnicast() {
		r.near = link
	}
	r.client.Circuit = ""
	if id := relay.Options.InterfaceID(); len(id) > 0 {
		r.client.Circuit = hex.EncodeToString(id)
	}
	r.client.Names = nil
	if kind, hw := relay.Options.ClientLinkLayerAddress(); kind == iana.HWTypeEthernet && len(hw) > 0 { // RFC 6939
		r.client.Names = []string{"hw:" + hw.String()}
	}
	return addrOf(relay.PeerAddr)
}

func (s *Server) link(near netip.Addr, relayed bool, receipt Receipt) *leases.Network {
	if !relayed {
		return s.Leases.On(receipt.Interface)
	}
	if n := s.Leases.At(near); n != nil && n.Relayed {
		return n
	}
	return nil
}

// identify finds out who asks: its DUID, and its hardware address if a relay or the DUID has it.
func (r *request) identify() error {
	id := r.in.Options.ClientID()
	if id == nil {
		if r.in.MessageType == dhcpv6.MessageTypeInformationRequest {
			return nil
		}
		return fmt.Errorf("%w: no client identifier", ErrMalformed)
	}
	duid := id.ToBytes()
	if len(duid) > maxDUID {
		return fmt.Errorf("%w: a DUID of %d bytes", ErrMalformed, len(duid))
	}
	r.duid = "duid:" + hex.EncodeToString(duid)
	if len(r.client.Names) == 0 {
		var hw net.HardwareAddr
		switch d := id.(type) {
		case *dhcpv6.DUIDLLT:
			hw = d.LinkLayerAddr
		case *dhcpv6.DUIDLL:
			hw = d.LinkLayerAddr
		}
		if len(hw) > 0 {
			r.client.Names = append(r.client.Names, "hw:"+hw.String())
		}
	}
	r.client.Names = append(r.client.Names, r.duid)
	return nil
}

// check checks the identifiers of a message: RFC 8415, section 16.
func (r *request) check() error {
	server := r.in.Options.ServerID()
	ours := server != nil && bytes.Equal(server.ToBytes(), r.DUID.ToBytes())
	switch r.in.MessageType {
	case dhcpv6.MessageTypeSolicit, dhcpv6.MessageTypeConfirm, dhcpv6.MessageTypeRebind:
		if server != nil {
			return fmt.Errorf("%w: %v names a server", ErrMalformed, r.in.MessageType)
		}
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		if !ours {
			return fmt.Errorf("%w: it is for another server", ErrNotOurs)
		}
	case dhcpv6.MessageTypeInformationRequest:
		if server != nil && !ours {
			return fmt.Errorf("%w: it is for another server", ErrNotOurs)
		}
	default:
		return fmt.Errorf("%w: message of type %v", ErrMalformed, r.in.MessageType)
	}
	return nil
}

func (r *request) reply(ctx context.Context) (*dhcpv6.Message, error) {
	switch r.in.MessageType {
	case dhcpv6.MessageTypeConfirm:
		return r.confirm()
	case dhcpv6.MessageTypeInformationRequest:
		out := r.answer()
		r.options(out)
		return out, nil
	}
	ias, err := r.associations()
	if err != nil {
		return nil, err
	}
	switch r.in.MessageType {
	case dhcpv6.MessageTypeRelease:
		return r.end(ctx, ias, r.Leases.Release)
	case dhcpv6.MessageTypeDecline:
		return r.end(ctx, ias, r.Leases.Decline)
	}
	return r.assign(ctx, ias)
}

// answer returns a Reply with what all answers have.
func (r *request) answer() *dhcpv6.Message {
	out := &dhcpv6.Message{MessageType: dhcpv6.MessageTypeReply, TransactionID: r.in.TransactionID}
	if id := r.in.GetOneOption(dhcpv6.OptionClientID); id != nil {
		out.AddOption(id)
	}
	out.AddOption(dhcpv6.OptServerID(r.DUID))
	return out
}

// confirm answers a client that may have moved: RFC 8415, section 18.3.3. It changes nothing.
func (r *request) confirm() (*dhcpv6.Message, error) {
	ias, err := r.associations()
	if err != nil {
		return nil, err
	}
	status, some := statusOf(iana.StatusSuccess, "all addresses are on the link"), false
	for _, ia := range ias {
		if ia.kind == leases.PD {
			continue // a prefix is not on the link
		}
		for _, has := range ia.has {
			some = true
			if !r.network.Contains(has.Addr()) {
				status = statusOf(iana.StatusNotOnLink, "an address is not on the link")
			}
		}
	}
	if !some {
		return nil, fmt.Errorf("%w: a Confirm without an address", ErrMalformed)
	}
	out := r.answer()
	out.AddOption(status)
	return out, nil
}

func addrOf(ip net.IP) netip.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || !addr.Is6() || addr.Is4In6() || addr.IsUnspecified() {
		return netip.Addr{}
	}
	return addr
}

func statusOf(code iana.StatusCode, message string) *dhcpv6.OptStatusCode {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: message}
}
