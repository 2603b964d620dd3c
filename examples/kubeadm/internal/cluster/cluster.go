// Package cluster reads what decides the addresses of a cluster: the configuration files of kubeadm, and Nodes,
// Services and ServiceCIDRs. It checks them as kubeadm and the API server do, before anything is allocated.
package cluster

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// Cluster is what was read. The zero Cluster has nothing. A Cluster may be copied; the copy shares its slices.
type Cluster struct {
	// PodSubnets are cut into the pod CIDRs of the nodes, the primary family first; none if nodes get no pod CIDRs.
	PodSubnets []netip.Prefix
	// NodeBits is the prefix length of the pod CIDRs, by family.
	NodeBits map[pool.Family]int
	// ServiceSubnets are the ranges that the cluster began with, the primary family first.
	ServiceSubnets []netip.Prefix
	// ServiceCIDRs are the ranges that were added since, without those in ServiceSubnets. They may overlap.
	ServiceCIDRs []netip.Prefix

	Nodes    []Node
	Services []Service

	// Skipped counts the objects of kinds that have no addresses here.
	Skipped map[string]int
}

// Options configure [Read]. The zero Options are the defaults.
type Options struct {
	// NodeBits is the prefix length of the pod CIDRs, by family, instead of that in the configuration of kubeadm.
	NodeBits map[pool.Family]int
	// AnySize allows the sizes that kubeadm refuses because its allocators are slow or cannot hold them: more than 2^16
	// pod CIDRs, and more than 2^20 Service addresses.
	AnySize bool
}

// Families returns the families of the Services, the primary one first.
func (c *Cluster) Families() []pool.Family { return familiesOf(c.ServiceSubnets) }

// Ranges returns all ranges of Services, those of the configuration first.
func (c *Cluster) Ranges() []netip.Prefix {
	return append(slices.Clone(c.ServiceSubnets), c.ServiceCIDRs...)
}

// Read reads files. Exactly one of their objects is a ClusterConfiguration. The error joins a [*config.FieldError] for
// each fault.
//
// [*config.FieldError]: https://pkg.go.dev/github.com/ipalloc/ipalloc/config#FieldError
func Read(files []object.File, options *Options) (*Cluster, error) {
	if options == nil {
		options = &Options{}
	}
	r := reader{options: *options, cluster: &Cluster{Skipped: map[string]int{}}, seen: map[string]bool{}}
	for _, file := range files {
		for _, o := range object.Read(file, &r.report) {
			r.object(o)
		}
	}
	r.finish()
	if err := r.report.Err(); err != nil {
		return nil, err
	}
	return r.cluster, nil
}

// reader collects what the objects say. What needs the whole cluster to be read is done in the end.
type reader struct {
	report     object.Report
	options    Options
	cluster    *Cluster
	seen       map[string]bool // names of objects
	configured bool            // whether there was a ClusterConfiguration
	nodes      []nodeValues
	services   []object.Object
	cidrs      []object.Object
	registered []registration
}

// object reads an object, or keeps it for the end.
func (r *reader) object(o object.Object) {
	switch {
	case o.Kind == "":
		o.Value.Get("kind").Refuse("is missing", "the kind of the object, such as Node")
	case o.Kind == "ConfigMap" && o.Name == "kubeadm-config":
		r.configMap(o)
	case isConfiguration[o.Kind]:
		r.configuration(o)
	case o.APIVersion == "v1" && o.Kind == "Node":
		if r.named(o) {
			r.nodes = append(r.nodes, r.node(o))
		}
	case o.APIVersion == "v1" && o.Kind == "Service":
		if o.Namespace == "" {
			o.Namespace = "default"
		}
		if r.named(o) {
			r.services = append(r.services, o)
		}
	case o.APIVersion == "networking.k8s.io/v1" && o.Kind == "ServiceCIDR":
		if r.named(o) {
			r.cidrs = append(r.cidrs, o)
		}
	default:
		r.cluster.Skipped[o.Kind]++
	}
}

// named reports whether the object has a valid name that no other one of its kind has.
func (r *reader) named(o object.Object) bool {
	name := o.Value.Get("metadata").Get("name")
	switch {
	case name.Missing():
		name.Refuse("is missing", "the name of the object")
	case !isDNSSubdomain(o.Name):
		name.Refuse("is not a DNS subdomain", "lower-case letters, digits, '-' and '.'")
	case o.Namespace != "" && !isDNSLabel(o.Namespace):
		o.Value.Get("metadata").Get("namespace").Refuse("is not a DNS label", "lower-case letters, digits and '-'")
	case r.seen[o.Kind+" "+o.FullName()]:
		name.Refuse(fmt.Sprintf("is that of a %s that was read before", o.Kind), "each object once")
	default:
		r.seen[o.Kind+" "+o.FullName()] = true
		return true
	}
	return false
}

// finish reads what needs the configuration.
func (r *reader) finish() {
	if !r.configured {
		if r.report.Count() == 0 {
			r.report.Refuse("there is no ClusterConfiguration in the files", "the configuration file of kubeadm init, "+
				"or the ConfigMap kubeadm-config of a running cluster")
		}
		return
	}
	for _, o := range r.cidrs {
		r.serviceCIDR(o)
	}
	if r.report.Count() > 0 {
		return // what follows would only repeat it
	}
	r.allNodes()
	for _, o := range r.services {
		if s, ok := readService(o, r.cluster.Families()); ok {
			r.cluster.Services = append(r.cluster.Services, s)
		}
	}
	r.cluster.checkWishes()
}

func familiesOf(prefixes []netip.Prefix) []pool.Family {
	families := make([]pool.Family, len(prefixes))
	for i, p := range prefixes {
		families[i] = pool.FamilyOf(p.Addr())
	}
	return families
}
