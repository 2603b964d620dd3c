package adopt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/pool"
)

// ippool is an IPPool object of Whereabouts.
type ippool struct {
	Metadata struct{ Name string }
	Spec     struct {
		Range string
		// Allocations are by the number of the address in the range, in decimal.
		Allocations map[string]struct {
			ID, PodRef, IfName string
		}
	}
}

// Whereabouts reads a list of IPPool objects, as kubectl prints it, and returns one allocation for each attachment.
// It takes the pools of these ranges and of this network_name, which an object has in its name. The labels are those of
// each allocation, which also gets those of its pod.
func Whereabouts(
	text []byte, networkName string, ranges []netip.Prefix, labels map[string]string,
) ([]pool.Allocation, error) {
	var list struct{ Items []ippool }
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the list of IPPool objects: %w", err)
	}
	held := map[string][]netip.Prefix{}
	pods := map[string]string{}
	for _, object := range list.Items {
		subnet, err := netip.ParsePrefix(object.Spec.Range)
		if err != nil {
			return nil, fmt.Errorf("IPPool %q: spec.range: %w", object.Metadata.Name, err)
		}
		if !slices.Contains(ranges, subnet.Masked()) || object.Metadata.Name != objectName(networkName, object.Spec.Range) {
			continue
		}
		for number, a := range object.Spec.Allocations {
			addr, err := nth(subnet, number)
			if err != nil {
				return nil, fmt.Errorf("IPPool %q: spec.allocations: %w", object.Metadata.Name, err)
			}
			owner := netpools.Owner(a.ID, cmp.Or(a.IfName, Interface))
			held[owner] = append(held[owner], netip.PrefixFrom(addr, addr.BitLen()))
			pods[owner] = a.PodRef
		}
	}
	all := allocations(held)
	for i := range all {
		all[i].Labels = maps.Clone(labels)
		if namespace, name, ok := strings.Cut(pods[all[i].Owner], "/"); ok {
			all[i].Labels[netpools.LabelPodNamespace], all[i].Labels[netpools.LabelPodName] = namespace, name
		}
	}
	return all, nil
}

// objectName is the name that Whereabouts gives to the object of a range.
func objectName(networkName, subnet string) string {
	name := strings.NewReplacer(":", "-", "/", "-").Replace(subnet)
	if networkName == "" {
		return name
	}
	return networkName + "-" + name
}

// nth is the address of a number in the subnet, counted from 0.
func nth(subnet netip.Prefix, number string) (netip.Addr, error) {
	n, ok := new(big.Int).SetString(number, 10)
	if !ok || n.Sign() < 0 {
		return netip.Addr{}, fmt.Errorf("%q is not the number of an address", number)
	}
	n.Add(n, new(big.Int).SetBytes(subnet.Masked().Addr().AsSlice()))
	if n.BitLen() > subnet.Addr().BitLen() {
		return netip.Addr{}, fmt.Errorf("%q is outside of %v", number, subnet)
	}
	addr, _ := netip.AddrFromSlice(n.FillBytes(make([]byte, subnet.Addr().BitLen()/8)))
	if !subnet.Contains(addr) {
		return netip.Addr{}, fmt.Errorf("%q is outside of %v", number, subnet)
	}
	return addr, nil
}
