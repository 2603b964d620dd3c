package cluster

import (
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// The types of Services that matter here.
const (
	typeClusterIP    = "ClusterIP"
	typeNodePort     = "NodePort"
	typeLoadBalancer = "LoadBalancer"
	typeExternalName = "ExternalName"
)

// Service is a Service of the cluster. The zero Service is none. A Service may be copied; the copy shares its slices.
type Service struct {
	Namespace, Name string
	// Live reports whether the Service came from an API server, so that what it has is a fact and not a wish.
	Live bool
	// Type is ClusterIP, NodePort, LoadBalancer or ExternalName.
	Type string
	// Policy is nil if the Service has none.
	Policy *pool.FamilyPolicy
	// Families are those that it names, the primary one first.
	Families []pool.Family
	// ClusterIPs are those that it has or wishes, the primary one first.
	ClusterIPs []netip.Addr
	// Headless reports whether it wishes no address.
	Headless bool
	// Selector reports whether it has a selector.
	Selector bool

	spec object.Value
}

// Owner returns the name under which the Service holds its addresses.
func (s *Service) Owner() string { return s.Namespace + "/" + s.Name }

// NeedsAddress reports whether the Service gets an address at all.
func (s *Service) NeedsAddress() bool { return !s.Headless && s.Type != typeExternalName }

// readService reads a Service and checks it by itself.
func readService(o object.Object, families []pool.Family) (Service, bool) {
	spec := o.Value.Get("spec")
	s := Service{Namespace: o.Namespace, Name: o.Name, Live: o.UID != "", Type: typeClusterIP, spec: spec}
	if kind := spec.Get("type"); !kind.Missing() {
		s.Type = kind.Text()
		if !slices.Contains([]string{typeClusterIP, typeNodePort, typeLoadBalancer, typeExternalName}, s.Type) {
			kind.Refuse("is not a type of Service", "ClusterIP, NodePort, LoadBalancer or ExternalName")
			return s, false
		}
	}
	s.Selector = len(spec.Get("selector").Fields()) > 0
	if s.Type == typeExternalName {
		return s, s.checkExternalName(spec)
	}
	ok := s.readPolicy(spec.Get("ipFamilyPolicy"))
	ok = s.readFamilies(spec.Get("ipFamilies")) && ok
	ok = s.readClusterIPs(spec) && ok
	return s, ok && s.checkFamilies(families)
}

// checkExternalName refuses addresses of a Service that cannot have any.
func (s *Service) checkExternalName(spec object.Value) bool {
	ok := true
	for _, name := range []string{"clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"} {
		if v := spec.Get(name); !v.Missing() && !(v.IsList() && len(v.Items()) == 0) {
			v.Refuse("is not for Services of type ExternalName", "nothing here")
			ok = false
		}
	}
	return ok
}

func (s *Service) readPolicy(v object.Value) bool {
	if v.Missing() {
		return true
	}
	policy, ok := PolicyNamed(v.Text())
	if !ok {
		v.Refuse("is not a policy", "SingleStack, PreferDualStack or RequireDualStack")
	}
	s.Policy = &policy
	return ok
}

// PolicyNamed returns the policy that Kubernetes writes so.
func PolicyNamed(name string) (pool.FamilyPolicy, bool) {
	for _, p := range []pool.FamilyPolicy{pool.SingleStack, pool.PreferDualStack, pool.RequireDualStack} {
		if string(p) == name {
			return p, true
		}
	}
	return pool.SingleStack, false
}

func (s *Service) readFamilies(v object.Value) bool {
	ok := true
	for _, item := range v.Items() {
		var family pool.Family
		switch err := family.UnmarshalText([]byte(item.Text())); {
		case err != nil:
			item.Refuse("is not a family", "IPv4 or IPv6")
			ok = false
		case slices.Contains(s.Families, family):
			item.Refuse("is there twice", "each family once")
			ok = false
		}
		s.Families = append(s.Families, family)
	}
	return ok
}

// readClusterIPs reads clusterIPs, and clusterIP, which must be the first of them.
func (s *Service) readClusterIPs(spec object.Value) bool {
	one, all := spec.Get("clusterIP"), spec.Get("clusterIPs")
	values := all.Items()
	switch {
	case len(values) == 0 && one.Missing():
		return true
	case len(values) == 0:
		values = []object.Value{one}
	case one.Missing():
		all.Refuse("is not alone", "clusterIP too, the same as clusterIPs[0]")
		return false
	case one.Text() != values[0].Text():
		one.Refuse("is not the first of clusterIPs", values[0].Text())
		return false
	}
	if values[0].Text() == "None" {
		return s.readNone(values)
	}
	for i, v := range values {
		addr, err := cidr.ParseAddr(v.Text())
		if err != nil {
			refuseText(v, err)
			return false
		}
		if i < len(s.Families) && pool.FamilyOf(addr) != s.Families[i] {
			v.Refuse("is not of the family in ipFamilies["+string(rune('0'+i))+"]", "an "+s.Families[i].String()+" address")
			return false
		}
		s.ClusterIPs = append(s.ClusterIPs, addr)
	}
	if len(s.ClusterIPs) > 2 || len(s.ClusterIPs) == 2 && s.ClusterIPs[0].Is4() == s.ClusterIPs[1].Is4() {
		all.Refuse("has more than one address of a family", "one address of each family")
		return false
	}
	return true
}

func (s *Service) readNone(values []object.Value) bool {
	switch {
	case len(values) > 1:
		values[0].Refuse("is not alone", `"None" as the only value`)
	case s.Type != typeClusterIP:
		values[0].Refuse("is not for Services of type "+s.Type, "the type ClusterIP")
	default:
		s.Headless = true
	}
	return s.Headless
}

// checkFamilies refuses what the cluster does not have. A headless Service without a selector may name any families.
func (s *Service) checkFamilies(families []pool.Family) bool {
	if s.Headless && !s.Selector || s.Live {
		return true
	}
	ok := true
	if s.Policy != nil && *s.Policy == pool.RequireDualStack && len(families) < 2 {
		s.spec.Get("ipFamilyPolicy").Refuse("is not for this cluster, which is single-stack",
			"SingleStack or PreferDualStack, or two subnets in networking.serviceSubnet")
		ok = false
	}
	for i, item := range s.spec.Get("ipFamilies").Items() {
		if !slices.Contains(families, s.Families[i]) {
			item.Refuse("is not a family of networking.serviceSubnet", familyNames(families))
			ok = false
		}
	}
	for i, addr := range s.ClusterIPs {
		if !slices.Contains(families, pool.FamilyOf(addr)) {
			s.clusterIP(i).Refuse("is not of a family of networking.serviceSubnet", familyNames(families))
			ok = false
		}
	}
	return ok
}

// clusterIP returns where the address is.
func (s *Service) clusterIP(i int) object.Value {
	if items := s.spec.Get("clusterIPs").Items(); i < len(items) {
		return items[i]
	}
	return s.spec.Get("clusterIP")
}

func familyNames(families []pool.Family) string {
	if len(families) == 1 {
		return families[0].String()
	}
	return "IPv4 or IPv6"
}

// checkWishes refuses a wish for an address that another Service has or wishes. Two Services of an API server that have
// one address are not wishes: they are for a repair.
func (c *Cluster) checkWishes() {
	owners := map[netip.Addr]*Service{}
	for i := range c.Services {
		s := &c.Services[i]
		for n, addr := range s.ClusterIPs {
			other, taken := owners[addr]
			if taken && (!s.Live || !other.Live) {
				s.clusterIP(n).Refuse("is that of the Service "+other.Owner(), "each address once")
			}
			owners[addr] = s
		}
	}
}
