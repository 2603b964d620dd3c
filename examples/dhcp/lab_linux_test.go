package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/unmet"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// requirePrograms skips the test where it is not root, or a program is missing; in CI it fails.
func requirePrograms(t testing.TB, programs ...string) {
	t.Helper()
	var err error
	if os.Geteuid() != 0 {
		err = errors.New("network namespaces need root")
	}
	for _, program := range append(programs, "ip", "curl") {
		err = errors.Join(err, func() error { _, err := exec.LookPath(program); return err }())
	}
	unmet.Skip(t, err)
}

var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "dhcpalloc")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "dhcpalloc")
	if output, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := build(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// lab is a network of namespaces that goes away with the test. Its names are short, since interfaces have them.
type lab struct {
	testing.TB
	dir    string
	prefix string
	links  int
}

var labs atomic.Int64

func newLab(t testing.TB, programs ...string) *lab {
	t.Helper()
	requirePrograms(t, programs...)
	// Not the test's own folder: a client that is being killed may still write.
	dir, err := os.MkdirTemp("", "dhcplab")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return &lab{TB: t, dir: dir, prefix: fmt.Sprintf("dh%d-%d-", os.Getpid(), labs.Add(1))}
}

// host is a namespace.
type host struct {
	*lab
	name string
}

// host makes a namespace, whose IPv6 addresses are not checked for duplicates, which takes seconds.
func (l *lab) host(name string) *host {
	l.Helper()
	h := &host{lab: l, name: l.prefix + name}
	mustRun(l, "ip", "netns", "add", h.name)
	l.Cleanup(func() {
		// A client that was killed may have left others of its own.
		pids, _ := exec.Command("ip", "netns", "pids", h.name).Output()
		for _, pid := range strings.Fields(string(pids)) {
			if n, err := strconv.Atoi(pid); err == nil {
				_ = syscall.Kill(n, syscall.SIGKILL)
			}
		}
		_ = exec.Command("ip", "netns", "del", h.name).Run()
	})
	h.run("sh", "-c", "for i in all default; do echo 0 >/proc/sys/net/ipv6/conf/$i/accept_dad; done")
	h.run("ip", "link", "set", "lo", "up")
	return h
}

// run runs a program on the host, which must succeed.
func (h *host) run(args ...string) string {
	h.Helper()
	return mustRun(h, append([]string{"ip", "netns", "exec", h.name}, args...)...)
}

func mustRun(t testing.TB, args ...string) string {
	t.Helper()
	output, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	require.NoError(t, err, "%q: %s", args, output)
	return string(output)
}

// segment makes a switch that the interfaces of hosts are plugged into.
func (l *lab) segment(name string) *host {
	l.Helper()
	s := l.host(name)
	s.run("ip", "link", "add", "bridge0", "type", "bridge")
	s.run("ip", "link", "set", "bridge0", "up")
	return s
}

// plug gives the host an interface in a segment, with addresses.
func (h *host) plug(iface string, segment *host, addrs ...string) {
	h.Helper()
	h.links++
	port := fmt.Sprintf("p%d", h.links)
	segment.run("ip", "link", "add", port, "type", "veth", "peer", "name", iface, "netns", h.name)
	segment.run("ip", "link", "set", port, "master", "bridge0", "up")
	for _, addr := range addrs {
		h.run("ip", "addr", "add", addr, "dev", iface)
	}
	h.run("ip", "link", "set", iface, "up")
}

// process is a program that runs on a host.
type process struct {
	*exec.Cmd
	name   string
	output *buffer
	done   chan struct{}
}

// buffer is what a process has written.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// start starts a program on the host. It is killed at the end of the test.
func (h *host) start(args ...string) *process {
	h.Helper()
	c := exec.Command("ip", append([]string{"netns", "exec", h.name}, args...)...)
	p := &process{Cmd: c, name: args[0], output: new(buffer), done: make(chan struct{})}
	c.Stdout, c.Stderr = p.output, p.output
	c.WaitDelay = time.Second
	require.NoError(h, c.Start())
	go func() {
		_ = c.Wait()
		close(p.done)
	}()
	h.Cleanup(func() {
		p.kill()
		if h.Failed() {
			h.Logf("%q:\n%s", args, p.output)
		}
	})
	return p
}

func (p *process) kill() { p.signal(syscall.SIGKILL); <-p.done }

func (p *process) signal(s syscall.Signal) { _ = p.Process.Signal(s) }

// endWith sends a signal until the process ends: dhcpcd may lose one that comes while it renews.
func (p *process) endWith(s syscall.Signal) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		p.signal(s)
		select {
		case <-p.done:
			return
		case <-time.After(2 * time.Second):
		}
	}
}

// serve writes a configuration and starts a server on the host.
func (h *host) serve(name, configuration string) *process {
	h.Helper()
	path := filepath.Join(h.dir, name+".yaml")
	require.NoError(h, os.WriteFile(path, []byte(configuration), 0o600))
	program, err := build()
	require.NoError(h, err)
	p := h.start(program, "serve", "-config", path)
	p.await(h, "(?m)^ready$")
	return p
}

// await waits until the process has written what matches the pattern, and returns the submatches of the last match.
func (p *process) await(t testing.TB, pattern string) []string {
	t.Helper()
	return await(t, p.output.String, pattern)
}

func await(t testing.TB, text func() string, pattern string) []string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if found := re.FindAllStringSubmatch(text(), -1); found != nil {
			return found[len(found)-1]
		}
	}
	require.FailNow(t, "never came", "%s in:\n%s", pattern, text())
	return nil
}

// events is what a client's script was called with: one line a call, of the variables that matter.
type events struct{ path string }

func (e events) String() string {
	text, _ := os.ReadFile(e.path)
	return string(text)
}

func (e events) await(t testing.TB, pattern string) []string {
	t.Helper()
	return await(t, e.String, pattern)
}

// script makes a script for a client to call, which configures the interface and writes down what it was called with.
// extra are more lines of it.
func (h *host) script(name, extra string) (path string, log events) {
	h.Helper()
	path, log = filepath.Join(h.dir, name+".sh"), events{filepath.Join(h.dir, name+".events")}
	text := `#!/bin/sh
# udhcpc says $1 and $ip, dhclient and dhcpcd $reason and $new_ip_address.
` + extra + `
echo "event=${1:-$reason} ip=${ip:-$new_ip_address}/${mask:-$new_subnet_mask} router=${router:-$new_routers}" \
	"dns=${dns:-$new_domain_name_servers} domain=${domain:-$new_domain_name} lease=${lease:-$new_dhcp_lease_time}" \
	"routes=${staticroutes:-$new_rfc3442_classless_static_routes} server=${serverid:-$new_dhcp_server_identifier}" \
	"host=${hostname:-$new_host_name}" \
	"ip6=$new_ip6_address$ipv6 prefix6=$new_ip6_prefix dns6=$new_dhcp6_name_servers" >>` + log.path + `
case $1 in
bound) ip addr replace $ip/$mask dev $interface ;;
deconfig) ip -4 addr flush dev $interface ;;
esac
case $reason in
BOUND|REBOOT) [ -z "$new_ip_address" ] || ip addr replace $new_ip_address/$new_subnet_mask dev $interface ;;
EXPIRE|FAIL|RELEASE|STOP) ip -4 addr flush dev $interface ;;
BOUND6) [ -z "$new_ip6_address" ] || ip addr replace $new_ip6_address/128 dev $interface ;;
esac
exit 0
`
	require.NoError(h, os.WriteFile(path, []byte(text), 0o755))
	return path, log
}

// page returns a debug page of the server on the host.
func (h *host) page(path string) string {
	output, _ := exec.Command("ip", "netns", "exec", h.name, "curl", "-s", "http://127.0.0.1:8067"+path).Output()
	return string(output)
}

// awaitPage waits until the debug page matches the pattern.
func (h *host) awaitPage(path, pattern string) {
	h.Helper()
	await(h, func() string { return h.page(path) }, pattern)
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }

// awaitState waits until an address or a prefix is in a state, as the debug page of its pool says.
func (h *host) awaitState(pool, prefix, state string) {
	h.Helper()
	var path strings.Builder
	for _, c := range []byte(pool) {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' {
			path.WriteByte(c)
		} else {
			fmt.Fprintf(&path, "~%02X", c)
		}
	}
	h.awaitPage("/pool/"+path.String()+"?format=text", `(?m)^.*\b`+regexp.QuoteMeta(prefix)+`\b.*\b`+state+`\b`)
}
