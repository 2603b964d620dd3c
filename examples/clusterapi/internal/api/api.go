// Package api has the types of Cluster API that the controller reads and writes, in each version that a server may
// serve, and the names that Cluster API, its in-cluster IPAM provider and this controller use.
//
// The types have only the fields that the controller needs. So it changes objects by patches, which leave the other
// fields as they are.
package api

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/ipalloc/ipalloc/config/clusterapi"
)

// The groups.
const (
	Group        = clusterapi.Group
	ClusterGroup = "cluster.x-k8s.io"
)

// The names that Cluster API and its in-cluster provider use, so that objects can change over from the one controller
// to the other.
const (
	ClaimFinalizer   = Group + "/ReleaseAddress"
	AddressFinalizer = Group + "/ProtectAddress"
	PoolFinalizer    = Group + "/ProtectPool"
	// PausedAnnotation leaves an object alone.
	PausedAnnotation = ClusterGroup + "/paused"
	// SkipDeleteAnnotation on a pool allows its deletion although it is in use, as clusterctl move needs it.
	SkipDeleteAnnotation = Group + "/skip-validate-delete-webhook"
	// ClusterLabel is the name of the cluster that a claim belongs to.
	ClusterLabel = ClusterGroup + "/cluster-name"
)

// AddressAnnotation on a claim asks for one address exactly. It is this controller's own.
const AddressAnnotation = "ipam.ipalloc.github.io/address"

// Versions are the versions of Cluster API that the controller speaks, the one that it prefers first.
var Versions = []string{"v1beta2", "v1beta1"}

// PoolVersion is the version of the pools that the controller reads.
const PoolVersion = "v1alpha2"

// PoolRef names a pool.
type PoolRef struct {
	APIGroup string `json:"apiGroup,omitempty"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
}

// NameRef names an object of a kind that is known.
type NameRef struct {
	Name string `json:"name,omitempty"`
}

// Condition is a condition of any version.
type Condition struct {
	Type               string                 `json:"type"`
	Status             metav1.ConditionStatus `json:"status"`
	Reason             string                 `json:"reason"`
	Message            string                 `json:"message"`
	Severity           string                 `json:"severity,omitempty"`
	ObservedGeneration int64                  `json:"observedGeneration,omitempty"`
	LastTransitionTime metav1.Time            `json:"lastTransitionTime,omitzero"`
}

// Claim is an IPAddressClaim.
type Claim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClaimSpec   `json:"spec"`
	Status            ClaimStatus `json:"status,omitzero"`
}

// ClaimSpec is what a claim asks for.
type ClaimSpec struct {
	ClusterName string  `json:"clusterName,omitempty"`
	PoolRef     PoolRef `json:"poolRef"`
}

// ClaimStatus is the state of a claim.
type ClaimStatus struct {
	AddressRef NameRef     `json:"addressRef,omitzero"`
	Conditions []Condition `json:"conditions,omitempty"`
}

// Condition returns the condition of a type; the zero Condition if there is none.
func (c *Claim) Condition(kind string) Condition {
	for _, condition := range c.Status.Conditions {
		if condition.Type == kind {
			return condition
		}
	}
	return Condition{}
}

// Cluster returns the name of the cluster that the claim belongs to; empty if it belongs to none.
func (c *Claim) Cluster() string {
	if c.Spec.ClusterName != "" {
		return c.Spec.ClusterName
	}
	return c.Labels[ClusterLabel]
}

// DeepCopyObject implements runtime.Object.
func (c *Claim) DeepCopyObject() runtime.Object {
	other := *c
	c.ObjectMeta.DeepCopyInto(&other.ObjectMeta)
	other.Status.Conditions = append([]Condition(nil), c.Status.Conditions...)
	return &other
}

// ClaimList is a list of claims.
type ClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Claim `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *ClaimList) DeepCopyObject() runtime.Object {
	other := *l
	l.ListMeta.DeepCopyInto(&other.ListMeta)
	other.Items = copies(l.Items)
	return &other
}

// copies returns deep copies of the items of a list.
func copies[T any, P interface {
	*T
	runtime.Object
}](items []T) []T {
	all := make([]T, len(items))
	for i := range items {
		all[i] = *P(&items[i]).DeepCopyObject().(P)
	}
	return all
}

// Address is an IPAddress.
type Address struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              AddressSpec `json:"spec"`
}

// AddressSpec is an address, and what a host needs to know beside it.
type AddressSpec struct {
	ClaimRef NameRef `json:"claimRef"`
	PoolRef  PoolRef `json:"poolRef"`
	Address  string  `json:"address"`
	Prefix   int32   `json:"prefix"`
	Gateway  string  `json:"gateway,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (a *Address) DeepCopyObject() runtime.Object {
	other := *a
	a.ObjectMeta.DeepCopyInto(&other.ObjectMeta)
	return &other
}

// AddressList is a list of addresses.
type AddressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Address `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *AddressList) DeepCopyObject() runtime.Object {
	other := *l
	l.ListMeta.DeepCopyInto(&other.ListMeta)
	other.Items = copies(l.Items)
	return &other
}

// Cluster is a Cluster of Cluster API.
type Cluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`
	Spec              ClusterSpec `json:"spec,omitzero"`
}

// ClusterSpec is what the controller reads of a cluster.
type ClusterSpec struct {
	Paused               bool     `json:"paused,omitempty"`
	ControlPlaneEndpoint Endpoint `json:"controlPlaneEndpoint,omitzero"`
}

// Endpoint is where a control plane is reached.
type Endpoint struct {
	Host string `json:"host,omitempty"`
}

// DeepCopyObject implements runtime.Object.
func (c *Cluster) DeepCopyObject() runtime.Object {
	other := *c
	c.ObjectMeta.DeepCopyInto(&other.ObjectMeta)
	return &other
}

// ClusterList is a list of clusters.
type ClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Cluster `json:"items"`
}

// DeepCopyObject implements runtime.Object.
func (l *ClusterList) DeepCopyObject() runtime.Object {
	other := *l
	l.ListMeta.DeepCopyInto(&other.ListMeta)
	other.Items = copies(l.Items)
	return &other
}

// NewScheme returns a scheme with the types in the given versions: those of claims and addresses in one, and of
// clusters in the other.
func NewScheme(ipam, cluster string) *runtime.Scheme {
	scheme := runtime.NewScheme()
	version := schema.GroupVersion{Group: Group, Version: ipam}
	scheme.AddKnownTypeWithName(version.WithKind("IPAddressClaim"), &Claim{})
	scheme.AddKnownTypeWithName(version.WithKind("IPAddressClaimList"), &ClaimList{})
	scheme.AddKnownTypeWithName(version.WithKind("IPAddress"), &Address{})
	scheme.AddKnownTypeWithName(version.WithKind("IPAddressList"), &AddressList{})
	metav1.AddToGroupVersion(scheme, version)
	version = schema.GroupVersion{Group: ClusterGroup, Version: cluster}
	scheme.AddKnownTypeWithName(version.WithKind("Cluster"), &Cluster{})
	scheme.AddKnownTypeWithName(version.WithKind("ClusterList"), &ClusterList{})
	metav1.AddToGroupVersion(scheme, version)
	return scheme
}

// Resource returns a resource of the group, for errors.
func Resource(name string) schema.GroupResource {
	return schema.GroupResource{Group: Group, Resource: name}
}
