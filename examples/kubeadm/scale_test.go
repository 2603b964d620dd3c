package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The size of the large cluster.
const (
	largeNodes    = 5_000
	largeServices = 20_000
)

// largeConfiguration is that of a dual-stack cluster for so many.
func largeConfiguration() string {
	return configuration("10.128.0.0/9,fd00:1::/48", "10.96.0.0/12,fd00:2::/108")
}

// largeList is what kubectl get nodes,services -A prints for the large cluster before anything has an address.
func largeList() []byte {
	var b bytes.Buffer
	b.WriteString("apiVersion: v1\nitems:\n")
	for i := range largeNodes {
		fmt.Fprintf(&b, `- apiVersion: v1
  kind: Node
  metadata:
    creationTimestamp: "2026-01-02T03:04:05Z"
    labels:
      kubernetes.io/hostname: node-%[1]d
      kubernetes.io/os: linux
    name: node-%[1]d
    uid: 3b9c2d4e-0c7e-4d1a-9a53-%012[1]d
  spec: {}
  status:
    addresses:
    - address: 10.0.%[2]d.%[3]d
      type: InternalIP
    - address: node-%[1]d
      type: Hostname
`, i, i/250, i%250+1)
	}
	policies := []string{"SingleStack", "PreferDualStack", "RequireDualStack"}
	for i := range largeServices {
		fmt.Fprintf(&b, `- apiVersion: v1
  kind: Service
  metadata:
    creationTimestamp: "2026-01-02T03:04:05Z"
    labels:
      app: app-%[1]d
    name: service-%[1]d
    namespace: team-%[2]d
  spec:
    ipFamilyPolicy: %[3]s
    ports:
    - name: http
      port: 80
      protocol: TCP
      targetPort: 8080
    selector:
      app: app-%[1]d
    sessionAffinity: None
    type: ClusterIP
`, i, i%100, policies[i%3])
	}
	b.WriteString("kind: List\n")
	return b.Bytes()
}

// A cluster of 5,000 nodes and 20,000 Services in one run, and in a second one that finds it done.
func TestLargeCluster(t *testing.T) {
	d := newDesk(t)
	config, objects := d.file(largeConfiguration()), d.file(string(largeList()))
	first := d.keep("assign", config, objects)
	t.Log(strings.TrimSpace(first.stderr))
	require.Equal(t, largeNodes+largeServices+2, strings.Count(first.stdout, "   new    "))
	kept := d.kept()
	require.Len(t, kept, largeNodes+largeServices+2)
	prefixes := map[string]bool{}
	count := 0
	for _, text := range kept {
		for prefix := range strings.SplitSeq(text, ",") {
			prefixes[prefix] = true
			count++
		}
	}
	require.Len(t, prefixes, count, "no address is there twice")
	oneFamily := (largeServices + 2) / 3
	require.Equal(t, 2*largeNodes+2*largeServices-oneFamily+2, count)

	second := d.keep("assign", config, objects)
	t.Log(strings.TrimSpace(second.stderr))
	require.Equal(t, largeNodes+largeServices+2, strings.Count(second.stdout, "   kept    "))
	require.Equal(t, kept, d.kept())
}

// BenchmarkLargeCluster is a whole run for 5,000 nodes and 20,000 Services: reading, allocating and printing.
func BenchmarkLargeCluster(b *testing.B) {
	list := largeList()
	asJSON, err := json.Marshal(treeOf(b, list))
	require.NoError(b, err)
	for format, data := range map[string][]byte{"yaml": list, "json": asJSON} {
		for _, kept := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/file=%v", format, kept), func(b *testing.B) {
				folder := b.TempDir()
				config, objects := filepath.Join(folder, "config"), filepath.Join(folder, "objects")
				require.NoError(b, os.WriteFile(config, []byte(largeConfiguration()), 0o600))
				require.NoError(b, os.WriteFile(objects, data, 0o600))
				for i := 0; b.Loop(); i++ {
					args := []string{"assign", config, objects}
					if kept {
						args = []string{"assign", "-db", filepath.Join(folder, fmt.Sprint(i)), config, objects}
					}
					var stdout, stderr bytes.Buffer
					p := program{stdout: &stdout, stderr: &stderr}
					require.Zero(b, p.run(b.Context(), args), "%s", &stderr)
				}
			})
		}
	}
}
