package controller

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"go4.org/netipx"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
	"github.com/ipalloc/ipalloc/pool"
)

// kind reconciles the pools of one kind with the store.
type kind struct {
	*base
	name string

	mu        sync.Mutex
	swept     map[pools.Key]time.Time
	endpoints map[pools.Key]map[string]bool // the owners of endpoints that this replica has reserved
}

func newKind(b *base, name string) *kind {
	return &kind{
		base: b, name: name, swept: map[pools.Key]time.Time{}, endpoints: map[pools.Key]map[string]bool{},
	}
}

func (r *kind) setup(manager ctrl.Manager) error {
	changed := predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{})
	b := ctrl.NewControllerManagedBy(manager).Named(strings.ToLower(r.name)).
		WithOptions(controller.Options{SkipNameValidation: new(true)}).
		For(pools.New(r.name), builder.WithPredicates(changed)).
		Watches(&api.Claim{}, r.onClaim()).
		WatchesRawSource(source.Channel(r.news.pools[r.name], &handler.EnqueueRequestForObject{}))
	if r.versions.cluster != "" {
		b = b.Watches(&api.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.nearCluster), builder.WithPredicates(moved()))
	}
	return b.Complete(r)
}

// onClaim counts a pool anew, soon, when a claim has got or released an address.
func (r *kind) onClaim() handler.EventHandler {
	later := func(ctx context.Context, object client.Object, q queue) {
		key, ours := pools.KeyOf(object.(*api.Claim).Spec.PoolRef, object.GetNamespace())
		if !ours || key.Kind != r.name {
			return
		}
		q.AddAfter(request{NamespacedName: key.NamespacedName}, r.Settle)
		resource, err := r.resource(ctx, key)
		if second, _, _ := unstructured.NestedString(resource.Object, "spec", "dualStackPool"); err == nil && second != "" {
			q.AddAfter(request{NamespacedName: key.Sibling(second).NamespacedName}, r.Settle)
		}
	}
	return handler.Funcs{
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			if e.ObjectOld.(*api.Claim).Status.AddressRef != e.ObjectNew.(*api.Claim).Status.AddressRef {
				later(ctx, e.ObjectNew, q)
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { later(ctx, e.Object, q) },
	}
}

// Reconcile makes the pool in the store what its resource says, or deletes it.
func (r *kind) Reconcile(ctx context.Context, req request) (ctrl.Result, error) {
	key := pools.Key{Kind: r.name, NamespacedName: req.NamespacedName}
	resource, err := r.resource(ctx, key)
	switch {
	case err != nil:
		return ctrl.Result{}, client.IgnoreNotFound(err)
	case paused(resource):
		return ctrl.Result{}, nil
	case resource.GetDeletionTimestamp() != nil:
		return settled(r.remove(ctx, key, resource))
	}
	return settled(r.serve(ctx, key, resource))
}

// serve gives the pool its spec, and the resource its status.
func (r *kind) serve(ctx context.Context, key pools.Key, resource *unstructured.Unstructured) (ctrl.Result, error) {
	if err := r.setFinalizer(ctx, resource, api.PoolFinalizer, true); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	want, err := r.pools.Read(resource)
	if err != nil {
		return ctrl.Result{}, r.setPoolStatus(ctx, resource, reasonInvalid, err.Error(), nil)
	}
	opened, err := r.ensure(ctx, key, want)
	reason, message := reasonServing, ""
	if err != nil {
		if reason, message = reasonOf(err), err.Error(); reason == "" {
			return ctrl.Result{}, err
		}
	}
	var counts map[string]any
	if opened != nil {
		counted, err := want.Count(ctx, opened)
		if err != nil {
			return ctrl.Result{}, err
		}
		counts = counted.Map()
	}
	if err := r.setPoolStatus(ctx, resource, reason, message, counts); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if opened != nil {
		if err := r.sweep(ctx, key, opened); err != nil {
			return ctrl.Result{}, err
		}
	}
	if reason != reasonServing {
		return ctrl.Result{RequeueAfter: r.Retry}, nil
	}
	return ctrl.Result{RequeueAfter: r.Sweep}, nil
}

// ensure makes the pool, or changes it, after what is external in its network.
func (r *kind) ensure(ctx context.Context, key pools.Key, want pools.Pool) (*pool.Pool, error) {
	if err := r.declare(ctx, want.Spec.Network, want.Drain); err != nil {
		opened, _ := r.pools.Open(ctx, key)
		return opened, err
	}
	opened, err := r.pools.Ensure(ctx, key, want, func(ctx context.Context) ([]pool.Allocation, error) {
		return r.heldAtFirst(ctx, key, want)
	})
	if err != nil {
		return opened, err
	}
	return opened, r.reserve(ctx, key, want, opened)
}

// reasonOf is the reason for an error that a change of a resource can mend; empty for any other error.
func reasonOf(err error) string {
	switch {
	case errors.Is(err, pool.ErrOutOfRange):
		return reasonInUse
	case errors.Is(err, pool.ErrOverlap):
		return reasonOverlap
	case errors.Is(err, pool.ErrInvalid):
		return reasonInvalid
	}
	return ""
}

// declare declares what the pools of the network say that others hand out there.
func (r *kind) declare(ctx context.Context, network string, drain bool) error {
	if network == "" {
		return nil
	}
	var external []netipx.IPRange
	err := r.each(ctx, func(_ pools.Key, other pools.Pool) {
		if other.Spec.Network == network {
			external = append(external, other.External...)
		}
	})
	if err != nil {
		return err
	}
	return r.pools.SetExternal(ctx, network, external, drain)
}

// each calls a function with each pool that the cache has and that is valid.
func (b *base) each(ctx context.Context, do func(pools.Key, pools.Pool)) error {
	for _, name := range pools.Kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(pools.New(name + "List").GroupVersionKind())
		if err := b.client.List(ctx, list); err != nil {
			return err
		}
		for i := range list.Items {
			key := pools.Key{Kind: name, NamespacedName: client.ObjectKeyFromObject(&list.Items[i])}
			if read, err := b.pools.Read(&list.Items[i]); err == nil && list.Items[i].GetDeletionTimestamp() == nil {
				do(key, read)
			}
		}
	}
	return nil
}

// remove deletes the pool from the store once nobody holds any of it, and lets the resource go.
func (r *kind) remove(ctx context.Context, key pools.Key, resource *unstructured.Unstructured) (ctrl.Result, error) {
	if !hasFinalizer(resource, api.PoolFinalizer) {
		return ctrl.Result{}, nil
	}
	if err := r.forgetEndpoints(ctx, key); err != nil {
		return ctrl.Result{}, err
	}
	addresses, err := r.addressesOf(ctx, key)
	if err != nil {
		return ctrl.Result{}, err
	}
	err = pool.ErrInUse
	if len(addresses) == 0 {
		err = r.pools.Delete(ctx, key)
	}
	if errors.Is(err, pool.ErrInUse) {
		message := fmt.Sprintf("is being deleted; %d addresses are in use", len(addresses))
		if err := r.setPoolStatus(ctx, resource, reasonInUse, message, nil); err != nil {
			return ctrl.Result{}, client.IgnoreNotFound(err)
		}
		return ctrl.Result{RequeueAfter: r.Retry}, nil
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	if read, err := r.pools.Read(resource); err == nil { // what it alone has said to be external is no longer so
		if err := r.declare(ctx, read.Spec.Network, read.Drain); err != nil {
			return ctrl.Result{}, err
		}
	}
	err = r.setFinalizer(ctx, resource, api.PoolFinalizer, false)
	return ctrl.Result{}, client.IgnoreNotFound(err)
}

// setPoolStatus writes the condition and the counts, unless another replica was faster.
func (r *kind) setPoolStatus(
	ctx context.Context, resource *unstructured.Unstructured, reason, message string, counts map[string]any,
) error {
	status, _, _ := unstructured.NestedMap(resource.Object, "status")
	var present struct{ Conditions []api.Condition }
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(status, &present); err != nil {
		return err
	}
	conditions, changed := with(present.Conditions, r.conditionOf(reason, message, resource.GetGeneration()))
	patch := map[string]any{"conditions": conditions}
	if counts != nil {
		patch["ipAddresses"] = counts
	}
	if !changed && (counts == nil || sameCounts(status["ipAddresses"], counts)) {
		return nil
	}
	if changed && reason != reasonServing {
		r.events.Eventf(resource, nil, corev1.EventTypeWarning, reason, "Serve", "%s", shortened(message))
	}
	return r.patchStatus(ctx, resource, map[string]any{"resourceVersion": resource.GetResourceVersion()}, patch)
}

// shortened is a text that fits into an event.
func shortened(text string) string {
	const most = 1000
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

func sameCounts(a, b any) bool {
	x, err := json.Marshal(a)
	y, err2 := json.Marshal(b)
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// sweep releases, now and then, what is held by claims that no longer exist. It lists all claims, so it does not begin
// when a replica starts and has much else to do.
func (r *kind) sweep(ctx context.Context, key pools.Key, opened *pool.Pool) error {
	r.mu.Lock()
	last, known := r.swept[key]
	due := known && time.Since(last) >= r.Sweep
	if due || !known {
		r.swept[key] = time.Now()
	}
	r.mu.Unlock()
	if !due {
		return nil
	}
	mark, err := opened.Mark(ctx)
	if err != nil {
		return err
	}
	found, err := opened.Reconcile(ctx, mark, r.owners(ctx, key), &pool.ReconcileOptions{Grace: r.Sweep})
	if len(found.Released) > 0 {
		r.news.tell(key)
	}
	for _, a := range found.Released {
		r.Logger.Info("released what a claim that is gone still held", "pool", key.String(), "owner", a.Owner,
			"claim", a.Labels[labelClaim], "prefixes", a.Prefixes)
	}
	return err
}

// owners are all that may hold addresses of a pool, as the server has them.
func (r *kind) owners(ctx context.Context, key pools.Key) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		const page = 500
		in := client.InNamespace(key.Namespace)
		for list := (&api.ClaimList{}); ; {
			if err := r.live.List(ctx, list, in, client.Limit(page), client.Continue(list.Continue)); err != nil {
				yield("", err)
				return
			}
			for i := range list.Items {
				if !yield(string(list.Items[i].UID), nil) {
					return
				}
			}
			if list.Continue == "" {
				break
			}
		}
		r.otherOwners(ctx, key, yield)
	}
}

// otherOwners are addresses, with the claims that they name, and the endpoints of clusters.
func (r *kind) otherOwners(ctx context.Context, key pools.Key, yield func(string, error) bool) {
	var addresses api.AddressList
	err := r.live.List(ctx, &addresses, client.InNamespace(key.Namespace))
	var endpoints []endpoint
	if err == nil {
		endpoints, err = r.endpointsFrom(ctx, r.live, key)
	}
	if err != nil {
		yield("", err)
		return
	}
	for i := range addresses.Items {
		if !yield(holderOf(&addresses.Items[i]), nil) || !yield(orphanOwner(&addresses.Items[i]), nil) {
			return
		}
	}
	for _, e := range endpoints {
		if !yield(e.owner, nil) {
			return
		}
	}
}

// heldAtFirst is what a new pool holds: the addresses that exist, and the endpoints of clusters.
func (r *kind) heldAtFirst(ctx context.Context, key pools.Key, want pools.Pool) ([]pool.Allocation, error) {
	held, err := r.held(ctx, key, want)
	if err != nil {
		return nil, err
	}
	endpoints, err := r.endpointsFrom(ctx, r.live, key)
	if err != nil {
		return nil, err
	}
	return append(held, reservations(endpoints, want, held)...), nil
}

// moved are the changes of a cluster that concern pools: its endpoint, and its end.
func moved() predicate.Predicate {
	return predicate.Funcs{
		UpdateFunc: func(e event.UpdateEvent) bool {
			return e.ObjectOld.(*api.Cluster).Spec.ControlPlaneEndpoint != e.ObjectNew.(*api.Cluster).Spec.ControlPlaneEndpoint
		},
	}
}

// reader is what the validation of pools knows of the cluster.
type reader struct{ *base }

// InUse implements admission.Reader.
func (r *reader) InUse(ctx context.Context, key pools.Key) ([]api.Address, error) {
	return r.addressesOf(ctx, key)
}

// Each implements admission.Reader.
func (r *reader) Each(ctx context.Context, do func(pools.Key, pools.Pool)) error {
	return r.each(ctx, do)
}
