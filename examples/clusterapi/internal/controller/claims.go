package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/priorityqueue"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
)

type (
	queue   = workqueue.TypedRateLimitingInterface[reconcile.Request]
	request = reconcile.Request
)

// claims reconciles claims with addresses.
type claims struct {
	*base

	mu sync.Mutex
	// begun are the claims for which this replica may have taken an address that nothing but the store knows of yet.
	begun map[types.NamespacedName]begun
}

// begun is a claim that is being bound, and its pool.
type begun struct {
	claim *api.Claim
	key   pools.Key
}

func newClaims(b *base) *claims { return &claims{base: b, begun: map[types.NamespacedName]begun{}} }

func (r *claims) setup(manager ctrl.Manager) error {
	b := ctrl.NewControllerManagedBy(manager).Named("ipaddressclaim").
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Workers, SkipNameValidation: new(true), UsePriorityQueue: new(true),
		}).
		Watches(&api.Claim{}, r.onClaim()).
		Watches(&api.Address{}, handler.EnqueueRequestsFromMapFunc(claimOf),
			builder.WithPredicates(predicate.NewPredicateFuncs(needsCare))).
		WatchesRawSource(source.Channel(r.news.claims, handler.EnqueueRequestsFromMapFunc(r.longestWaitingFor)))
	for _, kind := range pools.Kinds {
		b = b.Watches(pools.New(kind), handler.EnqueueRequestsFromMapFunc(r.waitingFor),
			builder.WithPredicates(newTerms()))
	}
	if r.versions.cluster != "" {
		b = b.Watches(&api.Cluster{}, handler.EnqueueRequestsFromMapFunc(r.ofCluster))
	}
	return b.Complete(r)
}

// onClaim enqueues claims in an order of the replica's own. So replicas that have much to do work on different claims,
// and each finds most claims done when it comes to them.
func (r *claims) onClaim() handler.EventHandler {
	started := time.Now()
	add := func(q queue, requests ...request) {
		// A claim of an earlier second comes first all the same.
		const spread = 1 << 16
		priority := rand.IntN(spread) - int(time.Since(started).Seconds())*spread
		q.(priorityqueue.PriorityQueue[request]).AddWithOpts(priorityqueue.AddOpts{Priority: &priority}, requests...)
	}
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { add(q, requestOf(e.Object)) },
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { add(q, requestOf(e.ObjectNew)) },
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			add(q, requestOf(e.Object))
			if key, ours := pools.KeyOf(e.Object.(*api.Claim).Spec.PoolRef, e.Object.GetNamespace()); ours {
				for _, next := range r.longestWaitingFor(ctx, key.Object()) {
					q.Add(next)
				}
			}
		},
	}
}

func requestOf(object client.Object) request {
	return request{NamespacedName: client.ObjectKeyFromObject(object)}
}

// claimOf is the claim of an address.
func claimOf(_ context.Context, object client.Object) []request {
	name := object.(*api.Address).Spec.ClaimRef.Name
	return []request{{NamespacedName: types.NamespacedName{Namespace: object.GetNamespace(), Name: name}}}
}

// needsCare reports whether an address is not as this controller leaves it.
func needsCare(object client.Object) bool {
	return object.GetDeletionTimestamp() != nil || !hasFinalizer(object, api.AddressFinalizer)
}

// newTerms are the changes of a pool that matter to the claims that wait for it: not its counts.
func newTerms() predicate.Predicate {
	serving := func(object client.Object) string {
		conditions, _, _ := unstructured.NestedSlice(object.(*unstructured.Unstructured).Object, "status", "conditions")
		return fmt.Sprint(conditions)
	}
	return predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.AnnotationChangedPredicate{},
		predicate.Funcs{
			UpdateFunc: func(e event.UpdateEvent) bool { return serving(e.ObjectOld) != serving(e.ObjectNew) },
		})
}

// waitingFor are the claims that wait for a pool.
func (r *claims) waitingFor(ctx context.Context, object client.Object) []request {
	return requestsOf(r.waiting(ctx, keyOf(object)))
}

// longestWaitingFor are the claims to try when something has been released, the oldest ones. More than one is tried,
// for the first may be for an address that is still taken.
func (r *claims) longestWaitingFor(ctx context.Context, object client.Object) []request {
	const most = 16
	list := r.waiting(ctx, keyOf(object))
	slices.SortFunc(list, func(a, b api.Claim) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	return requestsOf(list[:min(most, len(list))])
}

func keyOf(object client.Object) pools.Key {
	return pools.Key{
		Kind: object.GetObjectKind().GroupVersionKind().Kind, NamespacedName: client.ObjectKeyFromObject(object),
	}
}

// waiting are the claims without an address that the cache has: those on the pool, and those on a pool that gives them
// a second address from it.
func (b *base) waiting(ctx context.Context, key pools.Key) []api.Claim {
	firsts := &unstructured.UnstructuredList{}
	firsts.SetGroupVersionKind(pools.New(key.Kind + "List").GroupVersionKind())
	// Lists of the cache cannot fail with these indexes.
	_ = b.client.List(ctx, firsts, client.InNamespace(key.Namespace), client.MatchingFields{bySecond: key.Name})
	keys := []pools.Key{key}
	for i := range firsts.Items {
		keys = append(keys, key.Sibling(firsts.Items[i].GetName()))
	}
	var all []api.Claim
	for _, key := range keys {
		var list api.ClaimList
		_ = b.client.List(ctx, &list, client.MatchingFields{waiting: key.String()})
		all = append(all, list.Items...)
	}
	return all
}

func requestsOf(list []api.Claim) []request {
	requests := make([]request, len(list))
	for i := range list {
		requests[i] = requestOf(&list[i])
	}
	return requests
}

// ofCluster are the claims of a cluster, which may have been paused.
func (r *claims) ofCluster(ctx context.Context, object client.Object) []request {
	var list api.ClaimList
	_ = r.client.List(ctx, &list, client.InNamespace(object.GetNamespace()),
		client.MatchingFields{byCluster: object.GetName()}) // cannot fail with this index
	return requestsOf(list.Items)
}

// Reconcile gives a claim its address, or takes it back.
func (r *claims) Reconcile(ctx context.Context, req request) (ctrl.Result, error) {
	claim := &api.Claim{}
	err := r.client.Get(ctx, req.NamespacedName, claim)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, errors.Join(r.abandon(ctx, req.NamespacedName), r.orphans(ctx, req.NamespacedName))
	case err != nil:
		return ctrl.Result{}, err
	}
	key, ours := pools.KeyOf(claim.Spec.PoolRef, claim.Namespace)
	if !ours {
		return ctrl.Result{}, nil
	}
	if alone, err := r.leftAlone(ctx, claim, key); alone || err != nil {
		return ctrl.Result{}, err
	}
	if claim.DeletionTimestamp != nil {
		return settled(ctrl.Result{}, r.release(ctx, claim, key))
	}
	if done, err := r.done(ctx, claim); done || err != nil {
		if done {
			r.forget(claim)
		}
		return ctrl.Result{}, err
	}
	return settled(r.bind(ctx, claim, key))
}

// settled turns the conflicts that replicas have with each other, and with the cache, into another attempt.
func settled(result ctrl.Result, err error) (ctrl.Result, error) {
	if apierrors.IsConflict(err) {
		return ctrl.Result{RequeueAfter: conflictPause}, nil
	}
	return result, err
}

// leftAlone reports whether the claim, its cluster or its pool is paused. A claim whose cluster does not exist is left
// alone until it does, for then there is no telling, unless it is to be deleted.
func (r *claims) leftAlone(ctx context.Context, claim *api.Claim, key pools.Key) (bool, error) {
	if paused(claim) {
		return true, nil
	}
	if name := claim.Cluster(); name != "" && r.versions.cluster != "" {
		cluster := &api.Cluster{}
		err := r.client.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: name}, cluster)
		switch {
		case apierrors.IsNotFound(err):
			if claim.DeletionTimestamp == nil {
				return true, nil
			}
		case err != nil:
			return false, err
		case cluster.Spec.Paused || paused(cluster):
			return true, nil
		}
	}
	resource, err := r.resource(ctx, key)
	if err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return paused(resource), nil
}

// done reports whether the claim has its address, and everything says so.
func (r *claims) done(ctx context.Context, claim *api.Claim) (bool, error) {
	if claim.Status.AddressRef.Name != claim.Name || claim.Condition(ready).Status != "True" ||
		!hasFinalizer(claim, api.ClaimFinalizer) {
		return false, nil
	}
	address := &api.Address{}
	err := r.client.Get(ctx, client.ObjectKeyFromObject(claim), address)
	if err != nil {
		return false, client.IgnoreNotFound(err)
	}
	return ownedBy(address, claim) && hasFinalizer(address, api.AddressFinalizer), nil
}
