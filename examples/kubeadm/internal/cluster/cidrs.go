package cluster

import (
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// serviceCIDR reads a range that was added to those of the configuration.
func (r *reader) serviceCIDR(o object.Object) {
	list := o.Value.Get("spec").Get("cidrs")
	items := list.Items()
	if len(items) == 0 {
		list.Refuse("has no CIDR", "one CIDR, or one of each family")
	}
	var prefixes []netip.Prefix
	for _, item := range items {
		p, err := cidr.ParsePrefix(item.Text())
		if err != nil {
			refuseText(item, err)
			return
		}
		if !slices.Contains(r.cluster.Families(), pool.FamilyOf(p.Addr())) {
			item.Refuse("is not of a family of networking.serviceSubnet", familyNames(r.cluster.Families()))
		}
		prefixes = append(prefixes, p)
	}
	if len(prefixes) > 0 && !isPair(prefixes) {
		list.Refuse("has more than one CIDR of a family", "one CIDR, or one of each family")
	}
	for _, p := range prefixes {
		if !slices.Contains(r.cluster.Ranges(), p) {
			r.cluster.ServiceCIDRs = append(r.cluster.ServiceCIDRs, p)
		}
	}
}
