// Package calico reads the IPAMBlock objects of Calico's IPAM (groups crd.projectcalico.org/v1 and
// projectcalico.org/v3).
//
// The text is JSON or YAML, of one object, several or a list, such as
//
//	kubectl get ipamblocks.crd.projectcalico.org -o json
//
// Objects of other kinds are passed over, and so are blocks that are being deleted. The format is that of IPAMBlockSpec
// in projectcalico/calico: allocations has a number for each address of the block, null for a free one, and the number
// is that of its attributes.
//
// The owner is the handle, with all its addresses in all blocks: NETWORK.CONTAINER of a pod, such as
// k8s-pod-network.8a1f…, and vxlan-tunnel-addr-NODE or the like of a tunnel. Addresses without a handle, and those that
// a Windows node keeps for itself, have the block as the owner too: windows-reserved-ipam-handle/10.0.0.64/26. The
// labels are Calico's attributes: namespace, pod, node, type, timestamp.
package calico

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/adopt/internal/object"
	"github.com/ipalloc/ipalloc/cidr"
)

// windows is the handle of the addresses that Windows nodes keep for themselves.
const windows = "windows-reserved-ipam-handle"

// block is an IPAMBlock.
type block struct {
	Spec struct {
		CIDR        string      `json:"cidr"`
		Allocations []*int      `json:"allocations"`
		Attributes  []attribute `json:"attributes"`
		Deleted     bool        `json:"deleted"`
	} `json:"spec"`
}

type attribute struct {
	Handle string            `json:"handle_id"`
	Labels map[string]string `json:"secondary"`
}

// Read returns an entry of each handle, in the order of the handles. Cost: O(addresses) of memory.
func Read(r io.ReadSeeker) adopt.Entries {
	return input.Group(object.Read(r, read, "IPAMBlock"), func(adopt.Entry) string { return "" })
}

func read(o object.Object, yield func(adopt.Entry) error) error {
	var b block
	if err := o.Decode(&b); err != nil {
		return err
	}
	if b.Spec.Deleted {
		return nil
	}
	network, err := cidr.ParsePrefix(b.Spec.CIDR)
	if err != nil {
		return o.Invalid("spec.cidr: %w", err)
	}
	addr := network.Addr()
	for i, number := range b.Spec.Allocations {
		if !network.Contains(addr) {
			return o.Invalid("spec.allocations: there are %d, which is more than %v has", len(b.Spec.Allocations), network)
		}
		if number != nil {
			if *number < 0 || *number >= len(b.Spec.Attributes) {
				return o.Invalid("spec.allocations[%d]: %d is not the number of one of the %d attributes", i, *number,
					len(b.Spec.Attributes))
			}
			if err := yield(b.Spec.Attributes[*number].entry(addr, network, o.At())); err != nil {
				return err
			}
		}
		addr = addr.Next()
	}
	return nil
}

// entry is the entry of an address.
func (a attribute) entry(addr netip.Addr, network netip.Prefix, at string) adopt.Entry {
	e := adopt.Entry{
		Owner: a.Handle, Prefixes: []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())}, Labels: a.Labels, At: at,
	}
	if a.Handle == "" || strings.EqualFold(a.Handle, windows) {
		e.Owner = strings.TrimPrefix(fmt.Sprintf("%s/%v", a.Handle, network), "/")
	}
	return e
}
