package cnitest

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

var (
	pods = flag.Int("cni.pods", 6, "how many pods to add on each of two nodes; 64 is what Whereabouts was measured with")
	nets = flag.Int("cni.networks", 4, "how many networks each pod is in; 16 is what Whereabouts was measured with")
)

// Cluster is a test of nodes that share a server.
type Cluster struct {
	// Program is the folder of the plugin in examples/cni/cmd.
	Program string
	// Modules is the path from the folder of the test to that of the repository.
	Modules string
	// Server is the address of the server, as host:port.
	Server string
	// URL is ipam.store for a node that reaches the server at an address.
	URL func(t *testing.T, addr string) string
	// Open opens the store, by a way of its own.
	Open func(ctx context.Context) (store.Store, error)
	// Restart stops the server and starts it again.
	Restart func()
}

// failure is an error of a plugin.
type failure struct {
	Code         uint
	Msg, Details string
}

// Error returns the message and the details.
func (f *failure) Error() string { return fmt.Sprintf("code %d: %s; %s", f.Code, f.Msg, f.Details) }

// grant is what an attachment has got.
type grant struct {
	node, network int
	container     string
	addr          netip.Addr
}

// Run runs the test.
func (c Cluster) Run(t *testing.T) {
	program := c.build(t)
	nodes := []*node{newNode(t, "node-a", c), newNode(t, "node-b", c)}
	for _, n := range nodes {
		n.program = program
	}
	restarted := make(chan struct{})
	var added atomic.Int64
	go func() { // while containers are added
		defer close(restarted)
		for added.Load() < int64(*pods**nets/2) && t.Context().Err() == nil {
			time.Sleep(time.Millisecond)
		}
		c.Restart()
	}()
	began := time.Now()
	granted := addAll(t, nodes, &added)
	t.Logf("%d attachments on %d networks in %v", len(granted), *nets, time.Since(began))
	<-restarted
	c.check(t, granted)
	c.collect(t, nodes, granted)
}

func (c Cluster) build(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ipalloc")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, "./cmd/"+c.Program)
	build.Dir = filepath.Join(c.Modules, "examples", "cni")
	output, err := build.CombinedOutput()
	require.NoError(t, err, string(output))
	return path
}

// addAll adds all pods to all networks, all at once, each pod one network after the other.
func addAll(t *testing.T, nodes []*node, added *atomic.Int64) []grant {
	t.Helper()
	var mu sync.Mutex
	var granted []grant
	var errs []error
	var wait sync.WaitGroup
	for i, n := range nodes {
		for p := range *pods {
			wait.Go(func() {
				for network := range *nets {
					g := grant{node: i, network: network, container: fmt.Sprintf("%s-pod-%d", n.name, p)}
					err := n.add(t.Context(), &g)
					added.Add(1)
					mu.Lock()
					granted, errs = append(granted, g), append(errs, err)
					mu.Unlock()
				}
			})
		}
	}
	wait.Wait()
	require.NoError(t, errors.Join(errs...))
	return granted
}

// add is ADD. As a kubelet does, it deletes and tries again if the server cannot be reached.
func (n *node) add(ctx context.Context, g *grant) error {
	for deadline := time.Now().Add(2 * time.Minute); ; {
		stdout, err := n.call(ctx, "ADD", g, "")
		if err == nil {
			var result struct {
				IPs []struct{ Address netip.Prefix }
			}
			if err := json.Unmarshal(stdout, &result); err != nil {
				return err
			}
			g.addr = result.IPs[0].Address.Addr()
			return nil
		}
		var failed *failure
		if !errors.As(err, &failed) || failed.Code != 11 && failed.Code != 5 || time.Now().After(deadline) {
			return err
		}
		_, _ = n.call(ctx, "DEL", g, "")
	}
}

// config is the configuration of a network. Two networks have overlapping ranges of one network_name.
func (n *node) config(network int, more string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net-%d", "type": "macvlan", %s "ipam": {"type": "whereabouts",
		"range": "10.%d.0.0/%d", "network_name": "name-%d", "store": %q}}`,
		network, more, network/2, 16+network%2, network/2, n.url)
}

// call runs a command of the plugin in the node, for an attachment. Each network has an interface of its own.
func (n *node) call(ctx context.Context, command string, g *grant, more string) ([]byte, error) {
	c := exec.CommandContext(ctx, n.program)
	c.Env = []string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + g.container, fmt.Sprint("CNI_IFNAME=net", g.network),
		"CNI_NETNS=/run/netns/none",
		"CNI_PATH=" + filepath.Dir(n.program), "NODENAME=" + n.name,
	}
	c.Stdin = strings.NewReader(n.config(g.network, more))
	var stdout strings.Builder
	c.Stdout, c.Stderr = &stdout, os.Stderr
	err := n.start(c)
	if err == nil {
		err = c.Wait()
	}
	if err == nil {
		return []byte(stdout.String()), nil
	}
	failed := &failure{}
	if json.Unmarshal([]byte(stdout.String()), failed) == nil {
		return nil, failed
	}
	return nil, fmt.Errorf("%w: %s", err, stdout.String())
}

// check requires that no address was granted twice, and that the pools hold what was granted, and nothing else.
func (c Cluster) check(t *testing.T, granted []grant) {
	t.Helper()
	want := map[string]map[string]bool{}
	seen := map[string]string{}
	for _, g := range granted {
		name := fmt.Sprintf("whereabouts/name-%d", g.network/2)
		key := fmt.Sprint(name, " ", g.addr)
		require.Empty(t, seen[key], "%v of %s was granted twice", g.addr, name)
		seen[key] = g.container
		if want[name] == nil {
			want[name] = map[string]bool{}
		}
		want[name][g.addr.String()] = true
	}
	for name, addrs := range want {
		require.Equal(t, addrs, c.held(t, name), name)
	}
}

// held are the addresses that a pool holds. It also verifies the pool.
func (c Cluster) held(t *testing.T, name string) map[string]bool {
	t.Helper()
	s, err := c.Open(t.Context())
	require.NoError(t, err)
	defer s.Close()
	p, err := pool.Open(t.Context(), s, name, nil)
	require.NoError(t, err)
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	held := map[string]bool{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		for _, addr := range a.Addrs() {
			held[addr.String()] = true
		}
	}
	return held
}

// collect has the nodes collect garbage: each frees its own containers alone, and those of one network alone.
func (c Cluster) collect(t *testing.T, nodes []*node, granted []grant) {
	t.Helper()
	const name = "whereabouts/name-0"
	left := map[string]bool{}
	for _, g := range granted {
		if g.network/2 == 0 && (g.network != 0 || g.node != 0) {
			left[g.addr.String()] = true
		}
	}
	_, err := nodes[0].call(t.Context(), "GC", &grant{}, `"cni.dev/valid-attachments": [],`)
	require.NoError(t, err)
	require.Equal(t, left, c.held(t, name))
	for _, g := range granted {
		if g.network/2 == 0 {
			_, err := nodes[g.node].call(t.Context(), "DEL", &g, "")
			require.NoError(t, err)
		}
	}
	require.Empty(t, c.held(t, name))
}

// forward passes connections that a listener accepts on to the server, which may be gone for a while.
func forward(listener net.Listener, server string) {
	for {
		from, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer from.Close()
			to, err := net.Dial("tcp", server)
			if err != nil {
				return
			}
			defer to.Close()
			done := make(chan struct{})
			go func() {
				defer close(done)
				pass(to, from)
			}()
			pass(from, to)
			<-done
		}()
	}
}

// pass copies what comes from one connection to the other, until either ends, and then ends both.
func pass(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}
