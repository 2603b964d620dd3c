// Package clusterapi reads IPAddress objects of Cluster API (group ipam.cluster.x-k8s.io, v1alpha1 to v1beta2), which
// IPAM providers make.
//
// The text is JSON or YAML, of one object, several or a list, such as
//
//	kubectl get ipaddresses.ipam.cluster.x-k8s.io -A -o json
//
// Objects of other kinds are passed over. Of an address from a prefix pool (InClusterPrefixPool,
// GlobalInClusterPrefixPool) the whole prefix is in use; spec.prefix of other addresses is the length of the subnet.
//
// The owner is the UID of the IPAddressClaim, as examples/clusterapi has it, or NAMESPACE/NAME of the claim if the
// object has no such owner reference. The scope is the namespace, but for pools of all namespaces, whose kinds begin
// with Global, it is empty. The labels are namespace, name, claim, pool and pool-kind, and gateway if there is one.
package clusterapi

import (
	"fmt"
	"io"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/object"
	"github.com/ipalloc/ipalloc/cidr"
)

// address is an IPAddress.
type address struct {
	Spec struct {
		ClaimRef struct {
			Name string `json:"name"`
		} `json:"claimRef"`
		PoolRef struct {
			Kind string `json:"kind"`
			Name string `json:"name"`
		} `json:"poolRef"`
		Address string `json:"address"`
		Prefix  *int   `json:"prefix"`
		Gateway string `json:"gateway"`
	} `json:"spec"`
}

// Read returns an entry of each IPAddress, in the order of the text. Cost: the memory of one object; of a list in YAML,
// that of the list.
func Read(r io.ReadSeeker) adopt.Entries { return object.Read(r, read, "IPAddress") }

func read(o object.Object, yield func(adopt.Entry) error) error {
	var a address
	if err := o.Decode(&a); err != nil {
		return err
	}
	prefix, err := a.prefix()
	if err != nil {
		return o.Invalid("spec: %w", err)
	}
	pool := a.Spec.PoolRef
	e := adopt.Entry{Prefixes: []netip.Prefix{prefix}, At: o.At(), Labels: map[string]string{
		"namespace": o.Metadata.Namespace, "name": o.Metadata.Name, "claim": a.Spec.ClaimRef.Name,
		"pool": pool.Name, "pool-kind": pool.Kind,
	}}
	if a.Spec.Gateway != "" {
		e.Labels["gateway"] = a.Spec.Gateway
	}
	if !strings.HasPrefix(pool.Kind, "Global") {
		e.Scope = o.Metadata.Namespace
	}
	for _, owner := range o.Metadata.Owners {
		if owner.Kind == "IPAddressClaim" {
			e.Owner = owner.UID
		}
	}
	if e.Owner == "" && a.Spec.ClaimRef.Name == "" {
		return o.Invalid("spec.claimRef: there is no claim")
	}
	if e.Owner == "" {
		e.Owner = o.Metadata.Namespace + "/" + a.Spec.ClaimRef.Name
	}
	return yield(e)
}

// prefix is what is in use.
func (a address) prefix() (netip.Prefix, error) {
	if !strings.Contains(a.Spec.PoolRef.Kind, "PrefixPool") {
		addr, err := cidr.ParseAddr(a.Spec.Address)
		return netip.PrefixFrom(addr, addr.BitLen()), err
	}
	if a.Spec.Prefix == nil {
		return netip.Prefix{}, fmt.Errorf("the prefix of %q has no length", a.Spec.Address)
	}
	return cidr.ParsePrefix(fmt.Sprintf("%s/%d", a.Spec.Address, *a.Spec.Prefix))
}
