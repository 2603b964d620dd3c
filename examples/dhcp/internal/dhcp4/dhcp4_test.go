package dhcp4_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/dhcp4"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// clock is a time that tests set.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// server is a server without sockets, whose leases are in memory.
type server struct {
	testing.TB
	*dhcp4.Server
	*clock
	db store.Store
}

var local = netip.MustParseAddr("10.7.0.5")

const office = `
%s
networks:
- name: office
  interface: eth0
  relayed: true
  lease: 1h
  minLease: 10m
  maxLease: 2h
  subnets:
  - subnet: 10.7.0.0/24
    pools: [10.7.0.10-10.7.0.13]
    gateway: 10.7.0.1
    routes: [{to: 10.9.0.0/16, via: 10.7.0.4}]
%s
- name: far
  relayed: true
  subnets:
  - {subnet: 10.8.0.0/24, pools: [10.8.0.10-10.8.0.11]}
  - {subnet: 10.8.1.0/24, pools: [10.8.1.10-10.8.1.11]}
`

func newServer(t testing.TB, top, subnet string) *server {
	t.Helper()
	s := &server{TB: t, clock: &clock{now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)}, db: store.NewMemory()}
	s.open(top, subnet)
	return s
}

// open begins anew with what the store has, as after a restart.
func (s *server) open(top, subnet string) {
	s.Helper()
	c, err := config.Read(fmt.Appendf(nil, office, top, subnet))
	require.NoError(s, err)
	l, err := leases.Open(s.Context(), s.db, c, &pool.Options{Clock: s.Now})
	require.NoError(s, err)
	s.Server = &dhcp4.Server{Leases: l, Offer: c.Offer, Authoritative: c.Authoritative, RapidCommit: c.RapidCommit}
}

func (s *server) reply(in *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	receipt := dhcp4.Receipt{Interface: "eth0", Local: []netip.Addr{local}}
	if from, ok := netip.AddrFromSlice(in.ClientIPAddr.To4()); ok && !from.IsUnspecified() {
		receipt.From = from
	}
	return s.Reply(context.Background(), in, receipt)
}

func (s *server) must(in *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	s.Helper()
	out, err := s.reply(in)
	require.NoError(s, err)
	return out
}

func mac(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, byte(n >> 8), byte(n)} }

func discover(t testing.TB, n int, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewDiscovery(mac(n), more...)
	require.NoError(t, err)
	return m
}

// selecting is the request for an offer, and renewing that for a lease.
func selecting(t testing.TB, offer *dhcpv4.DHCPv4, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewRequestFromOffer(offer, more...)
	require.NoError(t, err)
	return m
}

func renewing(t testing.TB, ack *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.NewRenewFromAck(ack)
	require.NoError(t, err)
	return m
}

func rebooting(t testing.TB, n int, addr string) *dhcpv4.DHCPv4 {
	t.Helper()
	return discover(t, n, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(addr))))
}

// lease takes the client through discover, offer, request and acknowledgement.
func (s *server) lease(n int, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	s.Helper()
	ack := s.must(selecting(s, s.must(discover(s, n, more...)), more...))
	require.Equal(s, dhcpv4.MessageTypeAck, ack.MessageType())
	return ack
}

func (s *server) requireIP(want string, in *dhcpv4.DHCPv4) {
	s.Helper()
	require.NotEqual(s, dhcpv4.MessageTypeNak, in.MessageType(), in.Message())
	require.Equal(s, want, in.YourIPAddr.String())
}

func TestOfferThatIsNotTakenIsFreeSoon(t *testing.T) {
	s := newServer(t, "offer: 30s", "")
	for n := range 4 {
		s.must(discover(t, n))
	}
	_, err := s.reply(discover(t, 4))
	require.ErrorIs(t, err, dhcp4.ErrNone)
	require.ErrorIs(t, err, pool.ErrExhausted)
	s.advance(29 * time.Second)
	_, err = s.reply(discover(t, 4))
	require.ErrorIs(t, err, dhcp4.ErrNone)
	s.advance(2 * time.Second)
	s.requireIP("10.7.0.10", s.must(discover(t, 4)))
}

func TestLeaseLastsForItsTimeAndIsRenewed(t *testing.T) {
	s := newServer(t, "authoritative: true", "")
	acks := make([]*dhcpv4.DHCPv4, 4)
	for n := range acks {
		acks[n] = s.lease(n)
		require.Equal(t, time.Hour, acks[n].IPAddressLeaseTime(0))
	}
	s.advance(59 * time.Minute)
	for n := range 3 {
		require.Equal(t, dhcpv4.MessageTypeAck, s.must(renewing(t, acks[n])).MessageType())
	}
	_, err := s.reply(discover(t, 9))
	require.ErrorIs(t, err, pool.ErrExhausted)
	s.advance(2 * time.Minute)
	s.requireIP("10.7.0.13", s.lease(9))
	nak := s.must(rebooting(t, 3, "10.7.0.13"))
	require.Equal(t, dhcpv4.MessageTypeNak, nak.MessageType())
}

func TestLeaseTimeThatTheClientAsksForIsBounded(t *testing.T) {
	s := newServer(t, "", "")
	for asked, want := range map[time.Duration]time.Duration{
		time.Second: 10 * time.Minute, 90 * time.Minute: 90 * time.Minute, 24 * time.Hour: 2 * time.Hour,
	} {
		offer := s.must(discover(t, 1, dhcpv4.WithLeaseTime(uint32(asked/time.Second))))
		require.Equal(t, want, offer.IPAddressLeaseTime(0))
	}
}

func TestClientIdentifierIsTheClient(t *testing.T) {
	s := newServer(t, "", "")
	id := dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{0xff, 1, 2}))
	first := s.lease(1, id)
	// The same client with another network card.
	s.requireIP(first.YourIPAddr.String(), s.lease(2, id))
	require.Equal(t, []byte{0xff, 1, 2}, first.GetOneOption(dhcpv4.OptionClientIdentifier), "RFC 6842")
	require.NotEqual(t, first.YourIPAddr, s.lease(1).YourIPAddr)
}

func TestRequestThatCannotBeMetIsRefused(t *testing.T) {
	s := newServer(t, "authoritative: true", "")
	s.lease(1)
	for text, in := range map[string]*dhcpv4.DHCPv4{
		"of another client": rebooting(t, 2, "10.7.0.10"),
		"of another link":   rebooting(t, 2, "192.0.2.9"),
		"the gateway":       rebooting(t, 2, "10.7.0.1"),
		"outside the pool":  rebooting(t, 2, "10.7.0.200"),
		"not what it holds": rebooting(t, 1, "10.7.0.11"),
	} {
		require.Equal(t, dhcpv4.MessageTypeNak, s.must(in).MessageType(), text)
	}
	ack := s.must(rebooting(t, 3, "10.7.0.12"))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType(), "it is free, and there is no other server")
}

func TestServerThatIsNotAuthoritativeIsSilentOnUnknownClients(t *testing.T) {
	s := newServer(t, "", "")
	_, err := s.reply(rebooting(t, 3, "10.7.0.12"))
	require.ErrorIs(t, err, dhcp4.ErrNotOurs)
	ack := s.lease(1)
	require.Equal(t, dhcpv4.MessageTypeAck, s.must(rebooting(t, 1, ack.YourIPAddr.String())).MessageType())
	require.Equal(t, dhcpv4.MessageTypeNak, s.must(rebooting(t, 3, "192.0.2.9")).MessageType())
}

func TestRequestForAnotherServerIsLeftAlone(t *testing.T) {
	s := newServer(t, "", "")
	offer := s.must(discover(t, 1))
	offer.UpdateOption(dhcpv4.OptServerIdentifier(net.IPv4(10, 7, 0, 6)))
	_, err := s.reply(selecting(t, offer))
	require.ErrorIs(t, err, dhcp4.ErrNotOurs)
}

func TestInformGetsOptionsAndNoLease(t *testing.T) {
	s := newServer(t, "", "    domain: office.example\n")
	in, err := dhcpv4.NewInform(mac(1), net.IPv4(10, 7, 0, 200).To4())
	require.NoError(t, err)
	out := s.must(in)
	require.Equal(t, dhcpv4.MessageTypeAck, out.MessageType())
	require.Equal(t, "office.example", out.DomainName())
	require.Zero(t, out.IPAddressLeaseTime(0))
	require.True(t, out.YourIPAddr == nil || out.YourIPAddr.IsUnspecified())
	for _, s := range s.Leases.Networks[0].Sources() {
		info, err := s.Pool.Info(t.Context())
		require.NoError(t, err)
		require.Zero(t, info.Holders)
	}
}

func TestRoutesIncludeTheGateway(t *testing.T) {
	s := newServer(t, "", "")
	in := discover(t, 1, dhcpv4.WithRequestedOptions(dhcpv4.OptionClasslessStaticRoute))
	var got []string
	for _, route := range s.must(in).ClasslessStaticRoute() {
		got = append(got, route.String())
	}
	require.Equal(t, []string{"route to 10.9.0.0/16 via 10.7.0.4", "route to 0.0.0.0/0 via 10.7.0.1"}, got)
}

// via is a message that a relay has passed on.
func via(relay string, options ...dhcpv4.Option) dhcpv4.Modifier {
	return func(d *dhcpv4.DHCPv4) {
		d.GatewayIPAddr = net.ParseIP(relay).To4()
		if len(options) > 0 {
			d.UpdateOption(dhcpv4.OptRelayAgentInfo(options...))
		}
	}
}

func TestRelaysSelectTheLink(t *testing.T) {
	s := newServer(t, "", "")
	s.requireIP("10.8.0.10", s.must(discover(t, 1, via("10.8.0.1"))))
	s.requireIP("10.8.1.10", s.must(discover(t, 2, via("10.8.1.1"))))
	// RFC 3527: the relay's own address is elsewhere.
	selected := dhcpv4.OptGeneric(dhcpv4.LinkSelectionSubOption, []byte{10, 8, 1, 0})
	s.requireIP("10.8.1.11", s.must(discover(t, 3, via("192.0.2.1", selected))))
	// RFC 3011.
	s.requireIP("10.8.0.11", s.must(discover(t, 4, dhcpv4.WithOption(
		dhcpv4.OptGeneric(dhcpv4.OptionSubnetSelection, []byte{10, 8, 0, 0})))))
	_, err := s.reply(discover(t, 5, via("192.0.2.1")))
	require.ErrorIs(t, err, dhcp4.ErrNotOurs)
}

func TestRelayGetsItsOptionBack(t *testing.T) {
	s := newServer(t, "", "")
	circuit := dhcpv4.OptGeneric(dhcpv4.AgentCircuitIDSubOption, []byte("port 7"))
	override := dhcpv4.OptGeneric(dhcpv4.ServerIdentifierOverrideSubOption, []byte{10, 8, 0, 1})
	in := discover(t, 1, via("10.8.0.1", circuit, override))
	out := s.must(in)
	const option82 = dhcpv4.OptionRelayAgentInformation
	require.Equal(t, in.GetOneOption(option82), out.GetOneOption(option82))
	require.Equal(t, "10.8.0.1", out.ServerIdentifier().String(), "RFC 5107")
	require.Equal(t, dhcpv4.MessageTypeAck, s.must(selecting(t, out, via("10.8.0.1", circuit, override))).MessageType())
}

func TestSharedNetworkGivesTheNextSubnetWhenOneIsFull(t *testing.T) {
	s := newServer(t, "", "")
	var got []string
	for n := range 4 {
		got = append(got, s.lease(n, via("10.8.0.1")).YourIPAddr.String())
	}
	require.Equal(t, []string{"10.8.0.10", "10.8.0.11", "10.8.1.10", "10.8.1.11"}, got)
	mask := s.lease(3, via("10.8.0.1"))
	s.requireIP("10.8.1.11", mask)
	_, err := s.reply(discover(t, 9, via("10.8.0.1")))
	require.ErrorIs(t, err, pool.ErrExhausted)
}

func TestDeclinedAddressIsNotGivenToTheClientThatDeclinedIt(t *testing.T) {
	s := newServer(t, "quarantine: 24h", "")
	ack := s.lease(1)
	_, err := s.reply(discover(t, 1, dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ack.YourIPAddr))))
	require.ErrorIs(t, err, dhcp4.ErrDone)
	wish := dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(ack.YourIPAddr))
	s.requireIP("10.7.0.11", s.must(selecting(t, s.must(discover(t, 1, wish)))))
	s.lease(2)
	s.lease(3)
	_, err = s.reply(discover(t, 4))
	require.ErrorIs(t, err, pool.ErrExhausted)
	s.advance(25 * time.Hour)
	s.open("authoritative: true", "")
	s.requireIP("10.7.0.10", s.must(rebooting(t, 5, "10.7.0.10")))
}

func TestQuotaBoundsTheIdentitiesOfOneHardwareAddress(t *testing.T) {
	s := newServer(t, "quota: 2", "")
	identity := func(n byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{0xff, n}))
	}
	s.lease(1, identity(1))
	s.lease(1, identity(2))
	_, err := s.reply(discover(t, 1, identity(3)))
	require.ErrorIs(t, err, leases.ErrQuota)
	s.lease(1, identity(1))
	s.open("quota: 2", "") // it counts what is held after a restart, too
	_, err = s.reply(discover(t, 1, identity(3)))
	require.ErrorIs(t, err, leases.ErrQuota)
	s.lease(2, identity(4))
	s.advance(2 * time.Hour)
	s.lease(1, identity(3))
}

func TestQuotaBoundsACircuit(t *testing.T) {
	s := newServer(t, "circuitQuota: 1", "")
	circuit := func(name string) dhcpv4.Modifier {
		return via("10.7.0.1", dhcpv4.OptGeneric(dhcpv4.AgentCircuitIDSubOption, []byte(name)))
	}
	s.lease(1, circuit("port 1"))
	_, err := s.reply(discover(t, 2, circuit("port 1")))
	require.ErrorIs(t, err, leases.ErrQuota)
	s.lease(3, circuit("port 2"))
}

func TestQuotaBoundsDeclines(t *testing.T) {
	s := newServer(t, "quota: 2\nauthoritative: true", "")
	decline := func() error {
		_, err := s.reply(discover(t, 1, dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
			dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(s.lease(1).YourIPAddr))))
		return err
	}
	require.ErrorIs(t, decline(), dhcp4.ErrDone)
	_, err := s.reply(discover(t, 1, dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline),
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(s.lease(1).YourIPAddr))))
	require.ErrorIs(t, err, leases.ErrQuota)
	s.requireIP("10.7.0.11", s.lease(1))
}

func TestReservedClientChangesToItsAddress(t *testing.T) {
	s := newServer(t, "authoritative: true", "")
	ack := s.lease(7)
	s.open("authoritative: true", "    reservations: [{hardware: \"02:00:00:00:00:07\", address: 10.7.0.200}]\n")
	require.Equal(t, dhcpv4.MessageTypeNak, s.must(renewing(t, ack)).MessageType())
	s.requireIP("10.7.0.200", s.lease(7))
	s.requireIP("10.7.0.200", s.lease(7, dhcpv4.WithOption(dhcpv4.OptClientIdentifier([]byte{9}))))
	nak := s.must(rebooting(t, 8, "10.7.0.200"))
	require.Equal(t, dhcpv4.MessageTypeNak, nak.MessageType())
	wish := dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.IPv4(10, 7, 0, 200)))
	s.requireIP("10.7.0.11", s.must(discover(t, 8, wish)))
}

func TestRapidCommit(t *testing.T) {
	s := newServer(t, "rapidCommit: true", "")
	out := s.must(discover(t, 1, dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionRapidCommit, nil))))
	require.Equal(t, dhcpv4.MessageTypeAck, out.MessageType())
	require.True(t, out.Options.Has(dhcpv4.OptionRapidCommit))
	require.Equal(t, dhcpv4.MessageTypeOffer, s.must(discover(t, 2)).MessageType())
}

// FuzzReply has any bytes answered. It must not panic, and an answer must give what the client's link has.
func FuzzReply(f *testing.F) {
	s := newServer(f, "authoritative: true", "")
	offer := s.must(discover(f, 1))
	for _, m := range []*dhcpv4.DHCPv4{
		discover(f, 1), selecting(f, offer), rebooting(f, 1, "10.7.0.10"), discover(f, 2, via("10.8.0.1")),
		discover(f, 1, dhcpv4.WithMessageType(dhcpv4.MessageTypeDecline), dhcpv4.WithClientIP(net.IPv4(10, 7, 0, 10))),
	} {
		f.Add(m.ToBytes())
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		in, err := dhcpv4.FromBytes(packet)
		if err != nil {
			return
		}
		out, err := s.reply(in)
		if (out == nil) == (err == nil) {
			t.Fatalf("neither an answer nor an error: %v, %v", out, err)
		}
		if err != nil {
			return
		}
		again, err := dhcpv4.FromBytes(out.ToBytes())
		require.NoError(t, err)
		require.Equal(t, in.TransactionID, again.TransactionID)
		if your, ok := netip.AddrFromSlice(again.YourIPAddr.To4()); ok && !your.IsUnspecified() {
			require.NotNil(t, s.Leases.At(your), "%v", your)
		}
	})
}
