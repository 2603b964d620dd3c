package whereabouts

import (
	"encoding/json"
	"io"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// Namespace is where Whereabouts' objects are unless its configuration says otherwise.
const Namespace = "kube-system"

// reservationSpec is the spec of an OverlappingRangeIPReservation, whose name is the address.
type reservationSpec struct {
	ContainerID string `json:"containerid"`
	PodRef      string `json:"podref"`
	IfName      string `json:"ifname"`
}

// Objects says which objects of Whereabouts are written: those of these ranges, which have no host bits, with this
// network_name, in this namespace. With Reservations each address has an object too, as Whereabouts makes them unless
// enable_overlapping_ranges is false. The zero Objects has no ranges.
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

// Write writes a list of the objects that Whereabouts has if the attachments have these addresses, in JSON. Each range
// has an object, also one that is not in use. Addresses in no range are left out. The pod is that of the labels
// [LabelPodNamespace] and [LabelPodName].
//
// Errors: pool.ErrInvalid for an owner that is not CONTAINER/INTERFACE, before anything is written; those of w.
func (o Objects) Write(w io.Writer, entries ...adopt.Entry) error {
	specs := make([]poolSpec, len(o.Ranges))
	for i, subnet := range o.Ranges {
		specs[i] = poolSpec{subnet.String(), map[string]allocation{}}
	}
	var reservations []manifest
	for _, e := range entries {
		container, ifname, ok := strings.Cut(e.Owner, "/")
		if !ok {
			return input.Invalid(input.Quote(e.Owner), "the owner is not CONTAINER/INTERFACE")
		}
		pod := podRef(e.Labels)
		for _, p := range e.Prefixes {
			inRange := false
			for i, subnet := range o.Ranges {
				if subnet.Contains(p.Addr()) && p.IsSingleIP() {
					inRange = true
					specs[i].Allocations[numberOf(subnet, p.Addr())] = allocation{ID: container, PodRef: pod, IfName: ifname}
				}
			}
			if inRange && o.Reservations {
				spec := reservationSpec{container, pod, ifname}
				reservations = append(reservations, o.manifest(kindReservation, p.Addr().String(), spec))
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
	if labels[LabelPodName] == "" {
		return ""
	}
	return labels[LabelPodNamespace] + "/" + labels[LabelPodName]
}
