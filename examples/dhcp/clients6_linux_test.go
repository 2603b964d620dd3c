package main_test

import (
	"fmt"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// office6 is a configuration of one link with IPv6 addresses and prefixes to delegate.
func (l *lab) office6(link string) string {
	return fmt.Sprintf(`
store: file://%s/leases.db
http: 127.0.0.1:8067
authoritative: true
interfaces: [eth0]
networks:
- name: office
  %s
  lease: 10s
  subnets:
  - subnet: 2001:db8:7::/64
    pools: [2001:db8:7::1000-2001:db8:7::1fff]
    dns: ["2001:db8:7::53"]
    search: [office.example]
    prefixes: [{prefix: "2001:db8:f000::/40", length: 56}]
`, l.dir, link)
}

// client6 is a DHCPv6 client that asks for an address and a prefix.
type client6 struct {
	program string
	start   func(h *host, name string) (*process, events)
	release func(h *host, p *process, name string)
}

func dhclient6(h *host, name, script string, more ...string) []string {
	file := filepath.Join(h.dir, name)
	args := []string{"dhclient", "-6", "-cf", "/dev/null", "-lf", file + ".leases", "-pf", file + ".pid", "-sf", script}
	return append(append(args, more...), "eth0")
}

var clients6 = []client6{
	{"dhclient", func(h *host, name string) (*process, events) {
		script, log := h.script(name, "")
		return h.start(dhclient6(h, name, script, "-d", "-N", "-P")...), log
	}, func(h *host, _ *process, name string) {
		h.run(dhclient6(h, name, filepath.Join(h.dir, name+".sh"), "-N", "-P", "-r")...)
	}},
	{"dhcpcd", func(h *host, name string) (*process, events) {
		script, log := h.script(name, "")
		require.NoError(h, writeFile(filepath.Join(h.dir, name+".conf"),
			"noipv6rs\nipv6only\ninterface eth0\nia_na 1\nia_pd 2\noption dhcp6_name_servers\n"))
		return h.dhcpcd("-6", "-B", "-f", filepath.Join(h.dir, name+".conf"), "-c", script), log
	}, func(_ *host, p *process, _ string) { p.endWith(syscall.SIGALRM) }},
}

func TestClient6GetsRenewsAndReleases(t *testing.T) {
	for _, client := range clients6 {
		t.Run(client.program, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, client.program)
			sw, server := l.segment("sw"), l.host("srv")
			server.plug("eth0", sw)
			h := l.client("c", sw)
			server.serve("server", l.office6("interface: eth0"))
			run, log := client.start(h, "client")
			log.await(t, `event=BOUND6 .*2001:db8:7::53`)
			server.awaitPage(`/lookup?addr=2001:db8:7::1000&format=json`, `duid:[0-9a-f]*/na/`)
			server.awaitPage(`/lookup?addr=2001:db8:f000::&format=json`, `duid:[0-9a-f]*/pd/`)
			log.await(t, `event=RENEW6`)
			client.release(h, run, "client")
			server.awaitState("2001:db8:7::/64", "2001:db8:7::1000", "cooling")
			server.awaitState("pd 2001:db8:f000::/40", "2001:db8:f000::/56", "cooling")
		})
	}
}

// A client whose script says that the address is in use declines it.
func TestClient6Declines(t *testing.T) {
	t.Parallel()
	l := newLab(t, "dhclient")
	sw, server := l.segment("sw"), l.host("srv")
	server.plug("eth0", sw)
	h := l.client("c", sw)
	server.serve("server", l.office6("interface: eth0"))
	script, log := h.script("client", `[ "$new_ip6_address" != 2001:db8:7::1000 ] || exit 3`)
	h.start(dhclient6(h, "client", script, "-d", "-N")...)
	log.await(t, `event=BOUND6 .*ip6=2001:db8:7::1001`)
	server.awaitState("2001:db8:7::/64", "2001:db8:7::1000", "cooling")
}

func TestRelay6(t *testing.T) {
	t.Parallel()
	l := newLab(t, "dhcrelay", "dhclient")
	near, far := l.segment("near"), l.segment("far")
	server, relay := l.host("srv"), l.host("relay")
	server.plug("eth0", near, "2001:db8:1::5/64")
	relay.plug("uplink", near, "2001:db8:1::9/64")
	relay.plug("downlink", far, "2001:db8:7::1/64")
	server.run("ip", "route", "add", "2001:db8:7::/64", "via", "2001:db8:1::9")
	server.serve("server", l.office6("relayed: true"))
	relay.start("dhcrelay", "-6", "-d", "-I", "-l", "downlink", "-u", "2001:db8:1::5%uplink",
		"-pf", filepath.Join(l.dir, "relay.pid"))
	h := l.client("c", far)
	_, log := clients6[0].start(h, "client")
	log.await(t, `event=BOUND6 .*ip6=2001:db8:7::1000`)
	server.awaitPage(`/lookup?addr=2001:db8:7::1000&format=json`, `"circuit"`)
	log.await(t, `event=RENEW6`)
}
