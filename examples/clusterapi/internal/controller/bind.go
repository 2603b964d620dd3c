package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
	"github.com/ipalloc/ipalloc/pool"
)

// conflictPause is how long to wait for the cache to learn what has changed.
const conflictPause = 20 * time.Millisecond

// part is what a claim gets from one pool: all of it, or one family.
type part struct {
	key     pools.Key
	pool    pools.Pool
	handle  *pool.Pool
	name    string       // of the address
	present *api.Address // nil if there is none yet
	request pool.Request
	granted netip.Addr
}

// described says in a condition what the parts are.
func described(parts []*part) string {
	var texts []string
	for _, p := range parts {
		texts = append(texts, fmt.Sprintf("%v from %s %s", p.granted, p.key.Kind, p.key.Name))
	}
	return strings.Join(texts, ", ")
}

// refusal says why a claim cannot be met for now.
type refusal struct {
	reason, message string
	retry           time.Duration // 0 if only a change of a resource helps
}

// Error returns the message.
func (r *refusal) Error() string { return r.message }

// bind gives the claim its address, and one of the other family if the pool says so, in one commit.
func (r *claims) bind(ctx context.Context, claim *api.Claim, key pools.Key) (ctrl.Result, error) {
	parts, err := r.parts(ctx, claim, key)
	if err == nil {
		err = r.setFinalizer(ctx, claim, api.ClaimFinalizer, true)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		return r.refuse(ctx, claim, refused)
	}
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	return r.take(ctx, claim, key, parts)
}

// take takes the parts for the claim. Until all is said about them, it remembers that, for the claim may be gone.
func (r *claims) take(ctx context.Context, claim *api.Claim, key pools.Key, parts []*part) (ctrl.Result, error) {
	first, err := r.begin(ctx, claim, key)
	if err == nil {
		err = r.allocate(ctx, claim, parts)
	}
	var refused *refusal
	if errors.As(err, &refused) {
		if first { // and so nothing has been taken
			r.forget(claim)
		}
		return r.refuse(ctx, claim, refused)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	condition := r.conditionOf(reasonAllocated, described(parts), claim.Generation)
	err = r.setStatus(ctx, claim, condition, parts[0].name)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.IsConflict(err) {
		return ctrl.Result{}, r.undoIfGone(ctx, claim, err)
	}
	if err == nil {
		r.forget(claim)
	}
	return ctrl.Result{}, err
}

// begin notes that an address is about to be taken for the claim. It reports whether this is the first try.
func (r *claims) begin(ctx context.Context, claim *api.Claim, key pools.Key) (first bool, err error) {
	name := client.ObjectKeyFromObject(claim)
	r.mu.Lock()
	before, found := r.begun[name]
	r.mu.Unlock()
	if found && before.claim.UID != claim.UID { // the claim before of that name
		if err := r.abandon(ctx, name); err != nil {
			return false, err
		}
		found = false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.begun[name] = begun{claim, key}
	return !found, nil
}

// forget notes that what has been taken for the claim is known to all, or that nothing has been.
func (r *claims) forget(claim *api.Claim) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.begun, client.ObjectKeyFromObject(claim))
}

// abandon takes back what this replica has taken for a claim that is gone: another replica has let it go meanwhile.
func (r *claims) abandon(ctx context.Context, name types.NamespacedName) error {
	r.mu.Lock()
	left, found := r.begun[name]
	r.mu.Unlock()
	if !found {
		return nil
	}
	if _, err := r.giveUp(ctx, left.claim, left.key); err != nil {
		return err
	}
	r.forget(left.claim)
	r.news.tell(left.key)
	return nil
}

// undoIfGone takes back what a claim has got from a replica that did not know yet that the claim was gone. If it is not
// gone, the error was about something else.
func (r *claims) undoIfGone(ctx context.Context, claim *api.Claim, failure error) error {
	present := &api.Claim{}
	err := r.live.Get(ctx, client.ObjectKeyFromObject(claim), present)
	if err == nil && present.UID == claim.UID {
		return failure
	}
	if client.IgnoreNotFound(err) != nil {
		return err
	}
	return r.abandon(ctx, client.ObjectKeyFromObject(claim))
}

// refuse says in the claim why it has no address.
func (r *claims) refuse(ctx context.Context, claim *api.Claim, why *refusal) (ctrl.Result, error) {
	if old := claim.Condition(ready); old.Reason != why.reason {
		r.events.Eventf(claim, nil, corev1.EventTypeWarning, why.reason, "Allocate", "%s", why.message)
	}
	err := r.setStatus(ctx, claim, r.conditionOf(why.reason, why.message, claim.Generation), "")
	if err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if why.retry == 0 {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{RequeueAfter: why.retry + rand.N(why.retry/4+1)}, nil
}

// parts are what the claim gets, with the addresses that exist already.
func (r *claims) parts(ctx context.Context, claim *api.Claim, key pools.Key) ([]*part, error) {
	first, err := r.part(ctx, key, claim.Name)
	if err != nil {
		return nil, err
	}
	parts := []*part{first}
	if other := first.pool.DualStackPool; other != "" {
		second, err := r.part(ctx, key.Sibling(other), "")
		if err != nil {
			return nil, err
		}
		if second.pool.Family() == first.pool.Family() {
			return nil, &refusal{reason: reasonNotReady, message: fmt.Sprintf("%s %s and %s have one family, %v",
				key.Kind, key.Name, other, first.pool.Family())}
		}
		second.name = secondName(claim.Name, second.pool.Family())
		parts = append(parts, second)
	}
	for _, p := range parts {
		if err := r.find(ctx, claim, p); err != nil {
			return nil, err
		}
	}
	return parts, r.ask(claim, parts)
}

// secondName is the name of the second address of a dual-stack claim.
func secondName(claim string, family pool.Family) string {
	return claim + "-" + strings.ToLower(family.String())
}

// part returns the part of a pool that can serve.
func (r *claims) part(ctx context.Context, key pools.Key, name string) (*part, error) {
	resource, err := r.resource(ctx, key)
	switch {
	case apierrors.IsNotFound(err):
		return nil, notReady("%s %s does not exist", key.Kind, key.Name)
	case err != nil:
		return nil, err
	case resource.GetDeletionTimestamp() != nil:
		return nil, notReady("%s %s is being deleted", key.Kind, key.Name)
	}
	read, err := r.pools.Read(resource)
	if err != nil {
		return nil, notReady("%s %s is not valid", key.Kind, key.Name)
	}
	handle, err := r.pools.Open(ctx, key)
	if errors.Is(err, pool.ErrNoPool) || errors.Is(err, pool.ErrUnfinished) {
		return nil, notReady("%s %s is not in the store yet", key.Kind, key.Name)
	}
	return &part{key: key, pool: read, handle: handle, name: name}, err
}

// notReady says what is wrong with a pool. Its resource changes when that does.
func notReady(format string, args ...any) error {
	return &refusal{reason: reasonNotReady, message: fmt.Sprintf(format, args...)}
}

// find finds the address that the claim has already, which may be from another controller or from another cluster.
func (r *claims) find(ctx context.Context, claim *api.Claim, p *part) error {
	address := &api.Address{}
	err := r.client.Get(ctx, types.NamespacedName{Namespace: claim.Namespace, Name: p.name}, address)
	if err != nil {
		return client.IgnoreNotFound(err)
	}
	key, _ := pools.KeyOf(address.Spec.PoolRef, address.Namespace)
	if address.Spec.ClaimRef.Name != claim.Name || key != p.key {
		return &refusal{
			reason: reasonFailed, retry: r.Retry,
			message: fmt.Sprintf("IPAddress %s exists, for claim %s and pool %s", p.name, address.Spec.ClaimRef.Name,
				address.Spec.PoolRef.Name),
		}
	}
	p.present = address
	return nil
}

// ask sets the requests: for the address that exists, or for the one that the claim names, or for any.
func (r *claims) ask(claim *api.Claim, parts []*part) error {
	wanted := claim.Annotations[api.AddressAnnotation]
	for _, p := range parts {
		text := wanted
		if p.present != nil {
			text = p.present.Spec.Address
		}
		if text == "" {
			continue
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return &refusal{reason: reasonFailed, message: err.Error()}
		}
		if p.present == nil && pool.FamilyOf(addr) != p.pool.Family() && len(parts) > 1 {
			continue // is for the other part
		}
		p.request.Exact = netip.PrefixFrom(addr, p.pool.Length())
	}
	return nil
}

// allocate takes the parts in one commit, and makes their addresses.
func (r *claims) allocate(ctx context.Context, claim *api.Claim, parts []*part) error {
	results, err := r.commit(ctx, claim, parts)
	if err != nil {
		return r.explain(err, parts)
	}
	for i, p := range parts {
		p.granted = results[i].Addrs()[0]
		if err := r.ensureAddress(ctx, claim, p); err != nil {
			return err
		}
	}
	return nil
}

func (r *claims) commit(ctx context.Context, claim *api.Claim, parts []*part) ([]pool.Allocation, error) {
	steps := make([]pool.Step, len(parts))
	for i, p := range parts {
		steps[i] = pool.Allocate(pool.Claim{
			Owner: string(claim.UID), Requests: []pool.Request{p.request}, Scope: p.pool.Namespace,
			Labels: map[string]string{labelClaim: claim.Namespace + "/" + claim.Name},
		}).In(p.handle)
	}
	results, err := parts[0].handle.All(ctx, steps...)
	if errors.Is(err, pool.ErrTaken) {
		if left := r.heirlooms(ctx, claim, parts); len(left) > 0 {
			results, err = parts[0].handle.All(ctx, append(left, steps...)...)
			results = results[min(len(left), len(results)):]
		}
	}
	if err != nil {
		return nil, err
	}
	allocations := make([]pool.Allocation, len(parts))
	for i := range parts {
		allocations[i] = results[i].Allocation
	}
	return allocations, nil
}

// explain turns an error that says no into a refusal.
func (r *claims) explain(err error, parts []*part) error {
	failed := &pool.Error{}
	errors.As(err, &failed)
	switch {
	case errors.Is(err, pool.ErrExhausted):
		return &refusal{reason: reasonExhausted, message: err.Error(), retry: r.until(failed.Next)}
	case errors.Is(err, pool.ErrTaken):
		return &refusal{reason: reasonFailed, message: err.Error(), retry: r.until(failed.Next)}
	case errors.Is(err, pool.ErrNoPool):
		for _, p := range parts {
			r.pools.Forget(p.key)
		}
		return &refusal{reason: reasonNotReady, message: err.Error(), retry: r.Retry}
	}
	for _, no := range []error{pool.ErrInvalid, pool.ErrNotInPool, pool.ErrHeld, pool.ErrScope, pool.ErrFamily} {
		if errors.Is(err, no) {
			return &refusal{reason: reasonFailed, message: err.Error(), retry: r.Retry}
		}
	}
	return err
}

// until is how long to wait for what happens next, if it is known.
func (r *claims) until(next time.Time) time.Duration {
	if next.IsZero() {
		return r.Retry
	}
	return min(r.Retry, max(time.Until(next), time.Millisecond))
}
