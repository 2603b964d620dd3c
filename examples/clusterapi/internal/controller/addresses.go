package controller

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
	"github.com/ipalloc/ipalloc/pool"
)

// labelClaim is the label of an allocation that names the claim.
const labelClaim = "claim"

// ownedBy reports whether the claim controls the address.
func ownedBy(address *api.Address, claim *api.Claim) bool {
	owner := metav1.GetControllerOf(address)
	return owner != nil && owner.UID == claim.UID
}

// ensureAddress makes the address of a part, or makes one that exists the claim's own.
func (r *claims) ensureAddress(ctx context.Context, claim *api.Claim, p *part) error {
	want := r.newAddress(claim, p)
	if p.present != nil {
		return r.takeOver(ctx, claim, p.present, want)
	}
	err := r.client.Create(ctx, want)
	if apierrors.IsAlreadyExists(err) {
		present := &api.Address{}
		if err := r.live.Get(ctx, client.ObjectKeyFromObject(want), present); err != nil {
			return err
		}
		if present.Spec == want.Spec && ownedBy(present, claim) {
			return nil // another replica was faster
		}
		return apierrors.NewConflict(api.Resource("ipaddresses"), want.Name, errors.New("it is another claim's"))
	}
	return err
}

func (r *claims) newAddress(claim *api.Claim, p *part) *api.Address {
	address := &api.Address{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: claim.Namespace, Name: p.name, Finalizers: []string{api.AddressFinalizer},
			OwnerReferences: r.owners(claim, p),
		},
		Spec: api.AddressSpec{
			ClaimRef: api.NameRef{Name: claim.Name}, PoolRef: p.key.Ref(), Address: p.granted.String(),
			Prefix: int32(p.pool.Prefix),
		},
	}
	if p.pool.Gateway.IsValid() {
		address.Spec.Gateway = p.pool.Gateway.String()
	}
	if cluster, found := claim.Labels[api.ClusterLabel]; found {
		address.Labels = map[string]string{api.ClusterLabel: cluster}
	}
	return address
}

// owners are the claim, which controls the address, and the pool.
func (r *claims) owners(claim *api.Claim, p *part) []metav1.OwnerReference {
	return []metav1.OwnerReference{
		{
			APIVersion: api.Group + "/" + r.versions.ipam, Kind: "IPAddressClaim", Name: claim.Name, UID: claim.UID,
			Controller: new(true), BlockOwnerDeletion: new(true),
		},
		{
			APIVersion: api.Group + "/" + api.PoolVersion, Kind: p.key.Kind, Name: p.key.Name, UID: p.pool.UID,
			Controller: new(false), BlockOwnerDeletion: new(true),
		},
	}
}

// takeOver gives an address that exists the claim as its owner, and the finalizer. Its spec stays as it is.
func (r *claims) takeOver(ctx context.Context, claim *api.Claim, present, want *api.Address) error {
	if ownedBy(present, claim) && hasFinalizer(present, api.AddressFinalizer) {
		return nil
	}
	before := present.DeepCopyObject().(client.Object)
	present.OwnerReferences = want.OwnerReferences
	if !hasFinalizer(present, api.AddressFinalizer) {
		present.Finalizers = append(present.Finalizers, api.AddressFinalizer)
	}
	return r.client.Patch(ctx, present, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// orphanOwner is who holds an address that has no claim yet.
func orphanOwner(address *api.Address) string { return "address/" + string(address.UID) }

// heirlooms are steps that release what the claim is to take over: an address that was there before its claim, or that
// a claim of the same name has left, as after a restore.
func (r *claims) heirlooms(ctx context.Context, claim *api.Claim, parts []*part) []pool.Step {
	var steps []pool.Step
	for _, p := range parts {
		if p.present == nil {
			continue
		}
		holder, err := p.handle.Get(ctx, pool.Held{Addr: p.request.Exact.Addr()})
		if err != nil || holder.Owner == string(claim.UID) {
			continue
		}
		if holder.Owner == orphanOwner(p.present) || holder.Labels[labelClaim] == claim.Namespace+"/"+claim.Name {
			steps = append(steps, pool.Release(pool.Held{Owner: holder.Owner, Generation: holder.Generation}).In(p.handle))
		}
	}
	return steps
}

// held are the addresses that exist for a pool, for the one commit that makes it in the store.
func (b *base) held(ctx context.Context, key pools.Key, want pools.Pool) ([]pool.Allocation, error) {
	var list api.AddressList
	if err := b.live.List(ctx, &list, client.InNamespace(key.Namespace)); err != nil {
		return nil, err
	}
	var held []pool.Allocation
	for i := range list.Items {
		address := &list.Items[i]
		if of, _ := pools.KeyOf(address.Spec.PoolRef, address.Namespace); of != key {
			continue
		}
		addr, err := netip.ParseAddr(address.Spec.Address)
		if err != nil {
			return nil, fmt.Errorf("IPAddress %s/%s: %w", address.Namespace, address.Name, err)
		}
		held = append(held, pool.Allocation{
			Owner: holderOf(address), Prefixes: []netip.Prefix{netip.PrefixFrom(addr, want.Length())},
			Created: address.CreationTimestamp.UTC(), Scope: want.Namespace,
			Labels: map[string]string{labelClaim: address.Namespace + "/" + address.Spec.ClaimRef.Name},
		})
	}
	return held, nil
}

// holderOf is the owner, in the store, of an address that exists: its claim, if it knows that.
func holderOf(address *api.Address) string {
	if owner := metav1.GetControllerOf(address); owner != nil {
		return string(owner.UID)
	}
	return orphanOwner(address)
}

// release takes the address of a claim that is to be deleted back, and lets the claim go.
func (r *claims) release(ctx context.Context, claim *api.Claim, key pools.Key) error {
	if !hasFinalizer(claim, api.ClaimFinalizer) {
		return nil
	}
	gone, err := r.giveUp(ctx, claim, key)
	if err != nil || !gone {
		return err // an event comes when the address is gone
	}
	r.forget(claim)
	return client.IgnoreNotFound(r.setFinalizer(ctx, claim, api.ClaimFinalizer, false))
}

// giveUp deletes the addresses of a claim, and then releases what it holds. It reports false as long as others keep an
// address with a finalizer: until then nobody else gets it.
func (r *claims) giveUp(ctx context.Context, claim *api.Claim, key pools.Key) (bool, error) {
	from := map[pools.Key]bool{key: true}
	if resource, err := r.resource(ctx, key); err == nil {
		if read, err := r.pools.Read(resource); err == nil && read.DualStackPool != "" {
			from[key.Sibling(read.DualStackPool)] = true
		}
	}
	addresses, err := r.ofClaim(ctx, claim, len(from))
	if err != nil {
		return false, err
	}
	for i := range addresses {
		if of, ours := pools.KeyOf(addresses[i].Spec.PoolRef, claim.Namespace); ours {
			from[of] = true
		}
		if gone, err := r.remove(ctx, &addresses[i]); !gone || err != nil {
			return false, err
		}
	}
	for key := range from {
		if err := r.free(ctx, key, string(claim.UID)); err != nil {
			return false, err
		}
	}
	return true, nil
}

// free releases what an owner holds in a pool, if there is such a pool.
func (b *base) free(ctx context.Context, key pools.Key, owner string) error {
	handle, err := b.pools.Open(ctx, key)
	if err == nil {
		_, err = handle.Release(ctx, pool.Held{Owner: owner, Optional: true})
	}
	if errors.Is(err, pool.ErrNoPool) {
		b.pools.Forget(key)
		return nil
	}
	return err
}

// ofClaim lists the addresses of a claim. If the cache has fewer than expected, the server is asked.
func (r *claims) ofClaim(ctx context.Context, claim *api.Claim, expected int) ([]api.Address, error) {
	var list api.AddressList
	err := r.client.List(ctx, &list, client.InNamespace(claim.Namespace), client.MatchingFields{byClaim: claim.Name})
	if err != nil {
		return nil, err
	}
	var own []api.Address
	for _, address := range list.Items {
		if ownedBy(&address, claim) {
			own = append(own, address)
		}
	}
	if len(own) >= expected {
		return own, nil
	}
	own = nil
	for _, name := range []string{claim.Name, secondName(claim.Name, pool.IPv4), secondName(claim.Name, pool.IPv6)} {
		address := api.Address{}
		err := r.live.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: name}, &address)
		switch {
		case err == nil && ownedBy(&address, claim):
			own = append(own, address)
		case client.IgnoreNotFound(err) != nil:
			return nil, err
		}
	}
	return own, nil
}

// remove deletes an address, and reports whether it is gone.
func (r *claims) remove(ctx context.Context, address *api.Address) (bool, error) {
	err := r.setFinalizer(ctx, address, api.AddressFinalizer, false)
	if err == nil {
		err = r.client.Delete(ctx, address, client.Preconditions{UID: &address.UID})
	}
	if client.IgnoreNotFound(err) != nil {
		return false, err
	}
	return apierrors.IsNotFound(err) || len(address.Finalizers) == 0, nil
}

// orphans cares for the addresses of a claim that is not there: they are deleted if their claim is gone, and held if it
// is yet to come.
func (r *claims) orphans(ctx context.Context, name types.NamespacedName) error {
	var list api.AddressList
	err := r.client.List(ctx, &list, client.InNamespace(name.Namespace), client.MatchingFields{byClaim: name.Name})
	if err != nil || len(list.Items) == 0 {
		return err
	}
	if err := r.live.Get(ctx, name, &api.Claim{}); !apierrors.IsNotFound(err) {
		return err // the cache will tell
	}
	for i := range list.Items {
		if err := r.orphan(ctx, &list.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (r *claims) orphan(ctx context.Context, address *api.Address) error {
	key, ours := pools.KeyOf(address.Spec.PoolRef, address.Namespace)
	if !ours || paused(address) {
		return nil
	}
	if metav1.GetControllerOf(address) == nil && address.DeletionTimestamp == nil {
		return r.hold(ctx, key, address)
	}
	gone, err := r.remove(ctx, address)
	if !gone || err != nil {
		return err
	}
	if err := r.free(ctx, key, holderOf(address)); err != nil {
		return err
	}
	r.news.tell(key)
	return nil
}

// hold keeps an address that was made by hand, before its claim, from everybody else.
func (r *claims) hold(ctx context.Context, key pools.Key, address *api.Address) error {
	p, err := r.part(ctx, key, address.Name)
	if refused := (*refusal)(nil); errors.As(err, &refused) {
		return nil // is held when the pool is made
	}
	if err != nil {
		return err
	}
	addr, err := netip.ParseAddr(address.Spec.Address)
	if err != nil {
		return nil //nolint:nilerr // the claim will say so
	}
	_, err = p.handle.Allocate(ctx, pool.Claim{
		Owner: orphanOwner(address), Scope: key.Namespace,
		Requests: []pool.Request{{Exact: netip.PrefixFrom(addr, p.pool.Length())}},
		Labels:   map[string]string{labelClaim: address.Namespace + "/" + address.Spec.ClaimRef.Name},
	})
	if refused := (*refusal)(nil); errors.As(r.explain(err, nil), &refused) {
		r.events.Eventf(address, nil, corev1.EventTypeWarning, reasonFailed, "Adopt", "%s", refused.message)
		return nil
	}
	return err
}
