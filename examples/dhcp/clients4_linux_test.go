package main_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// office is a configuration of one link with one subnet. What is added follows the keys of the subnet.
func (l *lab) office(top, subnet string) string {
	return fmt.Sprintf(`
store: file://%s/leases.db
http: 127.0.0.1:8067
authoritative: true
%s
networks:
- name: office
  interface: eth0
  lease: 6s
  subnets:
  - subnet: 10.7.0.0/24
    pools: [10.7.0.10-10.7.0.99]
    gateway: 10.7.0.1
    dns: [10.7.0.2, 10.7.0.3]
    domain: office.example
    routes: [{to: 10.9.0.0/16, via: 10.7.0.4}]
%s`, l.dir, top, subnet)
}

// client4 starts a DHCPv4 client on a host's eth0, and returns what its script writes.
type client4 struct {
	program string
	start   func(h *host, name string, more ...string) (*process, events)
	// renew tells a client that would not renew so soon, and release any client to give back its lease.
	renew   func(p *process)
	release func(h *host, p *process, name string)
}

var clients4 = []client4{
	{"udhcpc", func(h *host, name string, more ...string) (*process, events) {
		script, log := h.script(name, "")
		args := []string{"udhcpc", "-f", "-i", "eth0", "-s", script, "-t", "20", "-T", "1", "-R", "-O", "121"}
		return h.start(append(args, more...)...), log
	}, func(p *process) { p.signal(syscall.SIGUSR1) }, func(_ *host, p *process, _ string) { p.signal(syscall.SIGUSR2) }},
	{"dhclient", func(h *host, name string, more ...string) (*process, events) {
		script, log := h.script(name, "")
		file := filepath.Join(h.dir, name)
		args := append([]string{"dhclient", "-4", "-d", "-cf", "/dev/null", "-lf", file + ".leases", "-pf", file + ".pid",
			"-sf", script}, more...)
		return h.start(append(args, "eth0")...), log
	}, func(*process) {}, func(h *host, _ *process, name string) {
		file := filepath.Join(h.dir, name)
		h.run("dhclient", "-4", "-r", "-cf", "/dev/null", "-lf", file+".leases", "-pf", file+".pid",
			"-sf", file+".sh", "eth0")
	}},
	{"dhcpcd", func(h *host, name string, more ...string) (*process, events) {
		script, log := h.script(name, "")
		args := append([]string{"-4", "-B", "-f", "/dev/null", "-c", script, "-A", "-o",
			"domain_name_servers,domain_name,classless_static_routes,routers"}, more...)
		return h.dhcpcd(args...), log
	}, func(*process) {}, func(_ *host, p *process, _ string) { p.endWith(syscall.SIGALRM) }},
}

// dhcpcd starts dhcpcd for eth0 with folders of its own, so that it remembers nothing, and others can run.
func (h *host) dhcpcd(args ...string) *process {
	h.Helper()
	script := "for d in /run/dhcpcd /var/lib/dhcpcd; do mkdir -p $d && mount -t tmpfs none $d || exit 1; done; " +
		`exec dhcpcd "$@" eth0`
	return h.start(append([]string{"sh", "-c", script, "dhcpcd"}, args...)...)
}

func TestClientGetsRenewsAndReleases(t *testing.T) {
	for _, client := range clients4 {
		t.Run(client.program, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, client.program)
			sw, server, h := l.segment("sw"), l.host("srv"), l.host("c")
			server.plug("eth0", sw, "10.7.0.5/24")
			h.plug("eth0", sw)
			server.serve("server", l.office("", ""))
			run, log := client.start(h, "client")
			got := log.await(t, `(?i)event=bound .*`)[0]
			require.Contains(t, got, "ip=10.7.0.10/")
			require.Regexp(t, `router=10\.7\.0\.1\b`, got)
			require.Contains(t, got, "dns=10.7.0.2 10.7.0.3")
			require.Contains(t, got, "domain=office.example")
			require.Contains(t, got, "lease=6")
			require.Contains(t, got, "server=10.7.0.5")
			client.renew(run)
			log.await(t, `(?i)event=renew ip=10\.7\.0\.10/`)
			client.release(h, run, "client")
			server.awaitState("10.7.0.0/24", "10.7.0.10", "cooling")
		})
	}
}

// udhcpc is the client that the other tests use.
func (h *host) udhcpc(name string, more ...string) (*process, events) {
	h.Helper()
	return clients4[0].start(h, name, more...)
}

const bound = `event=bound ip=([0-9.]+)/`

// requireBound runs a client on the host until it has an address, and returns that.
func (h *host) requireBound(name string, more ...string) string {
	h.Helper()
	_, log := h.udhcpc(name, more...)
	return log.await(h, bound)[1]
}

// newOffice returns a lab with a server on one segment.
func newOffice(t *testing.T, top, subnet string, programs ...string) (*lab, *host, *host) {
	t.Helper()
	t.Parallel()
	l := newLab(t, append(programs, "udhcpc")...)
	sw, server := l.segment("sw"), l.host("srv")
	server.plug("eth0", sw, "10.7.0.5/24")
	server.serve("server", l.office(top, subnet))
	return l, sw, server
}

// client plugs a new host into a segment.
func (l *lab) client(name string, segment *host) *host {
	l.Helper()
	h := l.host(name)
	h.plug("eth0", segment)
	return h
}

func TestReleasedAddressStaysWithItsClient(t *testing.T) {
	l, sw, server := newOffice(t, "", "")
	a, b := l.client("a", sw), l.client("b", sw)
	run, log := a.udhcpc("a")
	require.Equal(t, "10.7.0.10", log.await(t, bound)[1])
	run.signal(syscall.SIGUSR2)
	server.awaitState("10.7.0.0/24", "10.7.0.10", "cooling")
	require.Equal(t, "10.7.0.11", b.requireBound("b"))
	require.Equal(t, "10.7.0.10", a.requireBound("again"))
}

func TestDeclinedAddressIsGivenToNobody(t *testing.T) {
	l, sw, server := newOffice(t, "", "")
	// Somebody has the first address, without the server's knowledge.
	squatter := l.host("squat")
	squatter.plug("eth0", sw, "10.7.0.10/24")
	a, b := l.client("a", sw), l.client("b", sw)
	require.Equal(t, "10.7.0.11", a.requireBound("a", "-a", "-A", "1"))
	server.awaitState("10.7.0.0/24", "10.7.0.10", "cooling")
	require.Equal(t, "10.7.0.12", b.requireBound("b"))
}

func TestRequestedAddressIsHonouredIfItCanBeHad(t *testing.T) {
	l, sw, _ := newOffice(t, "", "    exclude: [10.7.0.50]\n")
	require.Equal(t, "10.7.0.77", l.client("a", sw).requireBound("a", "-r", "10.7.0.77"))
	require.Equal(t, "10.7.0.10", l.client("b", sw).requireBound("b", "-r", "10.7.0.77"), "another client has it")
	require.Equal(t, "10.7.0.11", l.client("c", sw).requireBound("c", "-r", "10.7.0.50"), "it is excluded")
	require.Equal(t, "10.7.0.12", l.client("d", sw).requireBound("d", "-r", "10.7.0.1"), "it is the gateway")
}

func TestReservations(t *testing.T) {
	l, sw, _ := newOffice(t, "", `    reservations:
    - {hardware: "02:00:00:00:00:07", address: 10.7.0.7, hostname: node-7}
    - {clientID: "ff:00:01", address: 10.7.0.10}
`)
	node, other, third := l.client("a", sw), l.client("b", sw), l.client("c", sw)
	require.Equal(t, "10.7.0.11", other.requireBound("other", "-r", "10.7.0.7"), "reserved addresses are for no one else")
	node.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:07")
	_, log := node.udhcpc("node", "-O", "hostname")
	require.Contains(t, log.await(t, bound+".*")[0], "ip=10.7.0.7/24")
	require.Contains(t, log.String(), "host=node-7")
	require.Equal(t, "10.7.0.10", third.requireBound("third", "-C", "-x", "0x3d:ff0001"))
}
