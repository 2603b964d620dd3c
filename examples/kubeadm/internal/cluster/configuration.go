package cluster

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// isConfiguration has the kinds that a file of kubeadm may have.
var isConfiguration = map[string]bool{
	"ClusterConfiguration": true, "InitConfiguration": true, "JoinConfiguration": true, "ResetConfiguration": true,
	"UpgradeConfiguration": true, "KubeletConfiguration": true, "KubeProxyConfiguration": true,
}

// The versions of kubeadm's configuration, by how they write the arguments of a component.
var (
	versionsWithMaps  = []string{"kubeadm.k8s.io/v1beta2", "kubeadm.k8s.io/v1beta3"}
	versionsWithLists = []string{"kubeadm.k8s.io/v1beta4"}
)

// Defaults and limits of kubeadm.
const (
	defaultServiceSubnet = "10.96.0.0/12"
	leastPods            = 14
	leastServices        = 10
	mostNodeBits         = 16 // of a pod subnet, for the numbers of its nodes
	mostServiceBits      = 20 // of a Service subnet
)

// defaultNodeBits has the default prefix lengths of pod CIDRs.
var defaultNodeBits = map[pool.Family]int{pool.IPv4: 24, pool.IPv6: 64}

// configuration reads one object of a file of kubeadm.
func (r *reader) configuration(o object.Object) {
	switch o.Kind {
	case "ClusterConfiguration", "InitConfiguration", "JoinConfiguration":
	default:
		return // has no addresses that matter here
	}
	if !slices.Contains(versionsWithMaps, o.APIVersion) && !slices.Contains(versionsWithLists, o.APIVersion) {
		o.Value.Get("apiVersion").Refuse("is not known",
			strings.Join(slices.Concat(versionsWithMaps, versionsWithLists), ", "))
		return
	}
	if o.Kind != "ClusterConfiguration" {
		r.registration(o)
		return
	}
	if r.configured {
		o.Value.Get("kind").Refuse("is there twice", "one ClusterConfiguration in all files")
		return
	}
	r.configured = true
	r.clusterConfiguration(o)
}

// configMap reads the configuration that a running cluster keeps.
func (r *reader) configMap(o object.Object) {
	text := o.Value.Get("data").Get("ClusterConfiguration")
	if text.Missing() {
		text.Refuse("is missing", "the configuration of kubeadm, as kubeadm keeps it in this ConfigMap")
		return
	}
	for _, embedded := range text.Embedded() {
		r.configuration(embedded)
	}
}

func (r *reader) clusterConfiguration(o object.Object) {
	networking := o.Value.Get("networking")
	if domain := networking.Get("dnsDomain"); !domain.Missing() && !isDNSSubdomain(domain.Text()) {
		domain.Refuse("is not a DNS subdomain", "a domain such as cluster.local")
	}
	c := r.cluster
	services := networking.Get("serviceSubnet")
	c.ServiceSubnets = []netip.Prefix{netip.MustParsePrefix(defaultServiceSubnet)}
	if !services.Missing() {
		c.ServiceSubnets = r.subnets(services, leastServices)
	}
	if !r.options.AnySize {
		checkServiceSize(services, c.ServiceSubnets)
	}
	manager := readArguments(o, "controllerManager", "extraArgs")
	manager.mustAgree("cluster-cidr", networking.Get("podSubnet"))
	manager.mustAgree("service-cluster-ip-range", services)
	readArguments(o, "apiServer", "extraArgs").mustAgree("service-cluster-ip-range", services)
	pods := networking.Get("podSubnet")
	if pods.Missing() {
		return
	}
	subnets := r.subnets(pods, leastPods)
	if manager["allocate-node-cidrs"].value == "false" {
		return
	}
	c.PodSubnets = subnets
	c.NodeBits = r.nodeBits(manager, familiesOf(c.PodSubnets))
	r.checkNodeBits(pods)
	r.checkRoom(pods)
}

// subnets reads one CIDR, or a pair of both families. Host bits are ignored, as kubeadm does.
func (r *reader) subnets(v object.Value, least uint64) []netip.Prefix {
	const want = "one CIDR, or an IPv4 and an IPv6 CIDR with a comma in between"
	var prefixes []netip.Prefix
	for text := range strings.SplitSeq(v.Text(), ",") {
		p, err := cidr.Parser{MaskHostBits: true}.Prefix(text)
		if err != nil {
			refuseText(v, err)
			return nil
		}
		if cidr.PrefixSize(p).Cmp(cidr.CountOf(least)) < 0 {
			v.Refuse("is too small: "+p.String()+" has "+cidr.PrefixSize(p).String()+" addresses",
				"at least "+strconv.FormatUint(least, 10))
		}
		prefixes = append(prefixes, p)
	}
	if !isPair(prefixes) {
		v.Refuse("is not one CIDR or one of each family", want)
		return nil
	}
	return prefixes
}

// isPair reports whether there is one prefix, or one of each family.
func isPair(prefixes []netip.Prefix) bool {
	return len(prefixes) == 1 ||
		len(prefixes) == 2 && prefixes[0].Addr().Is4() != prefixes[1].Addr().Is4()
}

// checkServiceSize refuses Service subnets that kubeadm refuses.
func checkServiceSize(v object.Value, subnets []netip.Prefix) {
	for _, p := range subnets {
		if least := p.Addr().BitLen() - mostServiceBits; p.Bits() < least {
			v.Refuse("is too large for kubeadm: "+p.String(), "a length of "+strconv.Itoa(least)+
				" or more, or -any-size")
		}
	}
}

// nodeBits returns the lengths of pod CIDRs. Those of the options come first, then those of the controller manager.
func (r *reader) nodeBits(manager arguments, families []pool.Family) map[pool.Family]int {
	bits := map[pool.Family]int{}
	one := manager["node-cidr-mask-size"]
	for _, family := range families {
		name := "node-cidr-mask-size-" + strings.ToLower(family.String())
		own := manager[name]
		bits[family] = defaultNodeBits[family]
		switch {
		case one.set && len(families) > 1:
			one.from.Refuse("is not for dual-stack clusters", "node-cidr-mask-size-ipv4 and node-cidr-mask-size-ipv6")
		case one.set && own.set:
			one.from.Refuse("is set together with "+name, "one of them")
		case one.set:
			bits[family] = one.number(family.Width())
		case own.set:
			bits[family] = own.number(family.Width())
		}
		if set, ok := r.options.NodeBits[family]; ok {
			bits[family] = set
		}
	}
	return bits
}

// checkNodeBits checks that the pod subnets can be cut into pod CIDRs.
func (r *reader) checkNodeBits(v object.Value) {
	for _, p := range r.cluster.PodSubnets {
		family := pool.FamilyOf(p.Addr())
		bits := r.cluster.NodeBits[family]
		size := "/" + strconv.Itoa(bits)
		switch {
		case bits > family.Width():
			v.Refuse("cannot have pod CIDRs of "+size, "a length up to "+strconv.Itoa(family.Width()))
		case bits < p.Bits():
			v.Refuse("is smaller than a node's pod CIDR: "+p.String()+" has no "+size,
				"a length of "+strconv.Itoa(bits)+" or less")
		case bits-p.Bits() > mostNodeBits && !r.options.AnySize:
			v.Refuse("is too large for kubeadm: "+p.String()+" has more than 2^16 pod CIDRs of "+size,
				"a length of "+strconv.Itoa(bits-mostNodeBits)+" or more, or -any-size")
		}
	}
}

// checkRoom refuses pod subnets that the Services have whole.
func (r *reader) checkRoom(v object.Value) {
	for _, p := range r.cluster.PodSubnets {
		for _, s := range r.cluster.ServiceSubnets {
			if s.Contains(p.Addr()) && s.Bits() <= p.Bits() {
				v.Refuse("lies in networking.serviceSubnet: "+p.String()+" in "+s.String(), "subnets apart")
			}
		}
	}
}
