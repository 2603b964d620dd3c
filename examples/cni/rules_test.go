package cni_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

// What is known to go wrong in Whereabouts, each with the set-up in which it does.

// An address that ADD has returned is recorded, for the attachment that has it, although other processes have been
// allocating at the same time. No lease has to be elected: none of the burst times out.
func TestBurst(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "2001:db8::/64"}]]`)
	returned := n.addAll(t, 50, config)
	require.Equal(t, returned, n.held(t, "net"))
}

// addAll runs as many ADDs at once, which must not fail, and returns the addresses by owner.
func (n *node) addAll(t testing.TB, count int, config string) map[string][]netip.Addr {
	t.Helper()
	outputs := make([][]byte, count)
	require.NoError(t, inParallel(count, func(i int) (err error) {
		outputs[i], err = n.command(t.Context(), "ADD", fmt.Sprint("c", i), config).Output()
		if err != nil {
			err = fmt.Errorf("%w: %s", err, outputs[i])
		}
		return err
	}))
	returned := map[string][]netip.Addr{}
	for i, output := range outputs {
		for _, ip := range parse(t, output).IPs {
			addr, _ := netip.AddrFromSlice(ip.Address.IP)
			owner := fmt.Sprintf("c%d/eth0", i)
			returned[owner] = append(returned[owner], addr.Unmap())
		}
	}
	return returned
}

// DEL frees the addresses of all ranges, in one pool or in several.
func TestDelOfAllRanges(t *testing.T) {
	for _, more := range []string{"", `, "enable_overlapping_ranges": false`, `, "node_slice_size": "/28"`} {
		n := newNode(t)
		config := n.config("net", `"ipRanges": [{"range": "10.0.0.0/24"}, {"range": "2001:db8::/64"},
			{"range": "10.0.1.0/24"}]`+more)
		first := ips(n.add(t, "a", config))
		require.Len(t, strings.Split(first, ","), 3)
		n.must(t, "DEL", "a", config)
		require.Equal(t, first, ips(n.add(t, "b", config)), "what DEL frees is free")
	}
}

// Two ranges in one CIDR give two addresses, whether or not ranges share their addresses.
func TestTwoRangesOfOneCIDR(t *testing.T) {
	for _, more := range []string{"", `, "enable_overlapping_ranges": false`} {
		n := newNode(t)
		config := n.config("net", `"ipRanges": [{"range": "10.0.0.0/24"}, {"range": "10.0.0.0/24"}]`+more)
		require.Equal(t, "10.0.0.1/24, 10.0.0.2/24", ips(n.add(t, "a", config)))
		require.Equal(t, "10.0.0.3/24, 10.0.0.4/24", ips(n.add(t, "b", config)))
	}
}

// A dual-stack ADD that has no address of the second family takes none of the first, also where each range has a pool.
func TestHalfADualStack(t *testing.T) {
	for _, more := range []string{"", `, "enable_overlapping_ranges": false`} {
		n := newNode(t)
		config := n.config("net", `"ipRanges": [{"range": "10.0.0.0/24"}, {"range": "2001:db8::/127"}]`+more)
		n.add(t, "a", config)
		n.add(t, "b", config)
		for range 3 {
			n.refuse(t, 11, "ADD", "c", config, []string{"all addresses are in use"})
		}
		n.must(t, "DEL", "b", config)
		require.Equal(t, "10.0.0.2/24, 2001:db8::1/127", ips(n.add(t, "d", config)), "nothing has leaked")
	}
}

// A late DEL of a pod's first sandbox frees nothing of its second one.
func TestLateDel(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"range": "10.0.0.0/24"`)
	pod := "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=u1"
	n.add(t, "sandbox1", config, pod)
	n.must(t, "DEL", "sandbox1", config, pod)
	require.Equal(t, "10.0.0.1/24", ips(n.add(t, "sandbox2", config, pod)))
	n.must(t, "DEL", "sandbox1", config, pod)
	require.Equal(t, map[string][]netip.Addr{"sandbox2/eth0": {addr("10.0.0.1")}}, n.held(t, "whereabouts/"))
}

// Addresses of IPv6 far from the beginning of their range are no different from others.
func TestFarOffsets(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"range": "2001:db8::/32", "range_start": "2001:db8:8000::ffff"`)
	require.Equal(t, "2001:db8:8000::ffff/32", ips(n.add(t, "a", config)))
	require.Equal(t, "2001:db8:8000::1:0/32", ips(n.add(t, "b", config)))
	n.must(t, "DEL", "a", config)
	require.Equal(t, "2001:db8:8000::ffff/32", ips(n.add(t, "c", config)))
}

// The gateway is not handed out.
func TestGateway(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"range": "10.0.0.0/29", "gateway": "10.0.0.2"`)
	require.Equal(t, "10.0.0.1/29 via 10.0.0.2", ips(n.add(t, "a", config)))
	require.Equal(t, "10.0.0.3/29 via 10.0.0.2", ips(n.add(t, "b", config)))
}

// A bound outside of its range is an error.
func TestBoundsOutside(t *testing.T) {
	n := newNode(t)
	for _, bound := range []string{"range_start", "range_end"} {
		config := n.config("net", fmt.Sprintf(`"range": "10.0.0.0/24", %q: "10.0.1.7"`, bound))
		n.refuse(t, 7, "ADD", "a", config, []string{"ipam." + bound, "10.0.1.7"})
	}
	n.requireNothing(t)
}

// Each node has slices of its own, without the excluded addresses, and gets another one when they are full.
func TestSlices(t *testing.T) {
	a := newNode(t)
	b := &node{plugin: a.plugin, dir: a.dir, name: "node-b"}
	config := a.config("net", `"range": "10.0.0.0/27", "range_start": "10.0.0.3", "node_slice_size": "/29",
		"exclude": ["10.0.0.5/32", "10.0.0.9"], "gateway": "10.0.0.6"`)
	got := map[string][]string{}
	for i := range 5 {
		for _, n := range []*node{a, b} {
			got[n.name] = append(got[n.name], strings.Fields(ips(n.add(t, fmt.Sprint(n.name, i), config)))[0])
		}
	}
	require.Equal(t, map[string][]string{
		"node-a": {"10.0.0.3/27", "10.0.0.4/27", "10.0.0.7/27", "10.0.0.16/27", "10.0.0.17/27"},
		"node-b": {"10.0.0.8/27", "10.0.0.10/27", "10.0.0.11/27", "10.0.0.12/27", "10.0.0.13/27"},
	}, got)
	a.must(t, "STATUS", "", config)
	a.must(t, "DEL", "node-a0", config)
	require.Equal(t, "10.0.0.3/27 via 10.0.0.6", ips(a.add(t, "again", config)))
	require.Len(t, a.held(t, "whereabouts//slices/node-a"), 5)
	c := &node{plugin: a.plugin, dir: a.dir, name: "node-c"}
	require.Equal(t, "10.0.0.24/27 via 10.0.0.6", ips(c.add(t, "c", config)))
	d := &node{plugin: a.plugin, dir: a.dir, name: "node-d"}
	d.refuse(t, 50, "STATUS", "", config, nil)
	d.refuse(t, 11, "ADD", "d", config, []string{"all addresses are in use"})
	d.refuse(t, 7, "ADD", "d", a.config("net", `"range": "10.0.0.0/24"`), []string{"overlap"})
}

// The ADDs of a node that has no slice yet, all at once, take one.
func TestFirstSliceAtOnce(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"range": "10.0.0.0/16", "node_slice_size": "/26"`)
	require.Len(t, n.addAll(t, 20, config), 20)
	require.Len(t, n.held(t, "whereabouts//slices"), 1)
}

// Ranges that overlap never give one address twice, unless they are of other networks.
func TestOverlappingRanges(t *testing.T) {
	n := newNode(t)
	small := n.config("one", `"range": "10.0.0.0/30", "network_name": "common"`)
	large := n.config("two", `"range": "10.0.0.0/29", "network_name": "common"`)
	other := n.config("three", `"range": "10.0.0.0/29", "network_name": "common/slices"`)
	none := n.config("four", `"range": "10.0.0.0/29"`)
	alone := n.config("five", `"range": "10.0.0.0/29", "network_name": "common", "enable_overlapping_ranges": false`)
	require.Equal(t, "10.0.0.1/30", ips(n.add(t, "a", small)))
	require.Equal(t, "10.0.0.2/29", ips(n.add(t, "b", large)))
	n.refuse(t, 11, "ADD", "c", small, nil)
	require.Equal(t, "10.0.0.3/29", ips(n.add(t, "c", large)))
	for _, config := range []string{other, none, alone} {
		require.Equal(t, "10.0.0.1/29", ips(n.add(t, "a", config)))
	}
	n.must(t, "DEL", "a", small)
	require.Equal(t, "10.0.0.1/29", ips(n.add(t, "d", large)))
	n.look(t, "whereabouts/common", func(p *pool.Pool) {
		info, err := p.Info(t.Context())
		require.NoError(t, err)
		require.Equal(t, "whereabouts/common", info.Spec.Network)
	})
}

// What the documentation of host-local and static says, and what is known to go wrong there.

// host-local hands out the next address after the last.
func TestRoundRobin(t *testing.T) {
	n := newNode(t)
	config := n.config("net", subnet)
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(n.add(t, "a", config)))
	n.must(t, "DEL", "a", config)
	require.Equal(t, "10.0.0.3/29 via 10.0.0.1", ips(n.add(t, "b", config)))
}

// Ranges of one subnet may have two gateways.
func TestTwoGateways(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"ranges": [
		[{"subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.3"}],
		[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.200", "gateway": "10.0.0.254"}]]`)
	require.Equal(t, "10.0.0.2/24 via 10.0.0.1, 10.0.0.200/24 via 10.0.0.254", ips(n.add(t, "a", config)))
	require.Equal(t, "10.0.0.3/24 via 10.0.0.1, 10.0.0.201/24 via 10.0.0.254", ips(n.add(t, "b", config)))
}

// A fixed address that another container has is an error, whoever gave it to that container.
func TestStaticClash(t *testing.T) {
	n := newNode(t)
	fixed := n.config("net", `"addresses": [{"address": "10.0.0.2/29", "gateway": "10.0.0.1"}]`)
	n.add(t, "a", n.config("net", subnet))
	n.refuse(t, 100, "ADD", "b", fixed, []string{"10.0.0.2", "in use"})
	n.must(t, "DEL", "a", fixed)
	n.add(t, "b", fixed)
	n.refuse(t, 100, "ADD", "c", fixed, []string{"10.0.0.2", "in use"})
	for range 4 { // the rest of the subnet, and not what is fixed
		n.add(t, fmt.Sprint("c", rand.Uint64()), n.config("net", subnet))
	}
	n.refuse(t, 11, "ADD", "d", n.config("net", subnet), nil)
	// The gateway is for whoever asks for it.
	n.add(t, "router", n.config("net", `"addresses": [{"address": "10.0.0.1/29"}]`))
	require.Equal(t, []netip.Addr{addr("10.0.0.1")}, n.held(t, "net")["router/eth0"])
}

// Processes with different configurations of one network get addresses of their own configuration, never one twice, and
// no gateway of either.
func TestTwoConfigurations(t *testing.T) {
	n := newNode(t)
	old := n.config("net", `"subnet": "10.0.0.0/26"`)
	changed := n.config("net", `"ranges": [[{"subnet": "10.0.0.0/26", "rangeStart": "10.0.0.4", "gateway": "10.0.0.60"},
		{"subnet": "10.0.1.0/28"}], [{"subnet": "2001:db8::/120"}]]`)
	require.NoError(t, inParallel(16, func(i int) error {
		config := []string{old, changed}[i%2]
		output, err := n.command(t.Context(), "ADD", fmt.Sprint(i), config).Output()
		if err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		return nil
	}))
	held := n.held(t, "net")
	require.Len(t, held, 16)
	seen := map[netip.Addr]bool{}
	for owner, addrs := range held {
		require.Len(t, addrs, 1+int(owner[strings.Index(owner, "/")-1]-'0')%2)
		for _, a := range addrs {
			require.False(t, seen[a], a)
			seen[a] = true
		}
	}
	require.False(t, seen[addr("10.0.0.1")] || seen[addr("10.0.0.60")])
}

// A gateway that a container has as its address is an error, and changes nothing; so is one that comes later.
func TestHeldGateway(t *testing.T) {
	n := newNode(t)
	n.add(t, "a", n.config("net", `"subnet": "10.0.0.0/28"`)) // 10.0.0.2
	moved := n.config("net", `"subnet": "10.0.0.0/28", "gateway": "10.0.0.2"`)
	n.refuse(t, 7, "ADD", "b", moved, []string{"gateway: 10.0.0.2 is held by a/eth0"})
	require.Len(t, n.held(t, "net"), 1)
	n.must(t, "DEL", "a", moved)
	n.add(t, "b", moved)
	for range 11 {
		n.add(t, fmt.Sprint("c", rand.Uint64()), n.config("net", `"subnet": "10.0.0.0/28"`))
	}
	for _, addrs := range n.held(t, "net") {
		require.NotEqual(t, []netip.Addr{addr("10.0.0.2")}, addrs)
	}
}

// An ADD that is killed at any time loses no address, and leaves nothing that blocks one: its container may ask again,
// or be deleted.
func TestKilledADDs(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"ranges": [[{"subnet": "10.0.0.0/26"}], [{"subnet": "2001:db8::/121"}]]`)
	began := time.Now()
	n.add(t, "first", config)
	usual := time.Since(began)
	killed := 0
	for round := range *kills / 10 {
		require.NoError(t, inParallel(10, func(i int) error {
			c := n.command(t.Context(), "ADD", fmt.Sprintf("r%d-%d", round, i), config)
			if err := c.Start(); err != nil {
				return err
			}
			time.Sleep(time.Duration(rand.Int64N(int64(3 * usual))))
			_ = c.Process.Kill()
			_ = c.Wait()
			return nil
		}))
		for i := range 10 {
			container := fmt.Sprintf("r%d-%d", round, i)
			if i%2 == 0 {
				before := n.held(t, "net")[container+"/eth0"]
				r := n.add(t, container, config)
				if len(before) > 0 {
					require.Equal(t, before[0].String(), r.IPs[0].Address.IP.String())
					killed++
				}
			}
			n.must(t, "DEL", container, config)
		}
	}
	require.Equal(t, []string{"first/eth0"}, slices.Collect(maps.Keys(n.held(t, "net"))))
	t.Logf("%d ADDs that were killed had taken effect", killed)
	require.Len(t, n.addAll(t, 60, config), 60, "every address can be had")
}

// What host-local holds is adopted on the first ADD. A file without a container, as its crash leaves one, blocks
// nothing.
func TestAdoptHostLocal(t *testing.T) {
	n := newNode(t)
	folder := filepath.Join(n.dir, "net")
	require.NoError(t, os.Mkdir(folder, 0o755))
	for name, text := range map[string]string{
		"10.0.0.2": "old\r\neth0", "2001:db8::2": "old\r\neth0", "10.0.0.3": "", "10.0.0.4": "ancient\n",
		"10.9.9.9": "far\r\nnet1", "lock": "", "last_reserved_ip.0": "10.0.0.4",
	} {
		require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600))
	}
	quoted, err := json.Marshal(n.dir)
	require.NoError(t, err)
	config := n.config("net", fmt.Sprintf(`"dataDir": %s, "ranges": [[{"subnet": "10.0.0.0/29"}],
		[{"subnet": "2001:db8::/64"}]]`, quoted))
	require.Equal(t, "10.0.0.3/29 via 10.0.0.1, 2001:db8::3/64 via 2001:db8::1", ips(n.add(t, "new", config)))
	require.Equal(t, map[string][]netip.Addr{
		"old/eth0": {addr("10.0.0.2"), addr("2001:db8::2")}, "ancient/eth0": {addr("10.0.0.4")},
		"far/net1": {addr("10.9.9.9")}, "new/eth0": {addr("10.0.0.3"), addr("2001:db8::3")},
	}, n.held(t, "net"))
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1, 2001:db8::2/64 via 2001:db8::1", ips(n.add(t, "old", config)), "again")
	n.must(t, "GC", "", n.config("net", subnet, `"cni.dev/valid-attachments": [{"containerID": "new", "ifname": "eth0"}]`))
	require.Equal(t, []string{"new/eth0"}, slices.Collect(maps.Keys(n.held(t, "net"))))
}

// A dataDir under /run is empty after a reboot, and so are the pools: no container is left that could hold anything.
// What host-local has left in another folder is not taken up. The DEL of a container from before finds nothing, and
// succeeds.
func TestReboot(t *testing.T) {
	n := newNode(t)
	old := filepath.Join(n.dir, "old", "net")
	require.NoError(t, os.MkdirAll(old, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(old, "10.0.0.2"), []byte("stale\r\neth0"), 0o600))
	config := func(folder string) string {
		dir, err := json.Marshal(filepath.Join(n.dir, folder))
		require.NoError(t, err)
		return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "net", "type": "bridge", "ipam": {"type": "ipalloc",
			"dataDir": %s, %s}}`, dir, subnet)
	}
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(n.add(t, "a", config("run"))))
	require.Equal(t, "10.0.0.3/29 via 10.0.0.1", ips(n.add(t, "b", config("run"))))
	require.NoError(t, os.RemoveAll(filepath.Join(n.dir, "run")))

	n.must(t, "DEL", "a", config("run"))
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(n.add(t, "c", config("run"))))
	n.must(t, "DEL", "b", config("run"))
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(n.add(t, "c", config("run"))), "still")
	require.Equal(t, "10.0.0.3/29 via 10.0.0.1", ips(n.add(t, "d", config("old"))), "the folder of the files themselves")
}
