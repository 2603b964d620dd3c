package cni

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/pool"
)

// Wanted is an address that args.cni.ips or runtimeConfig.ips asks for.
type Wanted struct {
	// Prefix is the address with its length; that of a single address if it has none.
	Prefix netip.Prefix
	// HasLength reports whether the text has a length.
	HasLength bool
	// Value is where it stands.
	Value tree.Value
}

// WantedAddresses reads args.cni.ips, and then runtimeConfig.ips, each as a list.
func WantedAddresses(plugin tree.Object) (args, runtime []Wanted) {
	return wantedIn(Descend(plugin, "args", "cni", "ips")), wantedIn(Descend(plugin, "runtimeConfig", "ips"))
}

func wantedIn(list tree.Value) []Wanted {
	var wanted []Wanted
	for _, item := range list.Items() {
		if w, ok := readWanted(item); ok {
			wanted = append(wanted, w)
		}
	}
	return wanted
}

// readWanted reads an address, which may have a length.
func readWanted(v tree.Value) (Wanted, bool) {
	text, ok := v.Text()
	switch {
	case !ok:
		return Wanted{}, false
	case strings.Contains(text, "/"):
		prefix, ok := v.HostPrefix()
		return Wanted{prefix, true, v}, ok
	}
	addr, ok := v.Addr()
	return Wanted{netip.PrefixFrom(addr, addr.BitLen()), false, v}, ok
}

// Addrs are the addresses without their lengths.
func Addrs(wanted ...Wanted) []netip.Addr {
	var addrs []netip.Addr
	for _, w := range wanted {
		addrs = append(addrs, w.Prefix.Addr())
	}
	return addrs
}

// Descend is the value at a path of fields, each of which may be missing.
func Descend(o tree.Object, path ...string) tree.Value {
	v := o.Field(path[0])
	if len(path) == 1 || v.Missing() {
		return v
	}
	inner, ok := v.FoldedObject()
	if !ok {
		return tree.Value{}
	}
	return Descend(inner, path[1:]...)
}

// CheckVersion refuses several addresses of a family before CNI 0.3.0, whose result has no place for them. Several says
// what there are several of; the families are those of the addresses that a container gets.
func CheckVersion(v tree.Value, version, several string, families ...pool.Family) {
	counts := map[pool.Family]int{}
	for _, family := range families {
		counts[family]++
	}
	if counts[pool.IPv4] < 2 && counts[pool.IPv6] < 2 || since03(version) {
		return
	}
	v.Refuse(fmt.Sprintf("has several %s of one family, which CNI %s does not support", several, tree.Quote(version)),
		`a cniVersion of at least "0.3.0"`)
}

// since03 reports whether the version is 0.3.0 or a later one. None at all means 0.1.0.
func since03(version string) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	first, err := strconv.Atoi(major)
	if err != nil {
		return false
	}
	second, err := strconv.Atoi(minor)
	return first > 0 || err == nil && second >= 3
}
