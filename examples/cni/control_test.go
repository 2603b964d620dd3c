package cni_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// control runs the command for operators, and returns what it prints and its exit code.
func control(t testing.TB, stdin string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), build(t, "./cmd/ipallocctl"), args...)
	var out, errs bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = strings.NewReader(stdin), &out, &errs
	c.Env = append(os.Environ(), "NODENAME=node-a")
	_ = c.Run()
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

// reconcile runs the reconciler once, which must not fail.
func (n *node) reconcile(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	stdout, stderr, code := control(t, stdin, append([]string{"reconcile", "-store", "file://" + n.file()}, args...)...)
	require.Zero(t, code, stderr)
	return stdout
}

// owners are those who hold something, in order.
func (n *node) owners(t testing.TB, name string) []string {
	t.Helper()
	var owners []string
	for owner := range n.held(t, name) {
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	return owners
}

// A list says which containers exist.
func TestReconcileByList(t *testing.T) {
	n := newNode(t)
	one, two := n.config("one", subnet), n.config("two", `"range": "10.1.0.0/24"`)
	for _, container := range []string{"a", "b", "c"} {
		n.add(t, container, one)
		n.add(t, container, two)
	}
	require.Equal(t, "would free one c/eth0 [10.0.0.4]\nwould free whereabouts/ c/eth0 [10.1.0.3]\n",
		n.reconcile(t, "a eth0\n\nb\n", "-from", "list", "-grace", "0", "-dry-run"))
	require.Len(t, n.owners(t, "one"), 3)
	require.Equal(t, "freed one c/eth0 [10.0.0.4]\n",
		n.reconcile(t, "a eth0\n\nb\n", "-from", "list", "-grace", "0", "-pools", "one"))
	require.Equal(t, []string{"a/eth0", "b/eth0"}, n.owners(t, "one"))
	require.Equal(t, []string{"a/eth0", "b/eth0", "c/eth0"}, n.owners(t, "whereabouts/"))
	require.Equal(t, "missing one b/eth0 [10.0.0.3]\n",
		n.reconcile(t, "a eth0", "-from", "list", "-grace", "1h", "-pools", "one"), "within its grace period")
	require.Empty(t, n.reconcile(t, "a\nb", "-from", "list", "-grace", "1h", "-pools", "one"), "it is back")
	require.Equal(t, []string{"a/eth0", "b/eth0"}, n.owners(t, "one"))
	// GC's list is about one network.
	require.Equal(t, "freed one b/eth0 [10.0.0.3]\n", n.reconcile(t,
		`{"name": "one", "cni.dev/valid-attachments": [{"containerID": "a", "ifname": "eth0"}]}`,
		"-from", "gc", "-grace", "0"))
}

// Wrong arguments and lists that cannot be right free nothing.
func TestReconcileRefuses(t *testing.T) {
	n := newNode(t)
	n.add(t, "a", n.config("one", subnet))
	url := "file://" + n.file()
	for _, c := range []struct {
		stdin string
		args  []string
		code  int
		want  string
	}{
		{"", []string{"-store", url, "-from", "list", "-grace", "0"}, 1, "the list has no containers"},
		{"a b c", []string{"-store", url, "-from", "list", "-grace", "0"}, 1, "line 1 has 3 words"},
		{"{}", []string{"-store", url, "-from", "gc", "-grace", "0"}, 1, "cni.dev/valid-attachments or name: is missing"},
		{"b", []string{"-store", "x", "-from", "list"}, 2, "-store is not a URL"},
		{"b", []string{"-store", url, "-from", "all"}, 2, `-from is "all", want pods, list or gc`},
		{"b", []string{"-store", url, "-from", "list", "-schedule", "* * * *"}, 2, "-schedule: expected exactly 5 fields"},
		{"b", []string{"-store", url, "-from", "list", "-schedule", "@daily", "-file", "x"}, 2, "-schedule: "},
		{"b", []string{"-store", url, "-from", "list", "-schedule", "0 4 * * *"}, 2,
			"the standard input can be read only once"},
		{"b", []string{"-store", url, "-from", "list", "more"}, 2, `"more" is not a flag`},
		{"b", []string{"-store", url, "-from", "pods", "-kubeconfig", "/nowhere"}, 1, "-kubeconfig: "},
		{"b", []string{"-store", url + "x", "-from", "list", "-grace", "0"}, 1, "no such file"},
	} {
		_, stderr, code := control(t, c.stdin, append([]string{"reconcile"}, c.args...)...)
		require.Equal(t, c.code, code, stderr)
		require.Contains(t, stderr, c.want)
	}
	_, stderr, code := control(t, "", "free")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, `there is no command "free"`)
	require.Len(t, n.owners(t, "one"), 1)
}

// api is a server that answers as the API server of Kubernetes does when it is asked for the pods, in pages of two.
type api struct {
	*httptest.Server
	pods    []map[string]any
	nodes   []map[string]any
	broken  atomic.Bool
	onFirst func() // called while the first page is under way
}

func newAPI(t testing.TB) *api {
	t.Helper()
	a := &api{onFirst: func() {}}
	a.Server = httptest.NewServer(http.HandlerFunc(a.serve))
	t.Cleanup(a.Close)
	return a
}

func (a *api) serve(w http.ResponseWriter, r *http.Request) {
	all := map[string][]map[string]any{"/api/v1/pods": a.pods, "/api/v1/nodes": a.nodes}
	items, known := all[r.URL.Path]
	if !known || a.broken.Load() {
		http.Error(w, `{"kind": "Status", "code": 500}`, http.StatusInternalServerError)
		return
	}
	var from int
	fmt.Sscan(r.URL.Query().Get("continue"), &from)
	if from == 0 {
		a.onFirst()
	}
	to := min(from+2, len(items))
	meta := map[string]any{}
	if to < len(items) {
		meta["continue"] = fmt.Sprint(to)
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(map[string]any{
		"kind": "PodList", "apiVersion": "v1", "metadata": meta, "items": items[from:to]})
}

func (a *api) pod(namespace, name, uid, phase string) {
	a.pods = append(a.pods, map[string]any{
		"metadata": map[string]any{"namespace": namespace, "name": name, "uid": uid},
		"status":   map[string]any{"phase": phase}})
}

func (a *api) node(name string) {
	a.nodes = append(a.nodes, map[string]any{"metadata": map[string]any{"name": name}})
}

// kubeconfig is a file that leads to the server.
func (a *api) kubeconfig(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "x",
		"clusters": [{"name": "c", "cluster": {"server": %q}}], "users": [{"name": "u", "user": {}}],
		"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}]}`, a.URL)
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// The pods of the cluster say which containers exist. Names that look alike are not mixed up, and nothing that came
// while the pods were listed is freed.
func TestReconcileByPods(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"range": "10.0.0.0/24"`)
	add := func(container, namespace, name, uid string) {
		n.add(t, container, config, fmt.Sprintf(
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=%s;K8S_POD_NAME=%s;K8S_POD_UID=%s", namespace, name, uid))
	}
	server := newAPI(t)
	server.pod("a-b", "c.d", "u1", "Running")
	server.pod("a", "b-c.d", "u2", "Pending")
	server.pod("a", "done", "u3", "Succeeded")
	server.pod("a", "web-0", "u5", "Running")
	add("alive1", "a-b", "c.d", "u1")
	add("alive2", "a", "b-c.d", "u2")
	add("gone1", "a-b-c", "d", "u1")
	add("gone2", "a", "b", "u2")
	add("done", "a", "done", "u3")
	add("before", "a", "web-0", "u4") // a pod of that name before this one
	n.add(t, "nopod", config)
	args := []string{"-from", "pods", "-kubeconfig", server.kubeconfig(t), "-grace", "0"}

	server.broken.Store(true)
	_, stderr, code := control(t, "", append([]string{"reconcile", "-store", "file://" + n.file()}, args...)...)
	require.Equal(t, 1, code, stderr)
	server.broken.Store(false)
	all := server.pods
	server.pods = nil
	_, stderr, code = control(t, "", append([]string{"reconcile", "-store", "file://" + n.file()}, args...)...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "lists no pods")
	require.Len(t, n.owners(t, "whereabouts/"), 7)

	server.pods = all
	server.onFirst = func() { add("new", "a", "new", "u9") }
	n.reconcile(t, "", args...)
	require.Equal(t, []string{"alive1/eth0", "alive2/eth0", "new/eth0", "nopod/eth0"}, n.owners(t, "whereabouts/"))
}

// Addresses move from host-local to the plugin by the command, and back.
func TestMoveFromHostLocalAndBack(t *testing.T) {
	n := newNode(t)
	folder := filepath.Join(n.dir, "net")
	require.NoError(t, os.Mkdir(folder, 0o755))
	for name, text := range map[string]string{
		"10.0.0.2": "a\r\neth0", "2001:db8::2": "a\r\neth0", "10.0.0.5": "b\r\neth0",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	ipam := fmt.Sprintf(`{"type": "host-local", "dataDir": %q, "store": "file://%s",
		"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "2001:db8::/64"}]]}`, n.dir, n.file())
	list := filepath.Join(n.dir, "net.conflist")
	require.NoError(t, os.WriteFile(list, fmt.Appendf(nil, `{"cniVersion": "1.0.0", "name": "net",
		"plugins": [{"type": "bridge", "ipam": %s}, {"type": "portmap"}]}`, ipam), 0o600))
	const want = "a/eth0 [10.0.0.2 2001:db8::2]\nb/eth0 [10.0.0.5]\n"
	stdout, stderr, code := control(t, "", "adopt", "-config", list, "-dry-run")
	require.Zero(t, code, stderr)
	require.Equal(t, want, stdout)
	n.requireNothing(t)
	for range 2 {
		stdout, stderr, code = control(t, "", "adopt", "-config", list)
		require.Zero(t, code, stderr)
		require.Equal(t, want, stdout)
	}
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": %s}`, ipam)
	require.Equal(t, "10.0.0.6/29 via 10.0.0.1, 2001:db8::3/64 via 2001:db8::1", ips(n.add(t, "c", config)))
	n.must(t, "DEL", "a", config)

	require.NoError(t, os.RemoveAll(folder))
	stdout, stderr, code = control(t, "", "give-back", "-config", list)
	require.Zero(t, code, stderr)
	require.Contains(t, stdout, "b/eth0 [10.0.0.5]\n")
	// What host-local now does is up to host-local itself.
	hostLocal := &node{plugin: tool(t, "github.com/containernetworking/plugins/plugins/ipam/host-local"), dir: n.dir}
	r := hostLocal.add(t, "d", config)
	require.NotContains(t, ips(r), "10.0.0.5/")
	require.NotContains(t, ips(r), "10.0.0.6/")
	hostLocal.must(t, "DEL", "b", config)
	_, err := os.Stat(filepath.Join(folder, "10.0.0.5"))
	require.ErrorIs(t, err, os.ErrNotExist)
}

// Addresses that others hold are not adopted, and the command says so.
func TestAdoptRefuses(t *testing.T) {
	n := newNode(t)
	config := n.config("net", fmt.Sprintf(`"dataDir": %q, %s`, n.dir, subnet))
	n.add(t, "new", config) // 10.0.0.2
	file := filepath.Join(n.dir, "net.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(n.dir, "net"), 0o755))
	for name, text := range map[string]string{"10.0.0.2": "a\r\neth0", "10.0.0.3": "b\r\neth0"} {
		require.NoError(t, os.WriteFile(filepath.Join(n.dir, "net", name), []byte(text), 0o600))
	}
	_, stderr, code := control(t, "", "adopt", "-config", file)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "not adopted: 1 of 2 attachments")
	require.Contains(t, stderr, "10.0.0.2")
	require.Equal(t, map[string][]netip.Addr{"new/eth0": {addr("10.0.0.2")}, "b/eth0": {addr("10.0.0.3")}},
		n.held(t, "net"))
}

// Whereabouts' objects are adopted: those of the ranges and the network_name of the configuration.
func TestMoveFromWhereabouts(t *testing.T) {
	n := newNode(t)
	file := filepath.Join(n.dir, "net.conf")
	config := n.config("net", `"network_name": "blue",
		"ipRanges": [{"range": "192.0.2.0/24"}, {"range": "2001:db8::/32"}]`)
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	objects := `{"apiVersion": "v1", "kind": "List", "items": [
		{"metadata": {"name": "blue-192.0.2.0-24"}, "spec": {"range": "192.0.2.0/24", "allocations": {
			"1": {"id": "a", "podref": "ns/web-0", "ifname": "net1"}, "200": {"id": "b", "podref": "ns/web-1"}}}},
		{"metadata": {"name": "blue-2001-db8---32"}, "spec": {"range": "2001:db8::/32", "allocations": {
			"39614081257132168796771975168": {"id": "a", "podref": "ns/web-0", "ifname": "net1"}}}},
		{"metadata": {"name": "192.0.2.0-24"}, "spec": {"range": "192.0.2.0/24", "allocations": {"1": {"id": "x"}}}}]}`
	stdout, stderr, code := control(t, objects, "adopt", "-config", file, "-ippools", "-")
	require.Zero(t, code, stderr)
	require.Equal(t, "a/net1 [192.0.2.1 2001:db8:8000::]\nb/eth0 [192.0.2.200]\n", stdout)
	n.look(t, "whereabouts/blue", func(p *pool.Pool) {
		a, err := p.Get(t.Context(), pool.Held{Owner: "a/net1"})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"network": "net", "kind": "whereabouts", "pod-namespace": "ns",
			"pod-name": "web-0"}, a.Labels)
	})
	require.Equal(t, "192.0.2.2/24, 2001:db8::1/32", ips(n.add(t, "c", config)))
	n.must(t, "DEL", "b", config)
	for _, wrong := range []string{`{"items": [{"spec": {"range": "x"}}]}`, `[`,
		strings.Replace(objects, `"200"`, `"256"`, 1), strings.Replace(objects, `"200"`, `"-1"`, 1)} {
		_, _, code := control(t, wrong, "adopt", "-config", file, "-ippools", "-")
		require.Equal(t, 1, code, wrong)
	}
}

// What is given back to Whereabouts is what its objects would be: adopting it gives each attachment what it held.
func TestGiveBackToWhereabouts(t *testing.T) {
	n, other := newNode(t), newNode(t)
	const ipam = `"network_name": "blue", "ipRanges": [{"range": "192.0.2.7-192.0.2.9/24"}, {"range": "2001:db8::/32"}]`
	config := n.config("net", ipam)
	pod := "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=u"
	require.Equal(t, "192.0.2.7/24, 2001:db8::1/32", ips(n.add(t, "a", config, pod)))
	n.add(t, "b", config)
	n.add(t, "elsewhere", n.config("other", `"network_name": "blue", "range": "198.51.100.0/24"`))
	file := filepath.Join(n.dir, "net.conf")
	require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
	objects, stderr, code := control(t, "", "give-back", "-config", file, "-namespace", "whereabouts")
	require.Zero(t, code, stderr)
	const item = `{"apiVersion": "whereabouts.cni.cncf.io/v1alpha1", "kind": %q,
		"metadata": {"name": %q, "namespace": "whereabouts"}, "spec": %s}`
	const web = `"podref": "ns/web-0", "ifname": "eth0"}`
	const bare = `"podref": "", "ifname": "eth0"}`
	require.JSONEq(t, `{"apiVersion": "v1", "kind": "List", "items": [`+strings.Join([]string{
		fmt.Sprintf(item, "IPPool", "blue-192.0.2.0-24",
			`{"range": "192.0.2.0/24", "allocations": {"7": {"id": "a", `+web+`, "8": {"id": "b", `+bare+`}}`),
		fmt.Sprintf(item, "IPPool", "blue-2001-db8---32",
			`{"range": "2001:db8::/32", "allocations": {"1": {"id": "a", `+web+`, "2": {"id": "b", `+bare+`}}`),
		fmt.Sprintf(item, "OverlappingRangeIPReservation", "blue-192.0.2.7", `{"containerid": "a", `+web),
		fmt.Sprintf(item, "OverlappingRangeIPReservation", "blue-2001-db8--1", `{"containerid": "a", `+web),
		fmt.Sprintf(item, "OverlappingRangeIPReservation", "blue-192.0.2.8", `{"containerid": "b", `+bare),
		fmt.Sprintf(item, "OverlappingRangeIPReservation", "blue-2001-db8--2", `{"containerid": "b", `+bare),
	}, ",")+`]}`, objects)

	file = filepath.Join(other.dir, "net.conf")
	require.NoError(t, os.WriteFile(file, []byte(other.config("net", ipam)), 0o600))
	_, stderr, code = control(t, objects, "adopt", "-config", file, "-ippools", "-")
	require.Zero(t, code, stderr)
	want := n.held(t, "whereabouts/blue")
	delete(want, "elsewhere/eth0")
	require.Equal(t, want, other.held(t, "whereabouts/blue"))
}

// Without enable_overlapping_ranges there are no objects but those of the ranges, also of one that is not in use.
// Slices of nodes and addresses of static are not given back.
func TestGiveBackToWhereaboutsApart(t *testing.T) {
	n := newNode(t)
	const apart = `"enable_overlapping_ranges": false, "range": "2001:db8::/64"`
	config := n.config("net", apart)
	n.add(t, "a", config)
	file := filepath.Join(n.dir, "net.conf")
	give := func(config string) (string, int) {
		require.NoError(t, os.WriteFile(file, []byte(config), 0o600))
		objects, _, code := control(t, "", "give-back", "-config", file)
		return objects, code
	}
	objects, code := give(config)
	require.Zero(t, code)
	require.Contains(t, objects, `"name": "2001-db8---64"`)
	require.Contains(t, objects, `"namespace": "kube-system"`)
	require.Contains(t, objects, `"id": "a"`)
	require.NotContains(t, objects, "Reservation")
	objects, code = give(n.config("net", strings.Replace(apart, "db8", "db9", 1)))
	require.Zero(t, code)
	require.Contains(t, objects, `"allocations": {}`)
	for _, ipam := range []string{
		`"range": "10.0.0.0/27", "node_slice_size": "/29"`, `"addresses": [{"address": "10.0.0.1/24"}]`,
	} {
		_, code = give(n.config("net", ipam))
		require.Equal(t, 2, code, ipam)
	}
}

// Apply gives up what a configuration does not have: a pool has the ranges of all that it ever had.
func TestApply(t *testing.T) {
	n := newNode(t)
	n.add(t, "a", n.config("net", subnet))
	small := n.config("net", `"subnet": "10.0.1.0/29"`)
	n.add(t, "b", small)
	file := filepath.Join(n.dir, "net.conf")
	require.NoError(t, os.WriteFile(file, []byte(small), 0o600))
	stdout, stderr, code := control(t, "", "apply", "-config", file)
	require.Zero(t, code, stderr)
	require.Equal(t, "net IPv4: 1 in use, 1 given up but still held\n", stdout)
	n.look(t, "net", func(p *pool.Pool) {
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.False(t, info.Spec.Set(pool.IPv4).Contains(addr("10.0.0.3")))
	})
	n.must(t, "DEL", "a", small)
	for _, args := range [][]string{{"apply"}, {"apply", "-config", "/nowhere"}} {
		_, _, code := control(t, "", args...)
		require.NotZero(t, code)
	}
}

// Slices of nodes that are gone are given back, once no container holds anything of them; those of nodes that exist
// stay, and so do all if the API server lists no nodes.
func TestReconcileGivesBackSlices(t *testing.T) {
	a := newNode(t)
	config := a.config("net", `"range": "10.0.0.0/27", "node_slice_size": "/29"`)
	for _, name := range []string{"node-a", "node-b", "node-c", "node-d"} {
		n := &node{plugin: a.plugin, dir: a.dir, name: name}
		n.add(t, name, config, fmt.Sprintf(
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=web;K8S_POD_NAME=%s;K8S_POD_UID=%s", name, name))
	}
	kubernetes := newAPI(t)
	kubernetes.pod("web", "node-a", "node-a", "Running")
	kubernetes.pod("web", "node-b", "node-b", "Running")
	kubeconfig := kubernetes.kubeconfig(t)
	args := []string{"-from", "pods", "-kubeconfig", kubeconfig, "-grace", "0"}
	_, stderr, code := control(t, "", append([]string{"reconcile", "-store", "file://" + a.file()}, args...)...)
	require.NotZero(t, code)
	require.Contains(t, stderr, "lists no nodes")
	require.Len(t, a.owners(t, "whereabouts//slices"), 4)

	kubernetes.node("node-a")
	kubernetes.node("node-d")
	kubernetes.node("other")
	require.Equal(t, "would give back whereabouts//slices/node-c\n", a.reconcile(t, "", append(args, "-dry-run")...))
	require.Equal(t, "gave back whereabouts//slices/node-c\n", a.reconcile(t, "", args...))
	require.Equal(t, []string{"node-a/0", "node-b/0", "node-d/0"}, a.owners(t, "whereabouts//slices"),
		"a pod of node-b is still there, and node-d exists")
	e := &node{plugin: a.plugin, dir: a.dir, name: "node-e"}
	require.Equal(t, "10.0.0.16/27", strings.Fields(ips(e.add(t, "e", config)))[0], "the slice of node-c")
}
