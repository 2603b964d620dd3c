package cni_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// BenchmarkADD measures one ADD as a whole process, beside the reference host-local, with nothing held and with 60,000
// addresses held; and VERSION, which is the start of the program alone.
func BenchmarkADD(b *testing.B) {
	for _, held := range []int{0, 60_000} {
		for name, plugin := range map[string]string{
			"ipalloc":    build(b, "./cmd/ipalloc"),
			"host-local": tool(b, "github.com/containernetworking/plugins/plugins/ipam/host-local"),
		} {
			b.Run(fmt.Sprintf("%s/held=%d", name, held), func(b *testing.B) {
				n := &node{plugin: plugin, dir: b.TempDir(), name: "node-a"}
				config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": {"type": "host-local",
					"dataDir": %q, "store": "file://%s", "subnet": "10.0.0.0/16"}}`, n.dir, n.file())
				fill(b, n, config, held)
				for i := 0; b.Loop(); i++ {
					n.must(b, "ADD", fmt.Sprint("new", i), config)
				}
			})
		}
	}
	for name, plugin := range map[string]string{
		"ipalloc":    build(b, "./cmd/ipalloc"),
		"host-local": tool(b, "github.com/containernetworking/plugins/plugins/ipam/host-local"),
	} {
		b.Run(name+"/VERSION", func(b *testing.B) {
			n := &node{plugin: plugin, dir: b.TempDir(), name: "node-a"}
			for b.Loop() {
				n.must(b, "VERSION", "", "")
			}
		})
	}
}

// fill has so many containers hold an address each, under host-local and in the node's file.
func fill(b *testing.B, n *node, config string, held int) {
	b.Helper()
	if held == 0 {
		return
	}
	n.must(b, "ADD", "first", config)
	folder := filepath.Join(n.dir, "net")
	require.NoError(b, os.MkdirAll(folder, 0o755))
	var steps []pool.Step
	last := addr("10.0.0.1")
	for i := range held {
		last = last.Next()
		a := last
		owner := fmt.Sprintf("%064x", i)
		claim := pool.Claim{Owner: owner + "/eth0", Requests: []pool.Request{pool.ExactAddr(a)}}
		steps = append(steps, pool.Allocate(claim))
		if n.plugin != build(b, "./cmd/ipalloc") {
			require.NoError(b, os.WriteFile(filepath.Join(folder, a.String()), []byte(owner+"\r\neth0"), 0o600))
		}
	}
	if n.plugin != build(b, "./cmd/ipalloc") {
		require.NoError(b, os.WriteFile(filepath.Join(folder, "last_reserved_ip.0"), []byte(last.String()), 0o600))
		return
	}
	db, err := bolt.Open(b.Context(), n.file(), nil)
	require.NoError(b, err)
	defer db.Close()
	p, err := pool.Open(b.Context(), db, "net", nil)
	require.NoError(b, err)
	for _, err := range p.Each(b.Context(), slices.Values(steps)) { // the first address is held already
		require.NoError(b, err)
	}
}
