package dhcp6_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/dhcp6"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const office = `
%s
networks:
- name: office
  interface: eth0
  relayed: true
  lease: 1h
  subnets:
  - subnet: 2001:db8:7::/64
    pools: ["2001:db8:7::10-2001:db8:7::12"]
    dns: ["2001:db8:7::53"]
    prefixes: [{prefix: "2001:db8:f000::/55", length: 56}]
%s
`

// server is a server without sockets, whose leases are in memory.
type server struct {
	testing.TB
	*dhcp6.Server
	now time.Time
	db  *counting
}

// counting counts the commits to a store.
type counting struct {
	store.Store
	commits int
}

func (c *counting) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	c.commits++
	return c.Store.Commit(ctx, changes...)
}

func newServer(t testing.TB, top, subnet string) *server {
	t.Helper()
	s := &server{TB: t, now: time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC), db: &counting{Store: store.NewMemory()}}
	c, err := config.Read(fmt.Appendf(nil, office, top, subnet))
	require.NoError(t, err)
	l, err := leases.Open(t.Context(), s.db, c, &pool.Options{Clock: func() time.Time { return s.now }})
	require.NoError(t, err)
	s.Server = &dhcp6.Server{Leases: l, DUID: &dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: mac(99)}, Offer: c.Offer,
		Authoritative: c.Authoritative, RapidCommit: c.RapidCommit}
	return s
}

func mac(n int) net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, byte(n)} }

var from = netip.MustParseAddr("fe80::1")

func (s *server) reply(in dhcpv6.DHCPv6) (*dhcpv6.Message, error) {
	out, err := s.Reply(context.Background(), in, dhcp6.Receipt{Interface: "eth0", From: from})
	if err != nil {
		return nil, err
	}
	return out.GetInnerMessage()
}

func (s *server) must(in dhcpv6.DHCPv6) *dhcpv6.Message {
	s.Helper()
	out, err := s.reply(in)
	require.NoError(s, err)
	return out
}

// message is one of the n-th client, with one association of each kind.
func message(of dhcpv6.MessageType, n int, more ...dhcpv6.Modifier) *dhcpv6.Message {
	m, _ := dhcpv6.NewMessage(
		dhcpv6.WithClientID(&dhcpv6.DUIDLL{HWType: 1, LinkLayerAddr: mac(n)}), dhcpv6.WithIAID([4]byte{0, 0, 0, 1}),
		dhcpv6.WithIAPD([4]byte{0, 0, 0, 2}))
	m.MessageType = of
	for _, modify := range more {
		modify(m)
	}
	return m
}

// next is the message that follows an answer, with what it granted.
func (s *server) next(of dhcpv6.MessageType, n int, answer *dhcpv6.Message) *dhcpv6.Message {
	m := message(of, n)
	if of != dhcpv6.MessageTypeRebind && of != dhcpv6.MessageTypeConfirm {
		m.AddOption(dhcpv6.OptServerID(s.DUID))
	}
	m.UpdateOption(answer.Options.OneIANA())
	m.UpdateOption(answer.Options.OneIAPD())
	return m
}

func (s *server) lease(n int) *dhcpv6.Message {
	s.Helper()
	return s.must(s.next(dhcpv6.MessageTypeRequest, n, s.must(message(dhcpv6.MessageTypeSolicit, n))))
}

// granted is what an answer grants: text of the address and of the prefix, "" for none.
func granted(m *dhcpv6.Message) (addr, prefix string) {
	for _, a := range m.Options.OneIANA().Options.Addresses() {
		if a.ValidLifetime > 0 {
			addr += a.IPv6Addr.String()
		}
	}
	for _, p := range m.Options.OneIAPD().Options.Prefixes() {
		if p.ValidLifetime > 0 {
			prefix += p.Prefix.String()
		}
	}
	return addr, prefix
}

func (s *server) requireGranted(addr, prefix string, m *dhcpv6.Message) {
	s.Helper()
	gotAddr, gotPrefix := granted(m)
	require.Equal(s, addr, gotAddr)
	require.Equal(s, prefix, gotPrefix)
}

func TestAddressAndPrefixInOneCommit(t *testing.T) {
	s := newServer(t, "", "")
	before := s.db.commits
	advertise := s.must(message(dhcpv6.MessageTypeSolicit, 1))
	require.Equal(t, dhcpv6.MessageTypeAdvertise, advertise.MessageType)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", advertise)
	require.Equal(t, 1, s.db.commits-before)
	reply := s.must(s.next(dhcpv6.MessageTypeRequest, 1, advertise))
	require.Equal(t, dhcpv6.MessageTypeReply, reply.MessageType)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", reply)
	require.Equal(t, 2, s.db.commits-before)
	require.Equal(t, 30*time.Minute, reply.Options.OneIANA().T1)
	require.Equal(t, 48*time.Minute, reply.Options.OneIANA().T2)
}

func TestWhatCannotBeHadDoesNotKeepTheRest(t *testing.T) {
	s := newServer(t, "", "")
	s.lease(1)
	s.lease(2)
	third := s.lease(3) // of two prefixes none is left
	s.requireGranted("2001:db8:7::12", "", third)
	require.Equal(t, iana.StatusNoPrefixAvail, third.Options.OneIAPD().Options.Status().StatusCode)
	fourth := s.must(message(dhcpv6.MessageTypeSolicit, 4))
	require.Equal(t, iana.StatusNoAddrsAvail, fourth.Options.OneIANA().Options.Status().StatusCode)
}

func TestRenewRebindAndAnEndedLease(t *testing.T) {
	s := newServer(t, "authoritative: true", "")
	reply := s.lease(1)
	s.now = s.now.Add(50 * time.Minute)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", s.must(s.next(dhcpv6.MessageTypeRenew, 1, reply)))
	s.now = s.now.Add(50 * time.Minute)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", s.must(s.next(dhcpv6.MessageTypeRebind, 1, reply)))
	s.now = s.now.Add(2 * time.Hour)
	s.lease(2)
	s.lease(3)
	s.requireGranted("2001:db8:7::10", "", s.lease(4))
	// Others have it now: the client is told that it is over.
	again := s.must(s.next(dhcpv6.MessageTypeRenew, 1, reply))
	s.requireGranted("", "", again)
	require.Equal(t, iana.StatusNoBinding, again.Options.OneIANA().Options.Status().StatusCode)
	require.Zero(t, again.Options.OneIANA().Options.OneAddress().ValidLifetime)
}

func TestServerThatIsNotAuthoritativeLeavesRebindToOthers(t *testing.T) {
	s := newServer(t, "", "")
	other := newServer(t, "", "")
	_, err := s.reply(s.next(dhcpv6.MessageTypeRebind, 1, other.lease(1)))
	require.ErrorIs(t, err, dhcp6.ErrNotOurs)
	reply := s.lease(1)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", s.must(s.next(dhcpv6.MessageTypeRebind, 1, reply)))
}

func TestReleasedIsSticky(t *testing.T) {
	s := newServer(t, "sticky: 1h", "")
	reply := s.lease(1)
	out := s.must(s.next(dhcpv6.MessageTypeRelease, 1, reply))
	require.Equal(t, iana.StatusSuccess, out.Options.Status().StatusCode)
	out = s.must(s.next(dhcpv6.MessageTypeRelease, 1, reply))
	require.Equal(t, iana.StatusNoBinding, out.Options.OneIANA().Options.Status().StatusCode)
	s.requireGranted("2001:db8:7::11", "2001:db8:f000:100::/56", s.lease(2))
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", s.lease(1))
}

func TestDeclinedIsGivenToNobody(t *testing.T) {
	s := newServer(t, "", "")
	decline := s.next(dhcpv6.MessageTypeDecline, 1, s.lease(1))
	decline.Options.Del(dhcpv6.OptionIAPD)
	out := s.must(decline)
	require.Equal(t, iana.StatusSuccess, out.Options.Status().StatusCode)
	s.requireGranted("2001:db8:7::11", "2001:db8:f000::/56", s.lease(1))
	s.requireGranted("2001:db8:7::12", "2001:db8:f000:100::/56", s.lease(2))
	none := s.must(message(dhcpv6.MessageTypeSolicit, 3))
	require.Equal(t, iana.StatusNoAddrsAvail, none.Options.OneIANA().Options.Status().StatusCode)
}

func TestConfirm(t *testing.T) {
	s := newServer(t, "", "")
	reply := s.lease(1)
	out := s.must(s.next(dhcpv6.MessageTypeConfirm, 1, reply))
	require.Equal(t, iana.StatusSuccess, out.Options.Status().StatusCode)
	reply.Options.OneIANA().Options.OneAddress().IPv6Addr = net.ParseIP("2001:db8:8::1")
	out = s.must(s.next(dhcpv6.MessageTypeConfirm, 1, reply))
	require.Equal(t, iana.StatusNotOnLink, out.Options.Status().StatusCode)
	off := s.must(s.next(dhcpv6.MessageTypeRequest, 1, reply))
	require.Equal(t, iana.StatusNotOnLink, off.Options.OneIANA().Options.Status().StatusCode)
	_, err := s.reply(message(dhcpv6.MessageTypeConfirm, 1))
	require.ErrorIs(t, err, dhcp6.ErrMalformed)
}

func TestHintIsHonouredIfItCanBeHad(t *testing.T) {
	s := newServer(t, "", "")
	hint := func(n int) *dhcpv6.Message {
		return message(dhcpv6.MessageTypeSolicit, n,
			dhcpv6.WithIANA(dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP("2001:db8:7::12")}))
	}
	s.requireGranted("2001:db8:7::12", "2001:db8:f000::/56", s.must(hint(1)))
	s.requireGranted("2001:db8:7::10", "2001:db8:f000:100::/56", s.must(hint(2)))
}

func TestReservationsByHardwareAndDUID(t *testing.T) {
	s := newServer(t, "", `    reservations:
    - {hardware: "02:00:00:00:00:07", address: "2001:db8:7::77", prefix: "2001:db8:f000::/56"}
    - {duid: "00:03:00:01:02:00:00:00:00:08", address: "2001:db8:7::10"}
`)
	s.requireGranted("2001:db8:7::11", "2001:db8:f000:100::/56", s.lease(1))
	s.requireGranted("2001:db8:7::77", "2001:db8:f000::/56", s.lease(7))
	addr, _ := granted(s.lease(8))
	require.Equal(t, "2001:db8:7::10", addr)
}

func TestRapidCommit(t *testing.T) {
	s := newServer(t, "rapidCommit: true", "")
	out := s.must(message(dhcpv6.MessageTypeSolicit, 1, dhcpv6.WithRapidCommit))
	require.Equal(t, dhcpv6.MessageTypeReply, out.MessageType)
	require.NotNil(t, out.GetOneOption(dhcpv6.OptionRapidCommit))
}

func TestInformationRequest(t *testing.T) {
	s := newServer(t, "", "")
	in, err := dhcpv6.NewMessage(dhcpv6.WithRequestedOptions(dhcpv6.OptionDNSRecursiveNameServer))
	require.NoError(t, err)
	in.MessageType = dhcpv6.MessageTypeInformationRequest
	require.Equal(t, "2001:db8:7::53", s.must(in).Options.DNS()[0].String())
}

func TestRelaysSelectTheLink(t *testing.T) {
	s := newServer(t, "", "")
	relay := func(m dhcpv6.DHCPv6, link string) *dhcpv6.RelayMessage {
		r, err := dhcpv6.EncapsulateRelay(m, dhcpv6.MessageTypeRelayForward, net.ParseIP(link), net.ParseIP("fe80::2"))
		require.NoError(t, err)
		r.AddOption(dhcpv6.OptInterfaceID([]byte("port 7")))
		return r
	}
	inner := relay(message(dhcpv6.MessageTypeSolicit, 1), "2001:db8:7::1")
	out, err := s.Reply(t.Context(), relay(inner, "2001:db8:99::1"), dhcp6.Receipt{Interface: "eth1", From: from})
	require.NoError(t, err)
	outer, ok := out.(*dhcpv6.RelayMessage)
	require.True(t, ok)
	require.Equal(t, dhcpv6.MessageTypeRelayReply, outer.MessageType)
	require.Equal(t, []byte("port 7"), outer.Options.InterfaceID())
	m, err := out.GetInnerMessage()
	require.NoError(t, err)
	s.requireGranted("2001:db8:7::10", "2001:db8:f000::/56", m)
	_, err = s.reply(relay(message(dhcpv6.MessageTypeSolicit, 1), "2001:db8:99::1"))
	require.ErrorIs(t, err, dhcp6.ErrNotOurs)
}

func TestQuotaBoundsTheIdentitiesOfOnePeer(t *testing.T) {
	s := newServer(t, "quota: 3", "")
	s.lease(1) // an address and a prefix
	out := s.lease(2)
	addr, prefix := granted(out)
	require.NotEqual(t, addr == "", prefix == "", "one more: %q %q", addr, prefix)
}

// FuzzReply has any bytes answered. It must not panic, and it grants only what the link has.
func FuzzReply(f *testing.F) {
	s := newServer(f, "authoritative: true", "")
	reply := s.lease(1)
	f.Add(message(dhcpv6.MessageTypeSolicit, 1).ToBytes())
	for _, of := range []dhcpv6.MessageType{
		dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew, dhcpv6.MessageTypeRebind, dhcpv6.MessageTypeRelease,
		dhcpv6.MessageTypeDecline, dhcpv6.MessageTypeConfirm,
	} {
		f.Add(s.next(of, 1, reply).ToBytes())
	}
	relayed, err := dhcpv6.EncapsulateRelay(message(dhcpv6.MessageTypeSolicit, 1), dhcpv6.MessageTypeRelayForward,
		net.ParseIP("2001:db8:7::1"), net.ParseIP("fe80::1"))
	require.NoError(f, err)
	f.Add(relayed.ToBytes())
	f.Fuzz(func(t *testing.T, packet []byte) {
		in, err := dhcpv6.FromBytes(packet)
		if err != nil {
			return
		}
		out, err := s.Reply(context.Background(), in, dhcp6.Receipt{Interface: "eth0", From: from})
		if err != nil {
			require.Nil(t, out)
			return
		}
		again, err := dhcpv6.FromBytes(out.ToBytes())
		require.NoError(t, err)
		m, err := again.GetInnerMessage()
		require.NoError(t, err)
		for _, ia := range m.Options.IANA() {
			for _, a := range ia.Options.Addresses() {
				addr, _ := netip.AddrFromSlice(a.IPv6Addr)
				require.True(t, a.ValidLifetime == 0 || s.Leases.At(addr) != nil, "%v", addr)
			}
		}
	})
}
