package cni_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// binaries is the folder of the programs that the tests run.
var binaries string

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if binaries, err = os.MkdirTemp("", "ipalloc-cni-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(binaries)
	return m.Run()
}

var built sync.Map // of func() (string, error), by package

// build builds a program once, and returns its path.
func build(t testing.TB, pkg string) string {
	t.Helper()
	return once(t, pkg, func() (string, error) {
		path := filepath.Join(binaries, filepath.Base(pkg))
		output, err := exec.Command("go", "build", "-ldflags=-s -w", "-o", path, pkg).CombinedOutput()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, output)
		}
		return path, err
	})
}

// tool is the path of a program of another module, which go.mod names as a tool. Go keeps it when it is built.
func tool(t testing.TB, pkg string) string {
	t.Helper()
	return once(t, pkg, func() (string, error) {
		path, err := exec.Command("go", "tool", "-n", pkg).Output()
		return strings.TrimSpace(string(path)), err
	})
}

func once(t testing.TB, pkg string, prepare func() (string, error)) string {
	t.Helper()
	first, _ := built.LoadOrStore(pkg, sync.OnceValues(prepare))
	path, err := first.(func() (string, error))()
	require.NoError(t, err)
	return path
}

// node is where a plugin runs.
type node struct {
	plugin string
	dir    string // of host-local's files, and of the file of the pools
	name   string
}

// newNode returns a node whose plugin has the driver for files alone.
func newNode(t testing.TB) *node {
	t.Helper()
	return &node{plugin: build(t, "./cmd/ipalloc"), dir: t.TempDir(), name: "node-a"}
}

// file is that of the pools.
func (n *node) file() string { return filepath.Join(n.dir, "ipalloc.db") }

// config makes a configuration of the plugin bridge. Beside is what stands beside the section ipam.
func (n *node) config(name, ipam string, beside ...string) string {
	if !strings.Contains(ipam, `"store"`) {
		ipam += fmt.Sprintf(`, "store": "file://%s"`, n.file())
	}
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": %q, "type": "bridge", "ipam": {"type": "ipalloc", %s}%s}`,
		name, ipam, strings.Join(append([]string{""}, beside...), ", "))
}

// command is the plugin, ready to be run for a container.
func (n *node) command(ctx context.Context, command, container, config string, env ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, n.plugin)
	c.Env = append([]string{
		"CNI_COMMAND=" + command, "CNI_CONTAINERID=" + container, "CNI_IFNAME=eth0", "CNI_NETNS=/run/netns/none",
		"CNI_PATH=" + filepath.Dir(n.plugin), "NODENAME=" + n.name, "PATH=" + os.Getenv("PATH"),
	}, env...)
	c.Stdin = strings.NewReader(config)
	return c
}

// call runs a command of the plugin, and returns what it prints, or the error that it prints.
func (n *node) call(t testing.TB, command, container, config string, env ...string) ([]byte, *types.Error) {
	t.Helper()
	c := n.command(t.Context(), command, container, config, env...)
	var stderr bytes.Buffer
	c.Stderr = &stderr
	stdout, err := c.Output()
	if err == nil {
		return stdout, nil
	}
	var failed types.Error
	require.NoError(t, json.Unmarshal(stdout, &failed), "%v: %s%s", err, stdout, stderr.Bytes())
	return nil, &failed
}

// add is ADD, which must not fail.
func (n *node) add(t testing.TB, container, config string, env ...string) *current.Result {
	t.Helper()
	stdout, failed := n.call(t, "ADD", container, config, env...)
	require.Nil(t, failed)
	return parse(t, stdout)
}

func parse(t testing.TB, stdout []byte) *current.Result {
	t.Helper()
	some, err := create.CreateFromBytes(stdout)
	require.NoError(t, err)
	result, err := current.NewResultFromResult(some)
	require.NoError(t, err)
	return result
}

// ips are the addresses of a result, each with its length and its gateway.
func ips(r *current.Result) string {
	var texts []string
	for _, ip := range r.IPs {
		text := ip.Address.String()
		if len(ip.Gateway) > 0 {
			text += " via " + ip.Gateway.String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// must runs a command that must not fail.
func (n *node) must(t testing.TB, command, container, config string, env ...string) {
	t.Helper()
	_, failed := n.call(t, command, container, config, env...)
	require.Nil(t, failed)
}

// refuse runs a command that must fail with the code, and with all the texts in its error.
func (n *node) refuse(t testing.TB, code uint, command, container, config string, texts []string, env ...string) {
	t.Helper()
	_, failed := n.call(t, command, container, config, env...)
	require.NotNil(t, failed)
	require.Equal(t, code, failed.Code, failed)
	for _, text := range texts {
		require.Contains(t, failed.Error(), text)
	}
}

// look calls f with a pool in the node's file.
func (n *node) look(t testing.TB, name string, f func(*pool.Pool)) {
	t.Helper()
	db, err := bolt.Open(t.Context(), n.file(), &bolt.Options{LockWait: -1, MustExist: true})
	require.NoError(t, err)
	defer db.Close()
	p, err := pool.Open(t.Context(), db, name, nil)
	require.NoError(t, err)
	f(p)
}

// held are the addresses in a pool by their owners. It also verifies the pool.
func (n *node) held(t testing.TB, name string) map[string][]netip.Addr {
	t.Helper()
	var held map[string][]netip.Addr
	n.look(t, name, func(p *pool.Pool) { held = heldIn(t, p) })
	return held
}

func heldIn(t testing.TB, p *pool.Pool) map[string][]netip.Addr {
	t.Helper()
	held := map[string][]netip.Addr{}
	for a, err := range p.Allocations(t.Context()) {
		require.NoError(t, err)
		held[a.Owner] = a.Addrs()
	}
	report, err := p.Verify(t.Context())
	require.NoError(t, err)
	require.True(t, report.OK(), report)
	return held
}

// requireNothing requires that the node's store was not made.
func (n *node) requireNothing(t testing.TB) {
	t.Helper()
	_, err := os.Stat(n.file())
	require.ErrorIs(t, err, os.ErrNotExist)
}

// fixture is a configuration as people write it, with another type, a name and a store.
func (n *node) fixture(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	var config map[string]any
	require.NoError(t, json.Unmarshal(text, &config))
	if config["name"] == nil {
		config["name"] = strings.TrimSuffix(file, ".json")
	}
	if config["cniVersion"] == nil {
		config["cniVersion"] = "1.0.0"
	}
	ipam := config["ipam"].(map[string]any)
	ipam["store"] = "file://" + n.file()
	text, err = json.Marshal(config)
	require.NoError(t, err)
	return string(text)
}

// inParallel calls f for each number below count at the same time, and returns the errors.
func inParallel(count int, f func(i int) error) error {
	errs := make([]error, count)
	var wait sync.WaitGroup
	for i := range count {
		wait.Go(func() { errs[i] = f(i) })
	}
	wait.Wait()
	return errors.Join(errs...)
}
