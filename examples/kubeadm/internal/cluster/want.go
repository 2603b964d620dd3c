package cluster

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/pool"
)

// Held is what a Service holds since an earlier run. The zero Held is nothing.
type Held struct {
	Addrs  []netip.Addr // the primary one first
	Policy pool.FamilyPolicy
}

// Want is what a Service is to have. The zero Want is nothing.
type Want struct {
	Policy pool.FamilyPolicy
	// Families are those of the Service, the primary one first; none for one of type ExternalName.
	Families []pool.Family
	// Addrs has an address for each of the families, or the zero Addr for any; none for a headless Service.
	Addrs []netip.Addr
}

// Want returns what the Service is to have in a cluster of these families, as the API server decides it when the
// Service is created or, if it holds something, changed. The error is a [*config.FieldError].
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func (s *Service) Want(families []pool.Family, held Held) (Want, error) {
	switch {
	case s.Type == typeExternalName:
		return Want{}, nil
	case s.Headless && len(held.Addrs) > 0 && !s.Live:
		return Want{}, s.clusterIP(0).Error("may not change once set", "what the Service has: "+held.Addrs[0].String())
	case s.Headless:
		return s.wantNone(families)
	case s.Live && len(s.ClusterIPs) > 0:
		return Want{s.policy(held), familiesOfAddrs(s.ClusterIPs), s.ClusterIPs}, nil
	case len(held.Addrs) == 0:
		return s.wantNew(families, s.policy(held), s.Families, s.ClusterIPs)
	}
	return s.wantChanged(families, held)
}

// policy returns the policy that the Service names, or else has.
func (s *Service) policy(held Held) pool.FamilyPolicy {
	if s.Policy != nil {
		return *s.Policy
	}
	return cmp.Or(held.Policy, pool.SingleStack)
}

// wantNone returns the families of a headless Service. Without a selector it may have families that the cluster does
// not.
func (s *Service) wantNone(families []pool.Family) (Want, error) {
	want := Want{Policy: s.policy(Held{}), Families: s.Families}
	if !s.Selector && s.Policy == nil {
		want.Policy = pool.RequireDualStack
	}
	if err := s.checkSingle(want.Policy, want.Families, nil); err != nil {
		return Want{}, err
	}
	if len(want.Families) == 0 {
		want.Families = families[:1]
	}
	if !s.Selector {
		families = []pool.Family{pool.IPv4, pool.IPv6}
	}
	want.Families = withOther(want.Families, families, want.Policy)
	return want, nil
}

// wantNew returns what a Service of these families and addresses is to have, each of which may be none.
func (s *Service) wantNew(
	cluster []pool.Family, policy pool.FamilyPolicy, families []pool.Family, addrs []netip.Addr,
) (Want, error) {
	if err := s.checkSingle(policy, families, addrs); err != nil {
		return Want{}, err
	}
	for i := len(families); i < len(addrs); i++ {
		families = append(slices.Clip(families), pool.FamilyOf(addrs[i]))
	}
	if len(families) == 0 {
		families = cluster[:1]
	}
	families = withOther(families, cluster, policy)
	addrs = append(slices.Clone(addrs), make([]netip.Addr, len(families)-len(addrs))...)
	return Want{policy, families, addrs}, nil
}

// checkSingle refuses two families or addresses of a Service that is to have one.
func (s *Service) checkSingle(policy pool.FamilyPolicy, families []pool.Family, addrs []netip.Addr) error {
	if policy != pool.SingleStack {
		return nil
	}
	const rule, want = "is SingleStack for a Service of two ", "PreferDualStack or RequireDualStack"
	if len(addrs) > 1 {
		return s.spec.Get("ipFamilyPolicy").Error(rule+"addresses", want)
	}
	if len(families) > 1 {
		return s.spec.Get("ipFamilyPolicy").Error(rule+"families", want)
	}
	return nil
}

// wantChanged returns what a Service that holds something is to have now.
func (s *Service) wantChanged(cluster []pool.Family, held Held) (Want, error) {
	if err := s.checkChange(held); err != nil {
		return Want{}, err
	}
	policy, has := s.policy(held), familiesOfAddrs(held.Addrs)
	if err := s.checkSingle(policy, s.Families, s.ClusterIPs); err != nil {
		return Want{}, err
	}
	more := len(s.ClusterIPs) > len(has) || len(s.Families) > len(has)
	switch {
	case policy == held.Policy && policy != pool.RequireDualStack && !more:
		return Want{policy, has, held.Addrs}, nil // a Service that prefers both is not changed when the cluster is
	case policy == pool.SingleStack && !more:
		return Want{policy, has[:1], held.Addrs[:1]}, nil
	}
	if policy == pool.RequireDualStack && len(has) < 2 && len(cluster) < 2 {
		return Want{}, s.spec.Get("ipFamilyPolicy").Error("is not for this cluster, which is single-stack", "")
	}
	addrs := held.Addrs
	if len(s.ClusterIPs) > len(addrs) {
		addrs = s.ClusterIPs
	}
	families := has
	if len(s.Families) > len(families) {
		families = s.Families
	}
	return s.wantNew(cluster, policy, families, addrs)
}

// checkChange refuses another address or family. A manifest that names only the primary one means what it meant when
// the Service was created: with the policies for both families there is a second one.
func (s *Service) checkChange(held Held) error {
	for i, addr := range s.ClusterIPs {
		if i < len(held.Addrs) && addr != held.Addrs[i] {
			return s.clusterIP(i).Error("may not change once set", "what the Service has: "+held.Addrs[i].String())
		}
	}
	has := familiesOfAddrs(held.Addrs)
	for i, family := range s.Families {
		if i < len(has) && family != has[i] {
			return s.spec.Get("ipFamilies").Items()[i].Error("may not change once set",
				"what the Service has: "+has[i].String())
		}
	}
	return nil
}

// withOther appends the other family if the policy asks for both and the cluster has it.
func withOther(families, cluster []pool.Family, policy pool.FamilyPolicy) []pool.Family {
	if policy == pool.SingleStack || len(families) > 1 {
		return families
	}
	for _, family := range cluster {
		if family != families[0] {
			return []pool.Family{families[0], family}
		}
	}
	return families
}

func familiesOfAddrs(addrs []netip.Addr) []pool.Family {
	families := make([]pool.Family, len(addrs))
	for i, addr := range addrs {
		families[i] = pool.FamilyOf(addr)
	}
	return families
}

// Says reports whether the Service itself says already what it is to have.
func (s *Service) Says(want Want) bool {
	return slices.Equal(s.ClusterIPs, want.Addrs) && slices.Equal(s.Families, want.Families) &&
		(len(want.Families) == 0 || s.Policy != nil && *s.Policy == want.Policy)
}
