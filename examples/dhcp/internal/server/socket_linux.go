package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

// The ports: RFC 2131, section 4.1, and RFC 8415, section 7.2.
const (
	server4, client4 = 67, 68
	client6, server6 = 546, 547
)

// receiveBuffer is how many bytes the kernel keeps of messages that nobody has read yet, on each socket.
const receiveBuffer = 4 << 20

// udp is a UDP socket that hears one interface.
type udp struct {
	*net.UDPConn
	link *link
}

func (u *udp) receive(buffer []byte) (int, netip.AddrPort, error) {
	return u.ReadFromUDPAddrPort(buffer)
}
func (u *udp) iface() *link { return u.link }

// stop makes receive return os.ErrDeadlineExceeded from now on. Answers can still be sent.
func (u *udp) stop()        { _ = u.SetReadDeadline(time.Unix(1, 0)) }
func (u *udp) close() error { return u.Close() }

func listen(network, address string, l *link) (*udp, error) {
	config := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var err error
		return errors.Join(raw.Control(func(fd uintptr) { err = prepare(int(fd), l.Name) }), err)
	}}
	conn, err := config.ListenPacket(context.Background(), network, address)
	if err != nil {
		return nil, explain(err, address, l.Name)
	}
	return &udp{UDPConn: conn.(*net.UDPConn), link: l}, nil
}

func prepare(fd int, device string) error {
	// For more than the system's usual limit it takes a right, without which there is less of it.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer)
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
		return err
	}
	return unix.BindToDevice(fd, device)
}

// explain says what to do about an error.
func explain(err error, address, device string) error {
	_, port, _ := net.SplitHostPort(address)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("UDP port %s of interface %q is in use: another DHCP server runs here: %w", port, device, err)
	case errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM):
		return fmt.Errorf("no right to UDP port %s of interface %q: run as root, or with the capabilities "+
			"CAP_NET_BIND_SERVICE and CAP_NET_RAW: %w", port, device, err)
	}
	return fmt.Errorf("UDP port %s of interface %q: %w", port, device, err)
}

// socket4 hears DHCPv4 clients and relays.
type socket4 struct {
	*udp
	packet int // a packet socket, for clients that have no address yet
}

func listen4(l *link) (socket, error) {
	u, err := listen("udp4", fmt.Sprintf("0.0.0.0:%d", server4), l)
	if err != nil {
		return nil, err
	}
	// It only sends: protocol 0 receives nothing.
	packet, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		_ = u.Close()
		return nil, explain(err, fmt.Sprintf(":%d", server4), l.Name)
	}
	return &socket4{udp: u, packet: packet}, nil
}

func (s *socket4) isV4() bool { return true }

func (s *socket4) close() error { return errors.Join(s.Close(), unix.Close(s.packet)) }

// send sends an answer to where RFC 2131, section 4.1, says: to the relay; to the address that the client has; to its
// hardware if it has none yet; to all if it asks for that.
func (s *socket4) send(out *dhcpv4.DHCPv4) error {
	has, relay := out.ClientIPAddr.To4(), out.GatewayIPAddr.To4()
	switch {
	case relay != nil && !relay.IsUnspecified():
		return s.sendTo(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte(relay)), server4))
	case out.MessageType() == dhcpv4.MessageTypeNak:
	case has != nil && !has.IsUnspecified():
		return s.sendTo(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte(has)), client4))
	case !out.IsBroadcast() && len(out.ClientHWAddr) == 6 && len(s.link.v4) > 0:
		return s.sendFrame(out)
	}
	return s.sendTo(out, netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), client4))
}

func (s *socket4) sendTo(out *dhcpv4.DHCPv4, to netip.AddrPort) error {
	_, err := s.WriteToUDPAddrPort(out.ToBytes(), to)
	return err
}

// sendFrame sends an answer to a client's hardware address and to the address that the client is about to have, which
// nobody answers for yet.
func (s *socket4) sendFrame(out *dhcpv4.DHCPv4) error {
	to := &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_IP), Ifindex: s.link.Index, Halen: 6}
	copy(to.Addr[:], out.ClientHWAddr)
	datagram := datagram(s.link.v4[0], netip.AddrFrom4([4]byte(out.YourIPAddr.To4())), out.ToBytes())
	return unix.Sendto(s.packet, datagram, 0, to)
}

func htons(n uint16) uint16 { return n<<8 | n>>8 }

// datagram is an IPv4 packet (RFC 791) with a UDP datagram (RFC 768) from server to client.
func datagram(from, to netip.Addr, payload []byte) []byte {
	const ipHeader, udpHeader = 20, 8
	b := make([]byte, ipHeader+udpHeader, ipHeader+udpHeader+len(payload))
	b[0], b[8], b[9] = 4<<4|ipHeader/4, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(ipHeader+udpHeader+len(payload)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], checksum(b[:ipHeader]))
	binary.BigEndian.PutUint16(b[20:], server4)
	binary.BigEndian.PutUint16(b[22:], client4)
	binary.BigEndian.PutUint16(b[24:], uint16(udpHeader+len(payload)))
	b = append(b, payload...)
	// The checksum covers the addresses, the protocol and the length as well.
	pseudo := append(append([]byte{}, b[12:20]...), 0, unix.IPPROTO_UDP, b[24], b[25])
	sum := checksum(append(pseudo, b[ipHeader:]...))
	if sum == 0 {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[26:], sum)
	return b
}

// checksum is that of RFC 1071.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	if len(b)%2 == 1 {
		sum += uint32(b[len(b)-1]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// socket6 hears DHCPv6 clients and relays.
type socket6 struct{ *udp }

func listen6(l *link) (socket, error) {
	u, err := listen("udp6", fmt.Sprintf("[::]:%d", server6), l)
	if err != nil {
		return nil, err
	}
	// All_DHCP_Relay_Agents_and_Servers: RFC 8415, section 7.1. The loopback interface has no groups.
	group := &net.UDPAddr{IP: net.ParseIP("ff02::1:2")}
	if err := ipv6.NewPacketConn(u).JoinGroup(l.Interface, group); err != nil && l.Flags&net.FlagLoopback == 0 {
		_ = u.Close()
		return nil, fmt.Errorf("interface %q does not take part in the group ff02::1:2: %w", l.Name, err)
	}
	return &socket6{udp: u}, nil
}

func (s *socket6) isV4() bool { return false }

// send sends an answer to the client or the relay that sent the message.
func (s *socket6) send(out dhcpv6.DHCPv6, peer netip.AddrPort) error {
	port := uint16(client6)
	if out.IsRelay() {
		port = server6
	}
	_, err := s.WriteToUDPAddrPort(out.ToBytes(), netip.AddrPortFrom(peer.Addr(), port))
	return err
}
