// Package server runs the DHCP server: it receives messages on the interfaces, has them answered, and sends the
// answers.
package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/dhcp4"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/dhcp6"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Server is a running server.
type Server struct {
	config  *config.Config
	leases  *leases.Leases
	metrics *metricSet
	log     *slog.Logger
	v4      *dhcp4.Server
	v6      *dhcp6.Server

	places  chan struct{} // one for each message that is being worked on
	fresh   chan struct{} // one for each of these that is from a client that has nothing yet
	sockets []socket
	readers sync.WaitGroup
	workers sync.WaitGroup
}

// socket is where messages of one family come in on one interface.
type socket interface {
	// receive waits for a message, and returns what answers it.
	receive(buffer []byte) (n int, from netip.AddrPort, err error)
	stop()
	close() error
	iface() *link
	isV4() bool
}

// link is an interface of this machine.
type link struct {
	*net.Interface
	v4 []netip.Addr
}

// Run runs a server until the context ends. Ready is called once it hears its clients. The server then still answers
// what it has received.
func Run(ctx context.Context, c *config.Config, db store.Store, log *slog.Logger, ready func()) error {
	s := &Server{config: c, log: log, metrics: newMetrics(db), places: make(chan struct{}, c.Busy)}
	s.fresh = make(chan struct{}, (c.Busy+3)/4)
	links, own, err := linksOf(c)
	if err != nil {
		return err
	}
	s.leases, err = leases.Open(ctx, db, c, &pool.Options{Observer: s.metrics.pools, Logger: log})
	if err != nil {
		return err
	}
	if err := s.leases.CheckOwn(own); err != nil {
		return err
	}
	defer s.close()
	if err := s.listen(c, links); err != nil {
		return err
	}
	stop, err := s.serveHTTP(ctx, db)
	if err != nil {
		return err
	}
	defer stop()
	for _, each := range s.sockets {
		s.readers.Go(func() { s.read(each) })
	}
	ready()
	<-ctx.Done()
	for _, each := range s.sockets {
		each.stop()
	}
	s.readers.Wait()
	s.workers.Wait()
	return nil
}

func (s *Server) listen(c *config.Config, links []*link) error {
	s.v4 = &dhcp4.Server{Leases: s.leases, Offer: c.Offer, Authoritative: c.Authoritative, RapidCommit: c.RapidCommit}
	s.v6 = &dhcp6.Server{Leases: s.leases, Offer: c.Offer, Authoritative: c.Authoritative, RapidCommit: c.RapidCommit}
	var err error
	if s.v6.DUID, err = duidOf(c, links); err != nil {
		return err
	}
	var has4, has6 bool
	for _, n := range s.leases.Networks {
		has4, has6 = has4 || len(n.SubnetsOf(true)) > 0, has6 || len(n.SubnetsOf(false)) > 0
	}
	for _, l := range links {
		for _, family := range []struct {
			used   bool
			listen func(*link) (socket, error)
		}{{has4, listen4}, {has6, listen6}} {
			if !family.used {
				continue
			}
			socket, err := family.listen(l)
			if err != nil {
				return err
			}
			s.sockets = append(s.sockets, socket)
		}
	}
	return nil
}

func (s *Server) close() {
	for _, each := range s.sockets {
		_ = each.close()
	}
}

// linksOf finds the interfaces of the configuration, and all addresses of this machine.
func linksOf(c *config.Config) (links []*link, own []netip.Addr, err error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, nil, err
	}
	var names []string
	addrs := map[string][]netip.Addr{}
	for _, i := range all {
		names = append(names, i.Name)
		found, err := i.Addrs()
		if err != nil {
			return nil, nil, err
		}
		for _, a := range found {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				addrs[i.Name] = append(addrs[i.Name], p.Addr().Unmap().WithZone(""))
			}
		}
		own = append(own, addrs[i.Name]...)
	}
	seen := map[string]bool{}
	find := func(where, name string) error {
		i := slices.IndexFunc(all, func(i net.Interface) bool { return i.Name == name })
		if i < 0 {
			return fmt.Errorf("%s: this machine has no interface %q, only %q", where, name, names)
		}
		if !seen[name] {
			seen[name] = true
			isV4 := func(a netip.Addr) bool { return !a.Is4() }
			links = append(links, &link{Interface: &all[i], v4: slices.DeleteFunc(slices.Clone(addrs[name]), isV4)})
		}
		return nil
	}
	for i := range c.Networks {
		n := &c.Networks[i]
		if n.Interface == "" {
			continue
		}
		where := fmt.Sprintf("network %q", n.Name)
		if err := find(where, n.Interface); err != nil {
			return nil, nil, err
		}
		if err := checkInterface(n, addrs[n.Interface]); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", where, err)
		}
	}
	for _, name := range c.Interfaces {
		if err := find("interfaces", name); err != nil {
			return nil, nil, err
		}
	}
	if len(links) == 0 {
		return nil, nil, errors.New("interfaces: there is none: name those at which relays reach the server")
	}
	return links, own, nil
}

// checkInterface returns an error if the interface has no address in any of the IPv4 subnets of its network: it would
// be the wrong one, and clients could not reach the server to renew.
func checkInterface(n *config.Network, addrs []netip.Addr) error {
	var v4 []netip.Prefix
	for _, s := range n.Subnets {
		if s.Subnet.Addr().Is4() {
			v4 = append(v4, s.Subnet)
		}
	}
	for _, s := range v4 {
		if slices.ContainsFunc(addrs, s.Contains) {
			return nil
		}
	}
	if len(v4) > 0 {
		return fmt.Errorf("interface %q has no address in %v, only %v", n.Interface, v4, addrs)
	}
	return nil
}

// duidOf is the server's DUID: of the configuration, or DUID-LL of the first interface with a hardware address.
func duidOf(c *config.Config, links []*link) (dhcpv6.DUID, error) {
	if c.DUID != "" {
		return dhcpv6.DUIDFromBytes(c.DUID.Bytes())
	}
	for _, l := range links {
		if len(l.HardwareAddr) > 0 {
			return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: l.HardwareAddr}, nil
		}
	}
	all, err := net.Interfaces()
	for _, i := range all {
		if len(i.HardwareAddr) > 0 {
			return &dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: i.HardwareAddr}, nil
		}
	}
	return nil, errors.Join(err, errors.New("duid: no interface has a hardware address to make one of; set it"))
}

// read receives messages until the socket is closed. Each is worked on in a goroutine of its own, so that all that wait
// share a commit. If too many are being worked on, it drops the message: the client will send it again.
func (s *Server) read(from socket) {
	family := familyOf(from)
	buffer := make([]byte, 64<<10)
	for {
		n, peer, err := from.receive(buffer)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
		if err != nil {
			s.log.Error("receive", "interface", from.iface().Name, "error", err)
			continue
		}
		s.metrics.received.WithLabelValues(family).Inc()
		select {
		case s.places <- struct{}{}:
		default:
			s.metrics.dropped.WithLabelValues(family, "busy").Inc()
			continue
		}
		packet := slices.Clone(buffer[:n])
		s.workers.Go(func() {
			defer func() { <-s.places }()
			s.work(from, peer, packet)
		})
	}
}

func familyOf(s socket) string {
	if s.isV4() {
		return "v4"
	}
	return "v6"
}

// errBusy is returned for a message of a client that has nothing yet, while a quarter of all places is taken by such
// ones. So those that were offered something, or have it, get through a flood.
var errBusy = errors.New("busy")

// admit takes a place for a client that has nothing yet.
func (s *Server) admit() (leave func(), err error) {
	select {
	case s.fresh <- struct{}{}:
		return func() { <-s.fresh }, nil
	default:
		return nil, errBusy
	}
}

// work answers one message. A panic is that of a parser: it costs this message, and no other.
func (s *Server) work(from socket, peer netip.AddrPort, packet []byte) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.dropped.WithLabelValues(familyOf(from), "panic").Inc()
			s.log.Error("panic", "value", p, "packet", fmt.Sprintf("%x", packet), "stack", string(debug.Stack()))
		}
	}()
	// The store bounds how long a commit takes.
	ctx := context.Background()
	var err error
	if from.isV4() {
		err = s.answer4(ctx, from.(*socket4), peer, packet)
	} else {
		err = s.answer6(ctx, from.(*socket6), peer, packet)
	}
	if err != nil {
		s.metrics.dropped.WithLabelValues(familyOf(from), reason(err)).Inc()
		s.log.Debug("no answer", "interface", from.iface().Name, "from", peer, "error", err)
	}
}

func (s *Server) answer4(ctx context.Context, from *socket4, peer netip.AddrPort, packet []byte) error {
	in, err := dhcpv4.FromBytes(packet)
	if err != nil {
		return fmt.Errorf("%w: %w", dhcp4.ErrMalformed, err)
	}
	if in.MessageType() == dhcpv4.MessageTypeDiscover {
		leave, err := s.admit()
		if err != nil {
			return err
		}
		defer leave()
	}
	receipt := dhcp4.Receipt{Interface: from.link.Name, Local: from.link.v4}
	if addr := peer.Addr().Unmap(); !addr.IsUnspecified() {
		receipt.From = addr
	}
	out, err := s.v4.Reply(ctx, in, receipt)
	if errors.Is(err, dhcp4.ErrDone) {
		s.metrics.answered.WithLabelValues("v4", in.MessageType().String()).Inc()
		return nil
	}
	if err != nil {
		return err
	}
	s.metrics.answered.WithLabelValues("v4", out.MessageType().String()).Inc()
	return from.send(out)
}

func (s *Server) answer6(ctx context.Context, from *socket6, peer netip.AddrPort, packet []byte) error {
	in, err := dhcpv6.FromBytes(packet)
	if err != nil {
		return fmt.Errorf("%w: %w", dhcp6.ErrMalformed, err)
	}
	if inner, err := in.GetInnerMessage(); err == nil && inner.MessageType == dhcpv6.MessageTypeSolicit {
		leave, err := s.admit()
		if err != nil {
			return err
		}
		defer leave()
	}
	out, err := s.v6.Reply(ctx, in, dhcp6.Receipt{Interface: from.link.Name, From: peer.Addr()})
	if err != nil {
		return err
	}
	s.metrics.answered.WithLabelValues("v6", out.Type().String()).Inc()
	return from.send(out, peer)
}

// reason is the label of an error in the metrics.
func reason(err error) string {
	for _, known := range []struct {
		err  error
		name string
	}{
		{errBusy, "busy"}, {dhcp4.ErrMalformed, "malformed"}, {dhcp6.ErrMalformed, "malformed"},
		{leases.ErrQuota, "quota"}, {pool.ErrExhausted, "exhausted"},
		{dhcp4.ErrNotOurs, "not_ours"}, {dhcp6.ErrNotOurs, "not_ours"}, {dhcp4.ErrNone, "none"},
	} {
		if errors.Is(err, known.err) {
			return known.name
		}
	}
	return "error"
}
