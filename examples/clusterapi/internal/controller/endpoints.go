package controller

import (
	"context"
	"errors"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
	"github.com/ipalloc/ipalloc/pool"
)

// endpoint is the address of a cluster's control plane. A pool that has it does not give it to a claim.
type endpoint struct {
	cluster *api.Cluster
	owner   string
	addr    netip.Addr
}

// endpointsFrom are the endpoints of the clusters that may be in a pool: those of its namespace, or all.
func (b *base) endpointsFrom(ctx context.Context, reader client.Reader, key pools.Key) ([]endpoint, error) {
	if b.versions.cluster == "" || pools.Prefixes(key.Kind) {
		return nil, nil
	}
	var list api.ClusterList
	if err := reader.List(ctx, &list, client.InNamespace(key.Namespace)); err != nil {
		return nil, err
	}
	var endpoints []endpoint
	for i := range list.Items {
		cluster := &list.Items[i]
		addr, err := netip.ParseAddr(cluster.Spec.ControlPlaneEndpoint.Host)
		if err == nil && addr.Zone() == "" {
			endpoints = append(endpoints, endpoint{cluster, "endpoint/" + string(cluster.UID), addr.Unmap()})
		}
	}
	return endpoints, nil
}

// in reports whether the pool could hand the endpoint out.
func (e endpoint) in(want pools.Pool) bool {
	return pool.FamilyOf(e.addr) == want.Family() && want.Spec.Set(want.Family()).Contains(e.addr)
}

func (e endpoint) labels() map[string]string {
	return map[string]string{"cluster": e.cluster.Namespace + "/" + e.cluster.Name}
}

// reservations are the endpoints in the pool that nobody holds yet.
func reservations(endpoints []endpoint, want pools.Pool, held []pool.Allocation) []pool.Allocation {
	taken := map[netip.Addr]bool{}
	for _, a := range held {
		taken[a.Prefixes[0].Addr()] = true
	}
	var reserved []pool.Allocation
	for _, e := range endpoints {
		if e.in(want) && !taken[e.addr] {
			taken[e.addr] = true
			reserved = append(reserved, pool.Allocation{
				Owner: e.owner, Prefixes: []netip.Prefix{netip.PrefixFrom(e.addr, e.addr.BitLen())}, Scope: want.Namespace,
				Labels: e.labels(),
			})
		}
	}
	return reserved
}

// reserve makes the pool hold the endpoints that lie in it, and no others. What a cluster that is gone has left behind
// while no replica ran is swept.
func (r *kind) reserve(ctx context.Context, key pools.Key, want pools.Pool, opened *pool.Pool) error {
	endpoints, err := r.endpointsFrom(ctx, r.client, key)
	if err != nil {
		return err
	}
	r.mu.Lock()
	before := r.endpoints[key]
	r.mu.Unlock()
	now := map[string]bool{}
	for _, e := range endpoints {
		if e.in(want) {
			now[e.owner] = true
			if err := r.reserveOne(ctx, key, opened, e); err != nil {
				return err
			}
		}
	}
	for owner := range before {
		if !now[owner] {
			if err := r.free(ctx, key, owner); err != nil {
				return err
			}
			r.news.tell(key)
		}
	}
	r.mu.Lock()
	r.endpoints[key] = now
	r.mu.Unlock()
	return nil
}

// reserveOne makes the pool hold one endpoint, in exchange for the one that the cluster had before. An endpoint that a
// claim holds is the claim's: people claim an address and then make it the endpoint.
func (r *kind) reserveOne(ctx context.Context, key pools.Key, opened *pool.Pool, e endpoint) error {
	claim := pool.Claim{
		Owner: e.owner, Requests: []pool.Request{pool.ExactAddr(e.addr)}, Scope: key.Namespace, Labels: e.labels(),
	}
	_, err := opened.Allocate(ctx, claim)
	if errors.Is(err, pool.ErrHeld) {
		_, err = opened.All(ctx, pool.Release(pool.Held{Owner: e.owner}), pool.Allocate(claim))
	}
	if errors.Is(err, pool.ErrTaken) {
		holder, err := opened.Get(ctx, pool.Held{Addr: e.addr})
		if err == nil && holder.Labels[labelClaim] != "" {
			r.events.Eventf(e.cluster, nil, corev1.EventTypeNormal, "EndpointClaimed", "Reserve",
				"the endpoint %v is held by the claim %s", e.addr, holder.Labels[labelClaim])
		}
		return nil
	}
	if errors.Is(err, pool.ErrNotInPool) {
		return nil // is external in the network: somebody else keeps it
	}
	return err
}

// forgetEndpoints releases the endpoints in a pool that is to be deleted.
func (r *kind) forgetEndpoints(ctx context.Context, key pools.Key) error {
	endpoints, err := r.endpointsFrom(ctx, r.client, key)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		if err := r.free(ctx, key, e.owner); err != nil {
			return err
		}
	}
	return nil
}

// nearCluster are the pools that may have the endpoint of a cluster.
func (r *kind) nearCluster(ctx context.Context, object client.Object) []request {
	var requests []request
	_ = r.each(ctx, func(key pools.Key, _ pools.Pool) { // the cache cannot fail
		if key.Kind == r.name && (key.Namespace == "" || key.Namespace == object.GetNamespace()) {
			requests = append(requests, request{NamespacedName: types.NamespacedName{Namespace: key.Namespace, Name: key.Name}})
		}
	})
	return requests
}
