package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// tool builds a program that go.mod names, and returns its path.
func tool(t testing.TB, dir, pkg string) string {
	t.Helper()
	path := filepath.Join(dir, filepath.Base(pkg))
	output, err := exec.Command("go", "build", "-o", path, pkg).CombinedOutput()
	require.NoError(t, err, "%s", output)
	return path
}

// The reference plugin dhcp leases an address for a container by its daemon.
func TestCNIPluginDHCP(t *testing.T) {
	t.Parallel()
	l := newLab(t, "udhcpc")
	plugins := filepath.Join(l.dir, "plugins")
	require.NoError(t, os.Mkdir(plugins, 0o755))
	const project = "github.com/containernetworking/"
	for _, pkg := range []string{"plugins/plugins/ipam/dhcp", "plugins/plugins/main/macvlan", "cni/cnitool"} {
		tool(t, plugins, project+pkg)
	}
	sw, server, node, container := l.segment("sw"), l.host("srv"), l.host("node"), l.host("pod")
	server.plug("eth0", sw, "10.7.0.5/24")
	node.plug("eth0", sw)
	server.serve("server", l.office("offer: 1s", ""))
	// The plugin and its daemon meet at a socket, which is the test's own.
	socket := filepath.Join(l.dir, "dhcp.sock")
	ipam, err := os.ReadFile("testdata/dhcp.json")
	require.NoError(t, err)
	ipamText := strings.Replace(string(ipam), `"type": "dhcp"`, `"type": "dhcp", "daemonSocketPath": "`+socket+`"`, 1)
	conflist := `{"cniVersion": "1.0.0", "name": "lan", "plugins": [{"type": "macvlan", "master": "eth0", ` +
		strings.Trim(strings.TrimSpace(ipamText), "{}") + `}]}`
	require.NoError(t, writeFile(filepath.Join(l.dir, "lan.conflist"), conflist))
	node.start(filepath.Join(plugins, "dhcp"), "daemon", "-socketpath", socket, "-timeout", "30s")
	require.Eventually(t, func() bool { _, err := os.Stat(socket); return err == nil }, patience, 10*time.Millisecond)
	cni := func(command string) string {
		return node.run("env", "CNI_PATH="+plugins, "NETCONFPATH="+l.dir, filepath.Join(plugins, "cnitool"), command, "lan",
			"/run/netns/"+container.name)
	}
	require.Contains(t, cni("add"), `"address": "10.7.0.10/24"`)
	require.Contains(t, container.run("ip", "-4", "addr", "show", "eth0"), "10.7.0.10/24")
	server.awaitPage("/lookup?addr=10.7.0.10&format=json", `"state": "allocated"`)
	cni("del")
	// The plugin sends its release from 0.0.0.0 to the address of the server, which Linux does not deliver to a UDP
	// socket. So the lease ends when its time is over.
	time.Sleep(7 * time.Second)
	require.Equal(t, "10.7.0.10", l.client("next", sw).requireBound("next", "-r", "10.7.0.10"))
}
