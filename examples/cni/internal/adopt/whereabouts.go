package adopt

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/examples/cni/internal/netpools"
	"github.com/ipalloc/ipalloc/pool"
)

// The kinds of Whereabouts' objects, and their version.
const (
	kindPool        = "IPPool"
	kindReservation = "OverlappingRangeIPReservation"
	apiVersion      = "whereabouts.cni.cncf.io/v1alpha1"
)

// poolSpec is the spec of an IPPool.
type poolSpec struct {
	Range string `json:"range"`
	// Allocations are by the number of the address in the range, in decimal.
	Allocations map[string]allocation `json:"allocations"`
}

// allocation is an address in an IPPool.
type allocation struct {
	ID     string `json:"id"`
	PodRef string `json:"podref"`
	IfName string `json:"ifname"`
}

// reservationSpec is the spec of an OverlappingRangeIPReservation, whose name is the address.
type reservationSpec struct {
	ContainerID string `json:"containerid"`
	PodRef      string `json:"podref"`
	IfName      string `json:"ifname"`
}

// Whereabouts reads a list of IPPool objects, as kubectl prints it, and returns one allocation for each attachment.
// It takes the pools of these ranges and of this network_name, which an object has in its name. The labels are those of
// each allocation, which also gets those of its pod. Objects of other kinds are left out.
func Whereabouts(
	text []byte, networkName string, ranges []netip.Prefix, labels map[string]string,
) ([]pool.Allocation, error) {
	var list struct {
		Items []struct {
			Kind     string
			Metadata struct{ Name string }
			Spec     poolSpec
		}
	}
	if err := json.Unmarshal(text, &list); err != nil {
		return nil, fmt.Errorf("the list of IPPool objects: %w", err)
	}
	held := map[string][]netip.Prefix{}
	pods := map[string]string{}
	for _, object := range list.Items {
		if cmp.Or(object.Kind, kindPool) != kindPool {
			continue
		}
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

// Namespace is where Whereabouts' objects are unless its configuration says otherwise.
const Namespace = "kube-system"

// Objects says which objects of Whereabouts are written: those of these ranges, with this network_name, in this
// namespace. With Reservations each address has an object too, as Whereabouts makes them unless
// enable_overlapping_ranges is false.
type Objects struct {
	NetworkName, Namespace string
	Ranges                 []netip.Prefix
	Reservations           bool
}

// manifest is an object as kubectl takes it.
type manifest struct {
	APIVersion string            `json:"apiVersion"`
	Kind       string            `json:"kind"`
	Metadata   map[string]string `json:"metadata"`
	Spec       any               `json:"spec"`
}

// Write writes a list of the objects that Whereabouts has if the attachments hold what they hold here. Addresses of
// other ranges are left out.
func (o Objects) Write(w io.Writer, held []pool.Allocation) error {
	specs := make([]poolSpec, len(o.Ranges))
	for i, subnet := range o.Ranges {
		specs[i] = poolSpec{subnet.String(), map[string]allocation{}}
	}
	var reservations []manifest
	for _, a := range held {
		container, ifname, _ := strings.Cut(a.Owner, "/")
		pod := podRef(a.Labels)
		for _, addr := range a.Addrs() {
			inRange := false
			for i, subnet := range o.Ranges {
				if subnet.Contains(addr) {
					inRange = true
					specs[i].Allocations[numberOf(subnet, addr)] = allocation{container, pod, ifname}
				}
			}
			if inRange && o.Reservations {
				spec := reservationSpec{container, pod, ifname}
				reservations = append(reservations, o.manifest(kindReservation, addr.String(), spec))
			}
		}
	}
	var items []manifest
	for _, spec := range specs {
		items = append(items, o.manifest(kindPool, spec.Range, spec))
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(map[string]any{"apiVersion": "v1", "kind": "List", "items": append(items, reservations...)})
}

// manifest is the object of a range or an address.
func (o Objects) manifest(kind, of string, spec any) manifest {
	metadata := map[string]string{"name": objectName(o.NetworkName, of), "namespace": o.Namespace}
	return manifest{apiVersion, kind, metadata, spec}
}

// podRef is how Whereabouts names the pod of an attachment.
func podRef(labels map[string]string) string {
	if labels[netpools.LabelPodName] == "" {
		return ""
	}
	return labels[netpools.LabelPodNamespace] + "/" + labels[netpools.LabelPodName]
}

// objectName is the name that Whereabouts gives to the object of a range, or of an address.
func objectName(networkName, of string) string {
	if strings.HasSuffix(of, ":") {
		of += "0"
	}
	name := strings.NewReplacer(":", "-", "/", "-").Replace(of)
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

// numberOf is the number of an address in the subnet.
func numberOf(subnet netip.Prefix, addr netip.Addr) string {
	n := new(big.Int).SetBytes(addr.AsSlice())
	return n.Sub(n, new(big.Int).SetBytes(subnet.Masked().Addr().AsSlice())).String()
}
