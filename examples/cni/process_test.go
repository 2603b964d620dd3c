package cni_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/version"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/pool"
)

const subnet = `"subnet": "10.0.0.0/29"`

func TestFixtures(t *testing.T) {
	for _, c := range []struct {
		file string
		want []string // of the containers a, b and so on
	}{
		{"host-local.json", []string{
			"10.1.2.9/24 via 10.1.2.8, 2001:db8:1::2/64 via 2001:db8:1::1",
			"10.1.2.10/24 via 10.1.2.8, 2001:db8:1::3/64 via 2001:db8:1::1"}},
		{"static.json", []string{"191.168.1.7/24 via 191.168.1.1"}},
		{"dual-stack.json", []string{"192.168.10.1/24, 2001:db8::1/64", "192.168.10.2/24, 2001:db8::2/64"}},
		{"exclude.json", []string{"192.0.2.197/27", "192.0.2.198/27"}},
		{"network-name-1.json", []string{"192.0.2.193/29"}},
		{"network-name-2.json", []string{"192.0.2.1/24"}},
		{"range-dash.json", []string{
			"192.168.2.226/28 via 192.168.2.225", "192.168.2.227/28 via 192.168.2.225"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			n := newNode(t)
			config := n.fixture(t, c.file)
			for i, want := range c.want {
				container := string(rune('a' + i))
				require.Equal(t, want, ips(n.add(t, container, config)))
				require.Equal(t, want, ips(n.add(t, container, config)), "again")
			}
		})
	}
}

// The configuration in a NetworkAttachmentDefinition comes to the plugin as one plugin of its list.
func TestNetworkAttachmentDefinition(t *testing.T) {
	text, err := os.ReadFile("testdata/nad-macvlan.yaml")
	require.NoError(t, err)
	_, quoted, _ := strings.Cut(string(text), "config: '")
	var list struct{ Plugins []map[string]any }
	require.NoError(t, json.Unmarshal([]byte(strings.TrimRight(quoted, "'\n")), &list))
	n := newNode(t)
	plugin := list.Plugins[0]
	plugin["name"], plugin["cniVersion"] = "macvlan-conf", "0.3.1"
	plugin["ipam"].(map[string]any)["store"] = "file://" + n.file()
	config, err := json.Marshal(plugin)
	require.NoError(t, err)
	require.Equal(t, "192.168.20.10/24 via 192.168.20.1", ips(n.add(t, "a", string(config))))
	plugin["runtimeConfig"] = map[string]any{"ips": []string{"192.168.20.77/24"}} // its capability
	config, err = json.Marshal(plugin)
	require.NoError(t, err)
	require.Equal(t, "192.168.20.77/24 via 192.168.20.1", ips(n.add(t, "b", string(config))))
}

// ADD returns a result of each version of CNI, and VERSION lists them.
func TestVersions(t *testing.T) {
	n := newNode(t)
	stdout, failed := n.call(t, "VERSION", "", "")
	require.Nil(t, failed)
	var lists struct{ SupportedVersions []string }
	require.NoError(t, json.Unmarshal(stdout, &lists))
	require.Equal(t, version.All.SupportedVersions(), lists.SupportedVersions)
	require.Contains(t, lists.SupportedVersions, "1.1.0")
	for _, v := range lists.SupportedVersions {
		config := strings.Replace(n.config("net", subnet), "1.1.0", v, 1)
		stdout, failed := n.call(t, "ADD", "a", config)
		require.Nil(t, failed)
		var result struct{ CNIVersion string }
		require.NoError(t, json.Unmarshal(stdout, &result))
		require.Equal(t, v, result.CNIVersion)
		require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(parse(t, stdout)), v)
	}
	n.refuse(t, 1, "ADD", "a", strings.Replace(n.config("net", subnet), "1.1.0", "9.0.0", 1), []string{"incompatible"})
}

// The plugin takes over a configuration under the name of the other plugin, in the folder of its files.
func TestUnderItsName(t *testing.T) {
	n := newNode(t)
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "type": "bridge",
		"ipam": {"type": "host-local", "dataDir": %q, %s}}`, n.dir, subnet)
	require.Equal(t, "10.0.0.2/29 via 10.0.0.1", ips(n.add(t, "a", config)))
	require.Equal(t, map[string][]netip.Addr{"a/eth0": {addr("10.0.0.2")}}, n.held(t, "net"))
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestWantedAddresses(t *testing.T) {
	sets := `"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.1.0/24"}], [{"subnet": "2001:db8::/64"}]]`
	for _, c := range []struct {
		name, ipam, beside, args, want string
	}{
		{"CNI_ARGS", sets, "", "IP=10.0.1.77", "10.0.0.2/24, 10.0.1.77/24, 2001:db8::2/64"},
		{"several in CNI_ARGS", sets, "", "IgnoreUnknown=1;X=Y;IP=10.0.1.77,2001:db8::7/64;K8S_POD_NAME=p",
			"10.0.0.2/24, 10.0.1.77/24, 2001:db8::7/64"},
		{"args", sets, `"args": {"cni": {"ips": ["10.0.0.9", "2001:db8::9/64"]}}`, "",
			"10.0.0.9/24, 10.0.1.2/24, 2001:db8::9/64"},
		{"runtimeConfig", sets, `"runtimeConfig": {"ips": ["10.0.0.9/24"]}`, "", "10.0.0.9/24, 10.0.1.2/24, 2001:db8::2/64"},
		{"ranges of the runtime", subnet, `"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}`, "",
			"10.9.0.2/24, 10.0.0.2/29"},
		{"only ranges of the runtime", `"routes": []`, `"runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}`, "",
			"10.9.0.2/24"},
		{"static", `"addresses": [{"address": "10.0.0.7/24"}]`, "", "IP=10.0.2.8/24,2001:db8::8/64;GATEWAY=10.0.2.1",
			"10.0.0.7/24, 10.0.2.8/24 via 10.0.2.1, 2001:db8::8/64"},
		{"static by args", `"addresses": [{"address": "10.0.0.7/24"}]`, `"args": {"cni": {"ips": ["10.0.0.8/24"]}}`, "",
			"10.0.0.8/24"},
		{"static by runtimeConfig", `"routes": []`, `"runtimeConfig": {"ips": ["10.0.0.8/24"]}`, "", "10.0.0.8/24"},
		{"whereabouts", `"range": "10.0.0.0/24"`, "", "IP=10.0.0.99", "10.0.0.99/24"},
		{"addresses beside a range", `"range": "10.0.0.0/24", "addresses": [{"address": "10.0.9.9/24",
			"gateway": "10.0.9.1"}]`, "", "", "10.0.0.1/24, 10.0.9.9/24 via 10.0.9.1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			var beside []string
			if c.beside != "" {
				beside = append(beside, c.beside)
			}
			got := ips(n.add(t, "a", n.config("net", c.ipam, beside...), "CNI_ARGS="+c.args))
			if !strings.Contains(c.want, "via") { // the second address of each subnet
				got = strings.NewReplacer(" via 10.0.0.1", "", " via 10.0.1.1", "", " via 10.9.0.1", "",
					" via 2001:db8::1", "").Replace(got)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Routes and what is said about names come back in the result.
func TestRoutesAndDNS(t *testing.T) {
	n := newNode(t)
	resolv := filepath.Join(n.dir, "resolv.conf")
	require.NoError(t, os.WriteFile(resolv, []byte("# a comment\nnameserver 10.0.0.53\nnameserver ::53\n"+
		"search a.test b.test\ndomain c.test\noptions ndots:5\n"), 0o600))
	r := n.add(t, "a", n.config("net", subnet+fmt.Sprintf(`, "resolvConf": %q, "routes": [{"dst": "0.0.0.0/0"},
		{"dst": "10.7.0.0/16", "gw": "10.0.0.6", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 5, "scope": 253}]`,
		resolv)))
	text, err := json.Marshal(r)
	require.NoError(t, err)
	require.JSONEq(t, `{"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.2/29", "gateway": "10.0.0.1"}],
		"routes": [{"dst": "0.0.0.0/0"},
			{"dst": "10.7.0.0/16", "gw": "10.0.0.6", "mtu": 1400, "advmss": 1360, "priority": 7, "table": 5, "scope": 253}],
		"dns": {"nameservers": ["10.0.0.53", "::53"], "domain": "c.test", "search": ["a.test", "b.test"],
			"options": ["ndots:5"]}}`, string(text))
	for _, ipam := range []string{`"range": "10.1.0.0/24"`, `"addresses": [{"address": "10.2.0.7/24"}]`} {
		r := n.add(t, "a", n.config("other", ipam+`, "dns": {"nameservers": ["10.0.0.1"], "domain": "d.test"},
			"routes": [{"dst": "::/0", "gw": "fe80::1"}]`))
		require.Equal(t, "d.test", r.DNS.Domain)
		require.Equal(t, []string{"10.0.0.1"}, r.DNS.Nameservers)
		require.Equal(t, "fe80::1", r.Routes[0].GW.String())
	}
}

// DEL frees everything, may be repeated, and works without the ranges that ADD had, and without a store.
func TestDel(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "2001:db8::/125"}]]`)
	n.must(t, "DEL", "a", config)
	n.requireNothing(t)
	n.add(t, "a", config)
	n.add(t, "b", config)
	n.must(t, "DEL", "a", n.config("net", `"ranges": "gone"`))
	n.must(t, "DEL", "a", config)
	require.Equal(t, map[string][]netip.Addr{"b/eth0": {addr("10.0.0.3"), addr("2001:db8::3")}}, n.held(t, "net"))
	n.must(t, "DEL", "b", n.config("other", subnet))
	require.Len(t, n.held(t, "net"), 1)
}

// DEL finds the store in the folder of the configuration although the runtime gives it no ranges any more.
func TestDelWithoutRanges(t *testing.T) {
	n := newNode(t)
	config := fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "net", "type": "bridge", "ipam": {"type": "ipalloc",
		"dataDir": %q}`, n.dir)
	n.add(t, "a", config+`, "runtimeConfig": {"ipRanges": [[{"subnet": "10.0.0.0/24"}]]}}`)
	require.Len(t, n.held(t, "net"), 1)
	n.must(t, "DEL", "a", config+"}")
	require.Empty(t, n.held(t, "net"))
}

// CHECK compares what is held with what ADD has returned.
func TestCheck(t *testing.T) {
	n := newNode(t)
	with := func(addresses string) string {
		return n.config("net", subnet, fmt.Sprintf(`"prevResult": {"cniVersion": "1.1.0", "ips": [%s]}`, addresses))
	}
	const a, b = `{"address": "10.0.0.2/29"}`, `{"address": "10.0.0.3/29"}`
	n.refuse(t, 102, "CHECK", "a", with(a), []string{"it holds no address"})
	n.add(t, "a", n.config("net", subnet))
	n.must(t, "CHECK", "a", with(a))
	n.refuse(t, 7, "CHECK", "a", n.config("net", subnet), []string{"prevResult: it is missing"})
	n.refuse(t, 102, "CHECK", "b", with(a), []string{"it holds no address"})
	n.refuse(t, 102, "CHECK", "a", with(b), []string{"it holds 10.0.0.2, which is not in prevResult.ips"})
	n.add(t, "b", n.config("net", subnet))
	n.refuse(t, 102, "CHECK", "a", with(a+","+b), []string{"10.0.0.3 of prevResult.ips is held by b/eth0"})
	n.must(t, "CHECK", "a", with(a+`, {"address": "10.9.9.9/24"}`)) // of another plugin in the chain
	n.must(t, "DEL", "a", n.config("net", subnet))
	n.refuse(t, 102, "CHECK", "a", with(a), []string{"it holds no address"})
}

// GC frees what attachments hold that are not in the list, of this network alone.
func TestGC(t *testing.T) {
	n := newNode(t)
	for _, kind := range []string{subnet, `"range": "10.1.0.0/24"`} {
		one, two := n.config("one", kind), n.config("two", kind)
		for _, container := range []string{"a", "b", "c"} {
			n.add(t, container, one)
			n.add(t, container+"2", two)
		}
		n.refuse(t, 7, "GC", "", one, []string{"cni.dev/valid-attachments: is missing"})
		valid := `"cni.dev/valid-attachments": [{"containerID": "b", "ifname": "eth0"}, {"containerID": "c", "ifname": "x"}]`
		n.must(t, "GC", "", n.config("one", kind, valid))
		held := n.held(t, map[bool]string{true: "one", false: "whereabouts/"}[kind == subnet])
		require.Contains(t, held, "b/eth0")
		require.NotContains(t, held, "a/eth0")
		require.NotContains(t, held, "c/eth0")
		if kind != subnet { // one pool for both networks
			require.Len(t, held, 4)
		}
		n.must(t, "GC", "", n.config("one", kind, `"cni.dev/valid-attachments": []`))
		require.NotContains(t, n.held(t, map[bool]string{true: "one", false: "whereabouts/"}[kind == subnet]), "b/eth0")
	}
	require.Len(t, n.held(t, "two"), 3)
	n.must(t, "GC", "", n.config("unknown", subnet, `"cni.dev/valid-attachments": []`))
}

// STATUS says whether an ADD would succeed, and changes nothing.
func TestStatus(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"subnet": "10.0.0.0/30"`)
	n.must(t, "STATUS", "", config)
	n.requireNothing(t)
	n.refuse(t, 7, "STATUS", "", n.config("net", `"subnet": "10.0.0"`), []string{"ipam.subnet"})
	n.add(t, "a", config)
	n.refuse(t, 50, "STATUS", "", config, []string{"all addresses are in use"})
	n.must(t, "STATUS", "", n.config("net", `"subnet": "10.0.1.0/30"`)) // ADD makes the pool larger
	n.must(t, "STATUS", "", n.config("net", `"addresses": [{"address": "10.0.0.2/30"}]`))
	n.must(t, "DEL", "a", config)
	n.must(t, "STATUS", "", config)
	require.NoError(t, os.WriteFile(n.file(), []byte("this is no store of addresses"), 0o600))
	n.refuse(t, 50, "STATUS", "", config, []string{"the store of the addresses fails", n.file()})
}

// An error says what the runtime is to do.
func TestErrorCodes(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"subnet": "10.0.0.0/30"`)
	n.add(t, "a", config)
	n.refuse(t, 11, "ADD", "b", config, []string{"all addresses are in use"})
	n.refuse(t, 100, "ADD", "b", config, []string{"10.0.0.2", "is in use"}, "CNI_ARGS=IP=10.0.0.2")
	n.refuse(t, 101, "ADD", "a", n.config("net", `"subnet": "10.0.1.0/24"`), []string{"DEL comes first"})
	require.Equal(t, map[string][]netip.Addr{"a/eth0": {addr("10.0.0.2")}}, n.held(t, "net"))
}

// A wrong configuration is an error with the name of the key, before anything changes.
func TestWrongConfigurations(t *testing.T) {
	const hl = `"subnet": "10.0.0.0/24"`
	for _, c := range []struct {
		name, ipam, beside, args string
		code                     uint
		want                     string
	}{
		{"store", hl + `, "store": "var/lib/x"`, "", "", 7, "ipam.store: is not a URL"},
		{"store of another program", hl + `, "store": "etcd://10.0.0.1:2379"`, "", "", 7,
			`ipam.store: unknown scheme: "etcd" is none of those of this program: file`},
		{"relative file", hl + `, "store": "file://x/y"`, "", "", 7, "ipam.store: "},
		{"parameter of a file", hl + `, "store": "file:///x/y?mode=0600"`, "", "", 7, `unknown parameter "mode"`},
		{"no text", hl + `, "store": 5`, "", "", 7, "ipam.store: is a number"},
		{"no ranges", `"ranges": [], "type": "host-local"`, "", "", 7, "ipam.ranges: there are no ranges"},
		{"subnet", `"subnet": "10.0.0/24"`, "", "", 7, `ipam.subnet: "10.0.0/24" cannot be parsed`},
		{"host bits", `"subnet": "10.0.0.1/24"`, "", "", 7, "10.0.0.0/24"},
		{"rangeStart outside", hl + `, "rangeStart": "10.0.1.1"`, "", "", 7, "ipam.rangeStart"},
		{"two systems", hl + `, "range": "10.0.0.0/24"`, "", "", 7, "ipam.range: is a key of whereabouts"},
		{"two other systems", hl + `, "addresses": [{"address": "10.0.0.7/24"}]`, "", "", 7,
			"ipam.addresses: is a key of static"},
		{"overlap", `"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/24"}]]`, "", "", 7, "ipam.ranges[1][0]"},
		{"routes", hl + `, "routes": [{"dst": "x"}]`, "", "", 7, "ipam.routes[0].dst"},
		{"resolvConf", hl + `, "resolvConf": "/nowhere/resolv.conf"`, "", "", 5, "ipam.resolvConf: open /nowhere"},
		{"no addresses", `"addresses": [], "type": "static"`, "", "", 7, "ipam.addresses: there are no addresses"},
		{"range", `"range": "10.0.0.0/33"`, "", "", 7, "ipam.range: "},
		{"exclude", `"range": "10.0.0.0/24", "exclude": ["x"]`, "", "", 7, "ipam.exclude[0]"},
		{"slices on a file", `"range": "10.0.0.0/24", "node_slice_size": "/26", "store": ""`, "", "", 7,
			"ipam.store: is missing: slices of nodes"},
		{"slice", `"range": "10.0.0.0/24", "node_slice_size": "/8"`, "", "", 7, "ipam.node_slice_size"},
		{"a gateway is asked for", hl, "", "IP=10.0.0.1", 7, "CNI_ARGS IP: 10.0.0.1 cannot be had"},
		{"a reserved address is asked for", `"range": "10.0.0.0/24", "range_start": "10.0.0.0"`,
			`"runtimeConfig": {"ips": ["10.0.0.0"]}`, "", 7, "args.cni.ips or runtimeConfig.ips: 10.0.0.0 cannot be had"},
		{"asked for outside", hl, "", "IP=10.0.1.7", 7, "CNI_ARGS IP: 10.0.1.7 is in no range"},
		{"asked for twice", hl, "", "IP=10.0.0.7,10.0.0.8", 7, "CNI_ARGS IP: 10.0.0.8 is in no range, or its set has"},
		{"arguments", hl, "", "IP=x", 4, `CNI_ARGS IP: "x" is not an address`},
		{"other arguments", hl, "", "X=Y", 4, "X=Y"},
		{"no length", `"addresses": [{"address": "10.0.0.7/24"}]`, "", "IP=10.0.0.8", 4, "10.0.0.8 has no length"},
		{"gateway in the arguments", `"addresses": [{"address": "10.0.0.7/24"}]`, "", "GATEWAY=x", 4, "CNI_ARGS GATEWAY"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			var beside []string
			if c.beside != "" {
				beside = append(beside, c.beside)
			}
			n.refuse(t, c.code, "ADD", "a", n.config("net", c.ipam, beside...), []string{c.want}, "CNI_ARGS="+c.args)
			n.requireNothing(t)
		})
	}
	n := newNode(t)
	n.refuse(t, 6, "ADD", "a", "{", nil)
	n.refuse(t, 7, "ADD", "a", `{"cniVersion": "1.0.0", "ipam": {}}`, []string{"missing network name"})
	n.refuse(t, 7, "ADD", "a", `{"cniVersion": "1.0.0", "name": "n"}`, []string{"ipam: is missing"})
	n.refuse(t, 4, "ADD", "", n.config("net", hl), []string{"CNI_CONTAINERID"})
	n.requireNothing(t)
}

// The program for files has no client of the other stores, and the others have only their own.
func TestDrivers(t *testing.T) {
	clients := map[string]string{
		"etcd": "go.etcd.io/etcd/client/v3", "postgres": "github.com/jackc/pgx/v5", "kube": "k8s.io/client-go/rest"}
	for _, program := range []string{"", "etcd", "postgres", "kube"} {
		output, err := exec.Command("go", "list", "-deps", strings.TrimSuffix("./cmd/ipalloc-"+program, "-")).Output()
		require.NoError(t, err)
		deps := strings.Fields(string(output))
		for driver, client := range clients {
			if driver == program {
				require.Contains(t, deps, client)
			} else {
				require.NotContains(t, deps, client, program)
			}
		}
		require.Contains(t, deps, "go.etcd.io/bbolt")
	}
	file, err := os.Stat(build(t, "./cmd/ipalloc"))
	require.NoError(t, err)
	require.Less(t, file.Size(), int64(20<<20))
}

// What stands in the pool is what people look for.
func TestLabels(t *testing.T) {
	n := newNode(t)
	n.add(t, "a", n.config("net", subnet),
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=web-0;K8S_POD_UID=u1")
	n.look(t, "net", func(p *pool.Pool) {
		a, err := p.Get(t.Context(), pool.Held{Owner: "a/eth0"})
		require.NoError(t, err)
		require.Equal(t, map[string]string{"network": "net", "kind": "host-local", "node": "node-a", "pod-namespace": "ns",
			"pod-name": "web-0", "pod-uid": "u1"}, a.Labels)
	})
}
