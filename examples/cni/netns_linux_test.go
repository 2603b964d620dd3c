package cni_test

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/containernetworking/plugins/pkg/testutils"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
)

// requireNamespaces skips the test where network namespaces cannot be made; in CI it fails.
func requireNamespaces(t testing.TB) {
	t.Helper()
	err := errors.New("network namespaces need root")
	if os.Geteuid() == 0 {
		var probe ns.NetNS
		if probe, err = testutils.NewNS(); err == nil {
			err = errors.Join(probe.Close(), testutils.UnmountNS(probe))
		}
	}
	unmet.Skip(t, err)
}

// newNamespace returns a namespace that is removed at the end of the test.
func newNamespace(t testing.TB) ns.NetNS {
	t.Helper()
	space, err := testutils.NewNS()
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = space.Close()
		_ = testutils.UnmountNS(space)
	})
	return space
}

// host is a node that is a network namespace, in which the plugins of a network run.
type host struct {
	*node
	space   ns.NetNS
	network string
	dir     string // of the network's configuration, and of the programs
}

// hosts is how many there were.
var hosts atomic.Int64

// newHost returns a host whose network has a plugin with these keys, and a section ipam with those. Its interface
// uplink is for plugins that want one.
func newHost(t testing.TB, plugin, ipam string) *host {
	t.Helper()
	requireNamespaces(t)
	h := &host{node: newNode(t), space: newNamespace(t), dir: t.TempDir()}
	h.network = fmt.Sprintf("ipalloc-test-%d-%d", os.Getpid(), hosts.Add(1))
	for _, program := range []string{"bridge", "macvlan", "ptp"} {
		path := tool(t, "github.com/containernetworking/plugins/plugins/main/"+program)
		require.NoError(t, os.Symlink(path, filepath.Join(h.dir, program)))
	}
	require.NoError(t, os.Symlink(h.plugin, filepath.Join(h.dir, "ipalloc")))
	if !strings.Contains(ipam, `"store"`) {
		ipam += fmt.Sprintf(`, "store": "file://%s"`, h.file())
	}
	list := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": %q, "plugins": [{%s, "ipam": {"type": "ipalloc", %s}}]}`,
		h.network, plugin, ipam)
	require.NoError(t, os.WriteFile(filepath.Join(h.dir, "net.conflist"), []byte(list), 0o600))
	require.NoError(t, h.space.Do(func(ns.NetNS) error { return addUplink() }))
	return h
}

// addUplink adds an interface that is up, as the one to the outside is.
func addUplink() error {
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "uplink"}, PeerName: "outside"}
	if err := netlink.LinkAdd(pair); err != nil {
		return err
	}
	for _, name := range []string{"lo", "uplink", "outside"} {
		link, err := netlink.LinkByName(name)
		if err == nil {
			err = netlink.LinkSetUp(link)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// cnitool runs a command of cnitool on the host, for a container.
func (h *host) cnitool(t testing.TB, command string, container ns.NetNS) ([]byte, error) {
	t.Helper()
	program := tool(t, "github.com/containernetworking/cni/cnitool")
	var stdout, stderr bytes.Buffer
	err := h.space.Do(func(ns.NetNS) error {
		c := exec.Command(program, command, h.network, container.Path()) // also when the test is over
		c.Env = []string{"CNI_PATH=" + h.dir, "NETCONFPATH=" + h.dir, "NODENAME=" + h.name, "PATH=" + os.Getenv("PATH")}
		c.Stdout, c.Stderr = &stdout, &stderr
		return c.Run()
	})
	if err != nil {
		err = fmt.Errorf("cnitool %s: %w: %s%s", command, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.Bytes(), err
}

// attach runs ADD for a container. DEL comes at the end of the test at the latest.
func (h *host) attach(t testing.TB, container ns.NetNS) []netip.Addr {
	t.Helper()
	t.Cleanup(func() { _, _ = h.cnitool(t, "del", container) })
	stdout, err := h.cnitool(t, "add", container)
	require.NoError(t, err)
	var addrs []netip.Addr
	for _, ip := range parse(t, stdout).IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		addrs = append(addrs, addr.Unmap())
	}
	requireInterface(t, container, addrs)
	return addrs
}

func (h *host) detach(t testing.TB, container ns.NetNS) {
	t.Helper()
	_, err := h.cnitool(t, "del", container)
	require.NoError(t, err)
}

// requireInterface requires that the container's interface has the addresses, and no others but link-local ones.
func requireInterface(t testing.TB, container ns.NetNS, want []netip.Addr) {
	t.Helper()
	var got []netip.Addr
	require.NoError(t, container.Do(func(ns.NetNS) error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		addrs, err := link.Addrs()
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil && !prefix.Addr().IsLinkLocalUnicast() {
				got = append(got, prefix.Addr())
			}
		}
		return err
	}))
	require.ElementsMatch(t, want, got)
}

// ping sends echo requests from a container until one is answered.
func ping(t testing.TB, from ns.NetNS, to netip.Addr) {
	t.Helper()
	listen, message, protocol := "ip4:icmp", icmp.Message{Type: ipv4.ICMPTypeEcho}, 1
	reply := icmp.Type(ipv4.ICMPTypeEchoReply)
	if to.Is6() {
		listen, message.Type, protocol, reply = "ip6:ipv6-icmp", ipv6.ICMPTypeEchoRequest, 58, ipv6.ICMPTypeEchoReply
	}
	message.Body = &icmp.Echo{ID: os.Getpid() & 0xffff, Seq: 1, Data: []byte("ipalloc")}
	packet, err := message.Marshal(nil)
	require.NoError(t, err)
	require.NoError(t, from.Do(func(ns.NetNS) error {
		conn, err := icmp.ListenPacket(listen, "")
		if err != nil {
			return err
		}
		defer conn.Close()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
			// It fails until duplicate address detection is over.
			if _, err = conn.WriteTo(packet, &net.IPAddr{IP: to.AsSlice()}); err == nil {
				err = awaitReply(conn, protocol, reply, to)
			}
			if err == nil {
				return nil
			}
		}
		return fmt.Errorf("%v does not answer: %w", to, err)
	}))
}

// awaitReply waits a while for a reply from an address.
func awaitReply(conn *icmp.PacketConn, protocol int, reply icmp.Type, from netip.Addr) error {
	if err := conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		return err
	}
	buffer := make([]byte, 1500)
	for {
		n, peer, err := conn.ReadFrom(buffer)
		if err != nil {
			return err
		}
		message, err := icmp.ParseMessage(protocol, buffer[:n])
		if err == nil && message.Type == reply && peer.String() == from.String() {
			return nil
		}
	}
}

// ipams are what each plugin is tried with: configurations of v4, v6 and both.
var ipams = map[string]string{
	"v4":   `"range": "10.0.0.0/24", "gateway": "10.0.0.1", "routes": [{"dst": "0.0.0.0/0"}]`,
	"v6":   `"range": "2001:db8::/64", "gateway": "2001:db8::1", "routes": [{"dst": "::/0"}]`,
	"dual": `"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "2001:db8::/64", "gateway": "2001:db8::1"}]]`,
}

// The reference plugins give a container's interface its addresses, and containers reach one another.
func TestReferencePlugins(t *testing.T) {
	for plugin, keys := range map[string]string{
		"bridge":  `"type": "bridge", "bridge": "br0", "isGateway": true`,
		"macvlan": `"type": "macvlan", "master": "uplink"`,
		"ptp":     `"type": "ptp"`,
	} {
		for families, ipam := range ipams {
			t.Run(plugin+" "+families, func(t *testing.T) {
				t.Parallel()
				h := newHost(t, keys, ipam)
				_, err := h.cnitool(t, "status", h.space)
				require.NoError(t, err)
				a, b := newNamespace(t), newNamespace(t)
				atA, atB := h.attach(t, a), h.attach(t, b)
				require.Len(t, atA, map[string]int{"dual": 2}[families]+map[string]int{"v4": 1, "v6": 1}[families])
				for i := range atA {
					require.NotEqual(t, atA[i], atB[i])
					ping(t, a, atB[i])
					ping(t, b, atA[i])
				}
				h.lifeCycle(t, a, atA)
			})
		}
	}
}

// poolName is that of the host's pool.
func (h *host) poolName(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, "net.conflist"))
	require.NoError(t, err)
	if bytes.Contains(text, []byte(`"range"`)) {
		return "whereabouts/"
	}
	return h.network
}

// lifeCycle has CHECK, DEL, ADD again and GC follow an ADD, of two containers.
func (h *host) lifeCycle(t *testing.T, a ns.NetNS, atA []netip.Addr) {
	_, err := h.cnitool(t, "check", a)
	require.NoError(t, err)
	held := h.held(t, h.poolName(t))
	require.Len(t, held, 2)
	var owner string
	for o, addrs := range held {
		if addrs[0] == atA[0] {
			owner = o
		}
	}
	require.Equal(t, atA, held[owner])

	// Somebody else takes away what a container has. CHECK notices.
	h.look(t, h.poolName(t), func(p *pool.Pool) {
		_, err := p.Release(t.Context(), pool.Held{Owner: owner})
		require.NoError(t, err)
	})
	_, err = h.cnitool(t, "check", a)
	require.ErrorContains(t, err, "it holds no address")

	h.detach(t, a)
	h.detach(t, a)
	again := h.attach(t, a)
	if h.poolName(t) != h.network { // the lowest free one, not the next after the last
		require.Equal(t, atA, again)
	}
	// GC frees what is gone.
	_, err = h.cnitool(t, "gc", a)
	require.NoError(t, err)
	require.Empty(t, h.held(t, h.poolName(t)))
}

// Containers that are added at once have an address each.
func TestManyNamespaces(t *testing.T) {
	h := newHost(t, `"type": "bridge", "bridge": "br0", "isGateway": true`, ipams["dual"])
	containers := make([]ns.NetNS, *namespaces)
	for i := range containers {
		containers[i] = newNamespace(t)
	}
	t.Cleanup(func() { _, _ = h.cnitool(t, "gc", h.space) })
	results := make([][]byte, len(containers))
	require.NoError(t, inParallel(len(containers), func(i int) (err error) {
		results[i], err = h.cnitool(t, "add", containers[i])
		return err
	}))
	seen := map[string]bool{}
	for _, result := range results {
		for _, ip := range parse(t, result).IPs {
			require.False(t, seen[ip.Address.String()], ip)
			seen[ip.Address.String()] = true
		}
	}
	require.Len(t, seen, 2*len(containers))
	require.Len(t, h.held(t, h.network), len(containers))
	last := parse(t, results[len(results)-1])
	for _, ip := range last.IPs {
		addr, _ := netip.AddrFromSlice(ip.Address.IP)
		ping(t, containers[0], addr.Unmap())
	}
	_, err := h.cnitool(t, "gc", h.space)
	require.NoError(t, err)
	require.Empty(t, h.held(t, h.network))
}

// An ADD of a whole chain of plugins that is killed at any time loses nothing: DEL, which the runtime then runs, frees
// what there is, and ADD works again.
func TestKilledChain(t *testing.T) {
	h := newHost(t, `"type": "bridge", "bridge": "br0"`, `"range": "10.0.0.0/29"`)
	container := newNamespace(t)
	began := time.Now()
	h.attach(t, container)
	usual := time.Since(began)
	h.detach(t, container)
	program := tool(t, "github.com/containernetworking/cni/cnitool")
	for i := range *kills / 6 {
		require.NoError(t, h.space.Do(func(ns.NetNS) error {
			c := exec.CommandContext(t.Context(), program, "add", h.network, container.Path())
			c.Env = []string{"CNI_PATH=" + h.dir, "NETCONFPATH=" + h.dir, "NODENAME=" + h.name}
			c.SysProcAttr = ownGroup()
			if err := c.Start(); err != nil {
				return err
			}
			time.Sleep(usual * time.Duration(i) / time.Duration(*kills/6))
			killGroup(c.Process)
			_ = c.Wait()
			return nil
		}))
		h.detach(t, container)
		require.Empty(t, h.held(t, "whereabouts/"))
	}
	require.Equal(t, []netip.Addr{addr("10.0.0.1")}, h.attach(t, container))
}
