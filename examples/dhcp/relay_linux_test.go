package main_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// relays are the programs that pass on DHCPv4 from the host's interface downlink to the server 10.6.0.5.
var relays = map[string]func(h *host){
	"dhcrelay": func(h *host) {
		// With option 82.
		h.start("dhcrelay", "-4", "-d", "-a", "-id", "downlink", "-iu", "uplink", "-pf",
			filepath.Join(h.dir, "relay.pid"), "10.6.0.5")
	},
	"dnsmasq": func(h *host) {
		h.start("dnsmasq", "-k", "-C", "/dev/null", "-p", "0", "--dhcp-relay=10.7.0.1,10.6.0.5", "-i", "downlink",
			"-x", filepath.Join(h.dir, "relay.pid"), "--log-facility=-", "-u", "root")
	},
}

func TestRelay(t *testing.T) {
	for name, start := range relays {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, name, "udhcpc")
			near, far := l.segment("near"), l.segment("far")
			server, relay := l.host("srv"), l.host("relay")
			server.plug("eth0", near, "10.6.0.5/24")
			relay.plug("uplink", near, "10.6.0.9/24")
			relay.plug("downlink", far, "10.7.0.1/24")
			relay.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
			server.run("ip", "route", "add", "10.7.0.0/24", "via", "10.6.0.9")
			server.serve("server", `
store: file://`+l.dir+`/leases.db
http: 127.0.0.1:8067
networks:
- {name: here, interface: eth0, subnets: [{subnet: 10.6.0.0/24, pools: [10.6.0.100-10.6.0.199]}]}
- name: there
  relayed: true
  subnets:
  - {subnet: 10.7.0.0/24, pools: [10.7.0.10], gateway: 10.7.0.1}
  - {subnet: 10.7.1.0/24, pools: [10.7.1.10-10.7.1.99], gateway: 10.7.1.1}
`)
			start(relay)
			require.Equal(t, "10.6.0.100", l.client("here", near).requireBound("here"))
			h := l.client("a", far)
			run, log := h.udhcpc("a")
			require.Equal(t, "10.7.0.10", log.await(t, bound)[1])
			// The other subnet of the shared network, when the first is full.
			require.Equal(t, "10.7.1.10", l.client("b", far).requireBound("b"))
			if name == "dhcrelay" {
				server.awaitPage(`/lookup?addr=10.7.0.10&format=json`, `"circuit": ?"646f776e6c696e6b/`)
			}
			clients4[0].renew(run)
			log.await(t, `event=renew ip=10\.7\.0\.10/`)
		})
	}
}
