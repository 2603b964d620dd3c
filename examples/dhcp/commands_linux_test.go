package main_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// command runs the program on the host with a configuration, and returns what it writes.
func (h *host) command(configuration string, args ...string) (string, error) {
	h.Helper()
	path := filepath.Join(h.dir, "command.yaml")
	require.NoError(h, writeFile(path, configuration))
	program, err := build()
	require.NoError(h, err)
	all := append([]string{"netns", "exec", h.name, program, args[0], "-config", path}, args[1:]...)
	output, err := exec.Command("ip", all...).CombinedOutput()
	return string(output), err
}

// requireRefused requires that serve fails, and says why.
func (h *host) requireRefused(want, configuration string) {
	h.Helper()
	output, err := h.command(configuration, "serve")
	require.Error(h, err, "%s", output)
	require.Contains(h, output, want)
	require.Equal(h, 1, strings.Count(output, "\n"), "%s", output)
}

func TestServerFailsClearly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	sw, server := l.segment("sw"), l.host("srv")
	server.plug("eth0", sw, "10.7.0.5/24")
	network := func(text string) string { return "store: file://" + l.dir + "/x.db\nnetworks:\n- " + text + "\n" }
	subnet := "subnets: [{subnet: 10.7.0.0/24, pools: [10.7.0.2-10.7.0.9]}]}"
	server.requireRefused(`network "a": subnet 10.7.0.0/24: pools have 10.7.0.5: it is the server's own`,
		network("{name: a, interface: eth0, "+subnet))
	server.requireRefused(`network "a": this machine has no interface "eth9", only ["lo" "eth0"]`,
		network("{name: a, interface: eth9, "+subnet))
	server.requireRefused(`network "a": it has no interface, and is not relayed`, network("{name: a, "+subnet))
	server.requireRefused(`interface "eth0" has no address in [10.8.0.0/24], only [10.7.0.5`,
		network("{name: a, interface: eth0, subnets: [{subnet: 10.8.0.0/24, pools: [10.8.0.9]}]}"))
	server.requireRefused(`line 3: "pool" is no key of a subnet`,
		network("{name: a, interface: eth0, subnets: [{subnet: 10.8.0.0/24, pool: [10.8.0.9]}]}"))
	server.requireRefused(`store "redis://127.0.0.1": "redis" is none of the schemes`,
		strings.Replace(network("{name: a, relayed: true, "+subnet), "file://"+l.dir+"/x.db", "redis://127.0.0.1", 1))

	good := network("{name: a, interface: eth0, subnets: [{subnet: 10.7.0.0/24, pools: [10.7.0.10-10.7.0.19]}]}")
	server.serve("good", good)
	server.requireRefused("leases.db", strings.Replace(good, "x.db", "x.db/leases.db", 1))
	server.requireRefused(`UDP port 67 of interface "eth0" is in use: another DHCP server runs here`,
		strings.Replace(good, "x.db", "y.db", 1))
	server.requireRefused("x.db", good) // it is locked by the first
}

func TestServerWithoutRightsFailsClearly(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	server := l.host("srv")
	server.plug("eth0", l.segment("sw"), "10.7.0.5/24")
	program, err := build()
	require.NoError(t, err)
	configuration := filepath.Join(l.dir, "c.yaml")
	require.NoError(t, writeFile(configuration, l.office("", "")))
	mustRun(t, "chmod", "-R", "a+rwX", l.dir, filepath.Dir(program))
	output, err := exec.Command("ip", "netns", "exec", server.name, "setpriv", "--reuid=65534", "--regid=65534",
		"--clear-groups", program, "serve", "-config", configuration).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), `no right to UDP port 67 of interface "eth0": run as root, or with`)
}

// Leases of dnsmasq go on with this server, and become reservations.
func TestAdoptAndKeep(t *testing.T) {
	t.Parallel()
	l := newLab(t, "udhcpc")
	sw, server, h := l.segment("sw"), l.host("srv"), l.host("c")
	server.plug("eth0", sw, "10.7.0.5/24")
	h.plug("eth0", sw)
	h.run("ip", "link", "set", "eth0", "address", "02:00:00:00:00:21")
	file := filepath.Join(l.dir, "dnsmasq.leases")
	require.NoError(t, writeFile(file, "4000000000 02:00:00:00:00:21 10.7.0.77 one *\n"+
		"4000000000 02:00:00:00:00:22 10.9.9.9 two *\n"))
	configuration := strings.Replace(l.office("sticky: -1s", ""), "lease: 6s", "lease: 61s", 1)
	output, err := server.command(configuration, "adopt", "-format", "dnsmasq", file)
	require.Error(t, err)
	require.Contains(t, output, "10.7.0.77/32 hw:02:00:00:00:00:21\n")
	require.Contains(t, output, "10.9.9.9/32 hw:02:00:00:00:00:22: not adopted: in no pool: 10.9.9.9/32")
	output, err = server.command(configuration, "keep")
	require.NoError(t, err, output)
	require.Equal(t, "10.7.0.77/32 hw:02:00:00:00:00:21\n", output)

	p := server.serve("server", configuration)
	run, log := h.udhcpc("c", "-C")
	require.Equal(t, "10.7.0.77", log.await(t, bound)[1])
	run.signal(syscall.SIGUSR2)
	server.awaitState("10.7.0.0/24", "10.7.0.77", "reserved")
	require.NotEqual(t, "10.7.0.77", l.client("d", sw).requireBound("d", "-r", "10.7.0.77"))
	p.signal(syscall.SIGTERM)
	<-p.done
	require.NoError(t, err)

	output, err = server.command(configuration, "unkeep")
	require.NoError(t, err, output)
	require.Equal(t, "10.7.0.77/32 hw:02:00:00:00:00:21\n", output)
	server.serve("server", configuration)
	require.Equal(t, "10.7.0.77", l.client("e", sw).requireBound("e", "-r", "10.7.0.77"))
}

func TestWrongUsage(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	h := l.host("h")
	for _, test := range []struct{ want, command string }{
		{`"sevre" is no command`, "sevre"},
		{"want -format isc, dnsmasq or kea", "adopt"},
	} {
		output, err := h.command(l.office("", ""), test.command)
		require.Error(t, err)
		require.Contains(t, output, test.want)
	}
	output, err := h.command(l.office("", ""), "check")
	require.NoError(t, err, output)
	_, err = h.command("networks: 7", "check")
	require.Error(t, err)
}
