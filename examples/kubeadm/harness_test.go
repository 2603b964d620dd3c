package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// The files of the repository's fixtures.
const (
	dualStack   = "testdata/init-dual-stack.yaml"
	singleStack = "testdata/single-stack.yaml"
	joinWorker  = "testdata/join-worker.yaml"
)

// desk is a folder to run commands in.
type desk struct {
	t  *testing.T
	db string
}

func newDesk(t *testing.T) desk { return desk{t: t, db: filepath.Join(t.TempDir(), "cluster.db")} }

// file writes a file and returns its path.
func (d desk) file(content string) string {
	d.t.Helper()
	f, err := os.CreateTemp(filepath.Dir(d.db), "*.yaml")
	require.NoError(d.t, err)
	_, err = f.WriteString(content)
	require.NoError(d.t, err)
	require.NoError(d.t, f.Close())
	return f.Name()
}

// result is what a command printed.
type result struct {
	t              *testing.T
	status         int
	stdout, stderr string
}

// try runs a command. An argument that has a line break is the content of a file.
func (d desk) try(args ...string) result {
	d.t.Helper()
	for i, arg := range args {
		if strings.Contains(arg, "\n") {
			args[i] = d.file(arg)
		}
	}
	return try(d.t, "", args...)
}

func try(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr}
	status := p.run(t.Context(), args)
	return result{t, status, stdout.String(), stderr.String()}
}

// ok runs a command that must succeed.
func (d desk) ok(args ...string) result {
	d.t.Helper()
	r := d.try(args...)
	require.Zero(d.t, r.status, r.stderr)
	return r
}

// keep runs a command that must succeed and keeps the addresses in the desk's file.
func (d desk) keep(command string, args ...string) result {
	d.t.Helper()
	return d.ok(append([]string{command, "-db", d.db}, args...)...)
}

// refused runs a command that must fail with an error that has all the parts. It must not change the desk's file.
func (d desk) refused(args []string, parts ...string) {
	d.t.Helper()
	before := d.kept()
	r := d.try(args...)
	require.Equal(d.t, 1, r.status, r.stdout)
	require.Empty(d.t, r.stdout)
	for _, part := range parts {
		require.Contains(d.t, r.stderr, part)
	}
	require.Equal(d.t, before, d.kept(), "what is kept has changed")
}

// kept is what is kept in the desk's file, by pool and owner; nil if there is no file. All of it must agree.
func (d desk) kept() map[string]string {
	d.t.Helper()
	s, err := bolt.Open(d.t.Context(), d.db, &bolt.Options{MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	require.NoError(d.t, err)
	defer s.Close()
	kept := map[string]string{}
	for info, err := range pool.List(d.t.Context(), s) {
		require.NoError(d.t, err)
		p, err := pool.Open(d.t.Context(), s, info.Name, nil)
		require.NoError(d.t, err)
		report, err := p.Verify(d.t.Context())
		require.NoError(d.t, err)
		require.True(d.t, report.OK(), report)
		for a, err := range p.Allocations(d.t.Context()) {
			require.NoError(d.t, err)
			kept[info.Name+" "+a.Owner] = join(a.Prefixes)
		}
	}
	return kept
}

// row is the line of an object in the printed table, with single spaces between columns, without its kind and name.
func (r result) row(kind, name string) string {
	r.t.Helper()
	for line := range strings.Lines(r.stdout) {
		if cells := strings.Fields(line); len(cells) > 2 && cells[0] == kind && cells[1] == name {
			return strings.Join(cells[2:], " ")
		}
	}
	return ""
}

// pool is the line of a pool and a family in the printed table: each, used and free.
func (r result) pool(name, family string) string {
	r.t.Helper()
	cells := strings.Fields(r.row(name, family))
	require.GreaterOrEqual(r.t, len(cells), 4, r.stdout)
	return strings.Join(cells[1:4], " ")
}

// configuration is that of a cluster; a subnet may be empty.
func configuration(podSubnet, serviceSubnet string) string {
	return fmt.Sprintf(`apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
networking:
  podSubnet: %q
  serviceSubnet: %q
---
`, podSubnet, serviceSubnet)
}

// node is a manifest of a Node.
func node(name string, podCIDRs ...string) string {
	spec := "{}"
	if len(podCIDRs) > 0 {
		spec = fmt.Sprintf("{podCIDR: %q, podCIDRs: %s}", podCIDRs[0], list(podCIDRs))
	}
	return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: %s\n---\n", name, spec)
}

// nodes are manifests of n Nodes without pod CIDRs.
func nodes(n int) string {
	var all strings.Builder
	for i := range n {
		all.WriteString(node(fmt.Sprintf("node-%d", i)))
	}
	return all.String()
}

// service is a manifest of a Service in the namespace default, with the fields of its spec in YAML.
func service(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: default}\nspec: {%s}\n---\n",
		name, spec)
}

// live is manifests as an API server has them.
func live(manifests ...string) string {
	return strings.ReplaceAll(strings.Join(manifests, ""), "metadata: {", "metadata: {uid: 0a1b2c, ")
}

// withIPs is a Service that has these addresses.
func withIPs(name, policy string, ips ...string) string {
	return service(name, fmt.Sprintf("ipFamilyPolicy: %s, clusterIP: %q, clusterIPs: %s", policy, ips[0], list(ips)))
}

// list is a list of texts in YAML.
func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = fmt.Sprintf("%q", item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// jsonText is a value in JSON.
func jsonText(t *testing.T, value any, indent string) string {
	t.Helper()
	text, err := json.MarshalIndent(value, "", indent)
	require.NoError(t, err)
	return string(text) + "\n"
}

// lines are the cells of each line.
func (r result) lines() [][]string {
	var lines [][]string
	for line := range strings.Lines(r.stdout) {
		lines = append(lines, strings.Fields(line))
	}
	return lines
}

// treeOf is a document of YAML as maps and lists.
func treeOf(t testing.TB, text []byte) any {
	t.Helper()
	var tree any
	require.NoError(t, yaml.Unmarshal(text, &tree))
	return tree
}
