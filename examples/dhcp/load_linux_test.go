package main_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"
)

// relay is a relay on a host that speaks for any number of clients.
type relay struct {
	*net.UDPConn
	addr, server netip.Addr
}

// relay opens the port of a relay, on the host's address, for a server.
func (h *host) relay(addr, server string) *relay {
	h.Helper()
	r := &relay{addr: netip.MustParseAddr(addr), server: netip.MustParseAddr(server)}
	space, err := ns.GetNS("/run/netns/" + h.name)
	require.NoError(h, err)
	defer space.Close()
	require.NoError(h, space.Do(func(ns.NetNS) error {
		r.UDPConn, err = net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(r.addr, 67)))
		return err
	}))
	h.Cleanup(func() { _ = r.Close() })
	require.NoError(h, r.SetReadBuffer(4<<20))
	return r
}

func hardware(n int) net.HardwareAddr {
	return net.HardwareAddr{2, 0, 7, byte(n >> 16), byte(n >> 8), byte(n)}
}

// discover and request are the messages of the n-th client; a request without an offer is that of a client that
// reboots.
func (r *relay) discover(n int) *dhcpv4.DHCPv4 {
	m, _ := dhcpv4.NewDiscovery(hardware(n), dhcpv4.WithGatewayIP(r.addr.AsSlice()))
	return m
}

func (r *relay) request(n int, offer *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	m, _ := dhcpv4.NewRequestFromOffer(offer, dhcpv4.WithGatewayIP(r.addr.AsSlice()))
	return m
}

func (r *relay) reboot(n int, addr net.IP) *dhcpv4.DHCPv4 {
	m := r.discover(n)
	m.UpdateOption(dhcpv4.OptMessageType(dhcpv4.MessageTypeRequest))
	m.UpdateOption(dhcpv4.OptRequestedIPAddress(addr))
	return m
}

// ask sends the messages all at once, and again those that got no answer, until enough are answered. It returns the
// answers, by client.
func (r *relay) ask(messages map[int]*dhcpv4.DHCPv4, enough int) (map[int]*dhcpv4.DHCPv4, error) {
	byID, answers := map[dhcpv4.TransactionID]int{}, map[int]*dhcpv4.DHCPv4{}
	for n, m := range messages {
		byID[m.TransactionID] = n
	}
	buffer := make([]byte, 2048)
	for deadline := time.Now().Add(patience); len(answers) < enough; {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d of %d answered", len(answers), enough)
		}
		for n, m := range messages {
			if answers[n] == nil {
				if _, err := r.WriteToUDPAddrPort(m.ToBytes(), netip.AddrPortFrom(r.server, 67)); err != nil {
					return nil, err
				}
			}
		}
		for len(answers) < enough {
			_ = r.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
			size, _, err := r.ReadFromUDPAddrPort(buffer)
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return nil, err
			}
			m, err := dhcpv4.FromBytes(buffer[:size])
			if err != nil {
				return nil, err
			}
			// A late second offer has the number of the request that follows.
			n, ok := byID[m.TransactionID]
			if ok && (m.MessageType() == dhcpv4.MessageTypeOffer) == (messages[n].MessageType() == dhcpv4.MessageTypeDiscover) {
				answers[n] = m
			}
		}
	}
	return answers, nil
}

// lease leases addresses for n clients, of which the first has the number from. All must be different.
func (r *relay) lease(from, n int) (map[int]net.IP, error) {
	messages := map[int]*dhcpv4.DHCPv4{}
	for i := from; i < from+n; i++ {
		messages[i] = r.discover(i)
	}
	offers, err := r.ask(messages, n)
	if err != nil {
		return nil, err
	}
	for i, offer := range offers {
		messages[i] = r.request(i, offer)
	}
	acks, err := r.ask(messages, n)
	got, seen := map[int]net.IP{}, map[string]int{}
	for i, ack := range acks {
		if other, twice := seen[ack.YourIPAddr.String()]; twice || ack.MessageType() != dhcpv4.MessageTypeAck {
			return nil, fmt.Errorf("client %d: %v: client %d has it: %v", i, ack.Summary(), other, twice)
		}
		got[i], seen[ack.YourIPAddr.String()] = ack.YourIPAddr, i
	}
	return got, err
}

// big is a lab with a server for a relay, and a pool for many.
func (l *lab) big(store, top string) string {
	return fmt.Sprintf(`
store: %q
http: 127.0.0.1:8067
%s
networks:
- name: big
  interface: eth0
  relayed: true
  lease: 1h
  subnets: [{subnet: 10.7.0.0/16, pools: [10.7.16.0-10.7.255.250]}]
`, store, top)
}

func newBig(t *testing.T, top string) (server *host, config string, r *relay) {
	t.Helper()
	t.Parallel()
	l := newLab(t)
	sw, server, far := l.segment("sw"), l.host("srv"), l.host("relay")
	server.plug("eth0", sw, "10.7.0.5/16")
	far.plug("eth0", sw, "10.7.0.9/16")
	return server, l.big("file://"+l.dir+"/leases.db", top), far.relay("10.7.0.9", "10.7.0.5")
}

// No client loses what a server that is killed has acknowledged, and nobody else gets it.
func TestKilledServerHasLostNothing(t *testing.T) {
	server, config, r := newBig(t, "")
	p := server.serve("server", config)
	offers := map[int]*dhcpv4.DHCPv4{}
	for i := range 400 {
		offers[i] = r.discover(i)
	}
	requests := map[int]*dhcpv4.DHCPv4{}
	offers, err := r.ask(offers, 400)
	require.NoError(t, err)
	for i, offer := range offers {
		requests[i] = r.request(i, offer)
	}
	acks, err := r.ask(requests, 100) // and others are on their way
	require.NoError(t, err)
	p.kill()
	server.serve("server", config)
	again := map[int]*dhcpv4.DHCPv4{}
	for i, ack := range acks {
		again[i] = r.reboot(i, ack.YourIPAddr)
	}
	// The server is not authoritative: it answers only those that it has a record of.
	again, err = r.ask(again, len(acks))
	require.NoError(t, err)
	for i, ack := range again {
		require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
		require.Equal(t, acks[i].YourIPAddr, ack.YourIPAddr)
	}
	held := map[string]bool{}
	for _, ack := range acks {
		held[ack.YourIPAddr.String()] = true
	}
	others, err := r.lease(1000, 100)
	require.NoError(t, err)
	for _, ip := range others {
		require.False(t, held[ip.String()], ip)
	}
}

var peak = regexp.MustCompile(`VmHWM:\s+(\d+) kB`)

// Thousands of clients at once all get an address in the end, and the server's memory stays small.
func TestFlood(t *testing.T) {
	const clients = 5000
	server, config, r := newBig(t, "busy: 1024")
	p := server.serve("server", config)
	_, err := r.lease(0, clients)
	require.NoError(t, err)
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Process.Pid))
	require.NoError(t, err)
	kib, err := strconv.Atoi(peak.FindStringSubmatch(string(status))[1])
	require.NoError(t, err)
	require.Less(t, kib, 200<<10, "KiB of memory at its peak")
	server.awaitPage("/metrics", `dhcpalloc_dropped_total{family="v4",reason="busy"} [1-9]`)
	used := `ipalloc_addresses{family="IPv4",pool="10.7.0.0/16",state="used"} `
	server.awaitPage("/metrics", used+strconv.Itoa(clients))
}
