// Package whereabouts reads and writes the objects of Whereabouts, the IPAM plugin of CNI.
//
// It reads IPPool objects (whereabouts.cni.cncf.io/v1alpha1) in JSON or YAML, of one object, several or a list, such as
//
//	kubectl get ippools.whereabouts.cni.cncf.io -A -o json
//
// Objects of other kinds are passed over: an OverlappingRangeIPReservation says nothing that the IPPool does not say.
// The format is that of the types in github.com/k8snetworkplumbingwg/whereabouts: allocations are by the number of the
// address in the range.
//
// The owner is CONTAINER/INTERFACE, with all its addresses in all ranges of one network_name. The labels are
// pod-namespace and pod-name, ip-pool with the name of the object, network-name, if the object's name has one, and
// ipam-claim for an address of an IPAMClaim.
package whereabouts

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/adopt/internal/object"
)

// The kinds of the objects, and their version.
const (
	kindPool        = "IPPool"
	kindReservation = "OverlappingRangeIPReservation"
	apiVersion      = "whereabouts.cni.cncf.io/v1alpha1"
)

// Interface is the interface of a container whose allocation names none, as those of old versions do.
const Interface = "eth0"

// Labels that the reader sets and the writer reads.
const (
	LabelPodNamespace = "pod-namespace"
	LabelPodName      = "pod-name"
	labelPool         = "ip-pool"
	labelNetwork      = "network-name"
	labelClaim        = "ipam-claim"
)

// Pool identifies an IPPool object.
type Pool struct {
	// Namespace and Name are those of the object.
	Namespace, Name string
	// Range is the range, without host bits.
	Range netip.Prefix
	// NetworkName is network_name in the configuration; empty if it has none. In a configuration with slices of nodes,
	// the name of the node is a part of it.
	NetworkName string
}

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
	Claim  string `json:"ipamclaimref,omitempty"`
}

// Read returns an entry of each attachment, in the order of the owners: of the IPPool objects that keep returns true
// for, or of all if keep is nil. Cost: O(addresses) of memory.
func Read(r io.ReadSeeker, keep func(Pool) bool) adopt.Entries {
	read := func(o object.Object, yield func(adopt.Entry) error) error {
		var ipPool struct {
			Spec poolSpec `json:"spec"`
		}
		if err := o.Decode(&ipPool); err != nil {
			return err
		}
		subnet, err := netip.ParsePrefix(ipPool.Spec.Range)
		if err != nil {
			return o.Invalid("spec.range: %w", err)
		}
		p := Pool{
			Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Range: subnet.Masked(),
			NetworkName: networkName(o.Metadata.Name, ipPool.Spec.Range),
		}
		if keep != nil && !keep(p) {
			return nil
		}
		for _, number := range slices.Sorted(maps.Keys(ipPool.Spec.Allocations)) {
			if err := ipPool.Spec.Allocations[number].read(o, p, number, yield); err != nil {
				return err
			}
		}
		return nil
	}
	return input.Group(object.Read(r, read, kindPool), func(e adopt.Entry) string { return e.Labels[labelNetwork] })
}

// read yields the entry of an address.
func (a allocation) read(o object.Object, p Pool, number string, yield func(adopt.Entry) error) error {
	addr, err := nth(p.Range, number)
	if err != nil {
		return o.Invalid("spec.allocations: %w", err)
	}
	e := adopt.Entry{
		Owner: a.ID + "/" + cmp.Or(a.IfName, Interface), Prefixes: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())},
		At: o.At(), Labels: map[string]string{labelPool: p.Name},
	}
	if a.ID == "" {
		e.Owner = a.Claim
	}
	if e.Owner == "" {
		return o.Invalid("spec.allocations[%q]: it names no container", number)
	}
	if namespace, name, ok := strings.Cut(a.PodRef, "/"); ok {
		e.Labels[LabelPodNamespace], e.Labels[LabelPodName] = namespace, name
	}
	if p.NetworkName != "" {
		e.Labels[labelNetwork] = p.NetworkName
	}
	if a.Claim != "" {
		e.Labels[labelClaim] = a.Claim
	}
	return yield(e)
}

// networkName is what stands before the range in the name of an object; empty if nothing does.
func networkName(object, ipRange string) string {
	before, ok := strings.CutSuffix(object, objectName("", ipRange))
	if !ok {
		return ""
	}
	return strings.TrimSuffix(before, "-")
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
	n, ok := new(big.Int), false
	if len(number) <= maxDigits {
		n, ok = n.SetString(number, 10)
	}
	if !ok || n.Sign() < 0 {
		return netip.Addr{}, fmt.Errorf("%s is not the number of an address", input.Quote(number))
	}
	n.Add(n, new(big.Int).SetBytes(subnet.Addr().AsSlice()))
	if n.BitLen() > subnet.Addr().BitLen() {
		return netip.Addr{}, fmt.Errorf("%s is outside of %v", input.Quote(number), subnet)
	}
	addr, _ := netip.AddrFromSlice(n.FillBytes(make([]byte, subnet.Addr().BitLen()/8)))
	if !subnet.Contains(addr) {
		return netip.Addr{}, fmt.Errorf("%s is outside of %v", input.Quote(number), subnet)
	}
	return addr, nil
}

// maxDigits is how many digits 2^128 has.
const maxDigits = 39

// numberOf is the number of an address in the subnet.
func numberOf(subnet netip.Prefix, addr netip.Addr) string {
	n := new(big.Int).SetBytes(addr.AsSlice())
	return n.Sub(n, new(big.Int).SetBytes(subnet.Masked().Addr().AsSlice())).String()
}
