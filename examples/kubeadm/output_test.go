package main

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// kubectlList is what kubectl get nodes,services -o yaml prints, cut down.
const kubectlList = `apiVersion: v1
items:
- apiVersion: v1
  kind: Node
  metadata:
    annotations:
      node.alpha.kubernetes.io/ttl: "0"
    creationTimestamp: "2026-01-02T03:04:05Z"
    name: cp-1
    resourceVersion: "5042"
    uid: 3b9c2d4e-0c7e-4d1a-9a53-6b7f1d2a4c10
  spec:
    podCIDR: 10.244.0.0/24
    podCIDRs:
    - 10.244.0.0/24
  status:
    addresses:
    - address: 10.100.0.2
      type: InternalIP
    - address: cp-1
      type: Hostname
- apiVersion: v1
  kind: Service
  metadata:
    creationTimestamp: "2026-01-02T03:04:05Z"
    name: kubernetes
    namespace: default
    uid: 9b6c1f52-7a3b-4e0a-8a51-6b7f1d2a4c11
  spec:
    clusterIP: 10.96.0.1
    clusterIPs:
    - 10.96.0.1
    internalTrafficPolicy: Cluster
    ipFamilies:
    - IPv4
    ipFamilyPolicy: SingleStack
    ports:
    - name: https
      port: 443
      protocol: TCP
      targetPort: 6443
    sessionAffinity: None
    type: ClusterIP
  status:
    loadBalancer: {}
kind: List
metadata:
  resourceVersion: ""
`

func TestListsOfKubectl(t *testing.T) {
	d := newDesk(t)
	inYAML := d.ok("assign", singleStack, kubectlList)
	require.Equal(t, "adopted 10.244.0.0/24 -", inYAML.row("Node", "cp-1"))
	require.Equal(t, "adopted 10.96.0.1 SingleStack IPv4", inYAML.row("Service", "default/kubernetes"))
	require.Equal(t, inYAML.stdout, d.ok("assign", singleStack, inJSON(t, kubectlList, "    ")).stdout, "in JSON")
	require.Equal(t, inYAML.stdout, d.ok("assign", singleStack, inJSON(t, kubectlList, "\t")).stdout, "in JSON with tabs")
	nodeList := strings.NewReplacer("kind: List", "kind: NodeList", "- apiVersion: v1\n  kind: Node\n  ", "- ",
		"- apiVersion: v1\n  kind: Service\n", "- kind: Service\n  apiVersion: v1\n").Replace(kubectlList)
	require.Equal(t, inYAML.stdout, d.ok("assign", singleStack, nodeList).stdout, "as the API lists them")
	require.Equal(t, inYAML.stdout, try(t, kubectlList, "assign", singleStack, "-").stdout, "from standard input")
}

// inJSON is a document of YAML in JSON.
func inJSON(t *testing.T, text, indent string) string {
	t.Helper()
	return jsonText(t, treeOf(t, []byte(text)), indent)
}

// What patches set is all that is missing: a run that reads them has nothing left to set.
func TestPatches(t *testing.T) {
	d := newDesk(t)
	objects := nodes(3) + service("a", "ipFamilyPolicy: PreferDualStack, ipFamilies: [IPv6]") + service("b", "") +
		service("none", "clusterIP: None") + service("out", "type: ExternalName, externalName: a.test")
	patches := d.ok("assign", "-o", "patch", dualStack, joinWorker, objects).stdout
	require.Contains(t, patches, `---
apiVersion: v1
kind: Node
metadata:
  name: "node-2"
spec:
  podCIDR: "10.244.2.0/24"
  podCIDRs:
  - "10.244.2.0/24"
  - "2001:db8:42:3::/64"
`)
	require.Contains(t, patches, `---
apiVersion: v1
kind: Service
metadata:
  name: "a"
  namespace: "default"
spec:
  clusterIP: "2001:db8:42:1::101"
  clusterIPs:
  - "2001:db8:42:1::101"
  - "10.96.1.1"
  ipFamilies:
  - "IPv6"
  - "IPv4"
  ipFamilyPolicy: PreferDualStack
`)
	require.Contains(t, patches,
		"# the node with 10.100.0.3 gets 10.244.4.0/24,2001:db8:42:5::/64; its name is not known\n")
	require.NotContains(t, patches, `"out"`)
	require.NotContains(t, patches, "kube-dns", "what Kubernetes makes by itself needs no patch")
	require.Equal(t, 6, strings.Count(patches, "---\n"))

	table := d.ok("assign", dualStack, patches)
	require.Equal(t, "new 2001:db8:42:1::101,10.96.1.1 PreferDualStack IPv6,IPv4", table.row("Service", "default/a"))
	require.Equal(t, "none None RequireDualStack IPv4,IPv6", table.row("Service", "default/none"))
	again := d.ok("assign", "-o", "patch", dualStack, patches).stdout
	require.Equal(t, 1, strings.Count(again, "\n"), "only the note on the init file's node is left: %s", again)
}

// A patch is printed until the object has it, and not only in the run that has made the choice.
func TestPatchesUntilTheyAreApplied(t *testing.T) {
	d := newDesk(t)
	first := d.keep("assign", "-o", "patch", singleStack, nodes(1), services(1)).stdout
	require.Equal(t, first, d.keep("assign", "-o", "patch", singleStack, nodes(1), services(1)).stdout)
	require.Empty(t, d.keep("assign", "-o", "patch", singleStack, first).stdout)
}

// The second run finds everything as it is to be.
func TestSecondRun(t *testing.T) {
	d := newDesk(t)
	args := []string{dualStack, nodes(3), services(3), service("both", "ipFamilyPolicy: RequireDualStack")}
	first := d.keep("assign", args...)
	kept := d.kept()
	require.Len(t, kept, 10)
	second := d.keep("assign", args...)
	require.Equal(t, strings.ReplaceAll(first.stdout, "   new    ", "   kept   "), second.stdout)
	require.Equal(t, kept, d.kept())
	d.keep("assign", dualStack)
	require.Equal(t, kept, d.kept(), "what is not in the files keeps what it has")
}

// A run that is interrupted can be done again.
func TestInterrupted(t *testing.T) {
	d := newDesk(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var stdout, stderr strings.Builder
	p := program{stdin: strings.NewReader(""), stdout: &stdout, stderr: &stderr}
	require.Equal(t, 1, p.run(ctx, []string{"assign", "-db", d.db, singleStack, d.file(nodes(2))}))
	require.Contains(t, stderr.String(), "context canceled")
	require.Empty(t, stdout.String())
	r := d.keep("assign", singleStack, nodes(2))
	require.Equal(t, "new 10.244.1.0/24 -", r.row("Node", "node-1"))
}

func TestDryRun(t *testing.T) {
	d := newDesk(t)
	r := d.ok("assign", "-dry-run", "-db", d.db, singleStack, nodes(1))
	require.Equal(t, "new 10.244.0.0/24 -", r.row("Node", "node-0"))
	require.Nil(t, d.kept(), "there is no file")

	config := configuration("10.0.0.0/16", "10.1.0.0/24")
	const here = "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n" +
		"status: {addresses: [{type: InternalIP, address: 10.0.1.5}]}\n"
	d.keep("assign", config, here, service("web", ""))
	kept := d.kept()
	r = d.ok("assign", "-dry-run", "-db", d.db, config, nodes(1), service("two", ""), service("web", "type: ExternalName"))
	require.Equal(t, "new 10.0.2.0/24 -", r.row("Node", "node-0"), "a node's own address is known in a dry run too")
	require.Equal(t, "released 10.1.0.17 -", r.row("Service", "default/web"))
	require.Equal(t, kept, d.kept())
	done := d.keep("assign", config, nodes(1), service("two", ""), service("web", "type: ExternalName"))
	require.Equal(t, r.stdout, done.stdout, "a dry run prints what the run will")
}

func TestShow(t *testing.T) {
	d := newDesk(t)
	r := d.try("show", "-db", d.db)
	require.Equal(t, 1, r.status)
	require.Equal(t, "kubeaddr: there is no file "+d.db+"\n", r.stderr)
	d.keep("assign", dualStack, nodes(1), services(1))
	r = d.ok("show", "-db", d.db)
	require.Contains(t, r.row("pods", "node-0"), "10.244.0.0/24,2001:db8:42::/64 20")
	require.Contains(t, r.row("services", "default/s-0"), "10.96.1.1 20")
	require.Equal(t, "/24 2 254", r.pool("pods", "IPv4"))
	require.Equal(t, "/32 3 65531", r.pool("services", "IPv4"))
}

func TestStrategies(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", "-strategy", "next", singleStack, nodes(2))
	d.keep("repair", singleStack, node("node-1"))
	r := d.keep("assign", "-strategy", "next", singleStack, nodes(1))
	require.Equal(t, "new 10.244.2.0/24 -", r.row("Node", "node-0"), "a pod CIDR is reused as late as possible")
	r = d.try("assign", "-strategy", "first", singleStack)
	require.Equal(t, 2, r.status)
	require.Contains(t, r.stderr, `"first"`)
}

func TestWrongArguments(t *testing.T) {
	d := newDesk(t)
	for want, args := range map[string][]string{
		"there is no command":                    {},
		`there is no command "plan"`:             {"plan"},
		"there is no file, want the configurat":  {"assign"},
		`-o "json" is not known, want table or`:  {"assign", "-o", "json", singleStack},
		"flag provided but not defined: -config": {"assign", "-config", singleStack},
		"there is no -db, want the file to show": {"show"},
		"-o is not the first, want flags before": {"assign", singleStack, "-o", "patch"},
		`"x" is not a flag`:                      {"show", "-db", "x", "x"},
		"want a network and at least one subnet": {"vpc", "10.0.0.0/16"},
	} {
		r := d.try(args...)
		require.Equal(t, 2, r.status, args)
		require.Empty(t, r.stdout)
		require.Contains(t, r.stderr, want)
	}
	for _, command := range []string{"", "assign", "repair", "show", "vpc"} {
		args := strings.Fields(command + " -h")
		r := d.ok(args...)
		require.Contains(t, r.stdout, "Usage: kubeaddr")
		require.Empty(t, r.stderr)
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	d := newDesk(t)
	d.refused([]string{"assign", "missing.yaml"}, "missing.yaml", "no such file")
	d.refused([]string{"assign", "-db", filepath.Join(filepath.Dir(d.db), "missing", "x.db"), singleStack}, "missing")
}

// Any program with the library sees the same pools.
func TestOtherProgramsSeeThePools(t *testing.T) {
	d := newDesk(t)
	d.keep("assign", dualStack, nodes(1), service("web", "ipFamilyPolicy: PreferDualStack"))
	s, err := bolt.Open(t.Context(), d.db, nil)
	require.NoError(t, err)
	defer s.Close()
	p, err := pool.Open(t.Context(), s, "services", nil)
	require.NoError(t, err)
	a, err := p.Get(t.Context(), pool.Held{Owner: "default/web"})
	require.NoError(t, err)
	require.Equal(t, "10.96.1.1,2001:db8:42:1::101", join(a.Prefixes))
	require.Equal(t, map[string]string{"ipFamilyPolicy": "PreferDualStack"}, a.Labels)
}

func TestBrokenPipe(t *testing.T) {
	d := newDesk(t)
	var stderr strings.Builder
	p := program{stdin: strings.NewReader(""), stdout: brokenWriter{}, stderr: &stderr}
	require.Equal(t, 1, p.run(t.Context(), []string{"assign", "-db", d.db, singleStack, d.file(nodes(1))}))
	require.Contains(t, stderr.String(), "the pipe is broken")
	require.Equal(t, "10.244.0.0/24", d.kept()["pods node-0"], "what is done is done, and the next run prints it")
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("the pipe is broken") }

// TestProcess runs the program as people do.
func TestProcess(t *testing.T) {
	path := built(t)
	out, err := exec.CommandContext(t.Context(), path, "assign", dualStack, joinWorker).CombinedOutput()
	require.NoError(t, err, string(out))
	require.Contains(t, string(out), "10.244.1.0/24,2001:db8:42:2::/64")
	var exit *exec.ExitError
	require.ErrorAs(t, exec.CommandContext(t.Context(), path, "assign", joinWorker).Run(), &exit)
	require.Equal(t, 1, exit.ExitCode())
}

// built is the path of the program.
func built(t *testing.T) string {
	t.Helper()
	if testing.Short() {
		t.Skip("builds a program")
	}
	path := filepath.Join(t.TempDir(), "kubeadm.exe")
	build, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, ".").CombinedOutput()
	require.NoError(t, err, string(build))
	return path
}

// kills is how many runs the tests kill.
var kills = flag.Int("kills", 4, "how many runs to kill; 100 is thorough")

// Runs that are killed at any moment leave nothing half done: the next one goes on from there, and gives what one run
// would have given.
func TestKilledRuns(t *testing.T) {
	path, d := built(t), newDesk(t)
	objects := strings.ReplaceAll(services(800), "{}", "{ipFamilyPolicy: PreferDualStack}")
	config := d.file(configuration("10.128.0.0/9,fd00:1::/48", "10.96.0.0/16,fd00:2::/112"))
	list := d.file(nodes(200) + objects)
	begin := time.Now()
	whole := d.ok("assign", config, list)
	length := time.Since(begin)
	for range *kills {
		run := exec.CommandContext(t.Context(), path, "assign", "-db", d.db, config, list)
		require.NoError(t, run.Start())
		time.Sleep(rand.N(length)) // at any moment: whatever was done by then is right
		_ = run.Process.Kill()
		_ = run.Wait()
		d.kept() // checks that all agrees
	}
	last := d.keep("assign", config, list)
	require.Equal(t, strings.ReplaceAll(whole.stdout, "   new     ", "   kept    "),
		strings.ReplaceAll(last.stdout, "   new     ", "   kept    "))
	require.Len(t, d.kept(), 1002)
}
