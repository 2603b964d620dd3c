package controller

import (
	"context"
	"encoding/json"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
)

// ready is the type of the condition of claims and of pools.
const ready = "Ready"

// The reasons of the condition.
const (
	reasonAllocated = "AddressAllocated"
	reasonExhausted = "PoolExhausted"
	reasonNotReady  = "PoolNotReady"
	reasonFailed    = "AllocationFailed"

	reasonServing = "PoolServing"
	reasonInvalid = "SpecInvalid"
	reasonInUse   = "AddressesInUse"
	reasonOverlap = "Overlaps"
)

// conditionOf is a condition, which is true if the reason is a good one.
func (b *base) conditionOf(reason, message string, generation int64) api.Condition {
	status := metav1.ConditionFalse
	if reason == reasonAllocated || reason == reasonServing {
		status = metav1.ConditionTrue
	}
	return api.Condition{
		Type: ready, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
		LastTransitionTime: metav1.NewTime(time.Now()).Rfc3339Copy(),
	}
}

// with returns the conditions with one of them replaced, and whether that says anything new.
func with(conditions []api.Condition, condition api.Condition) ([]api.Condition, bool) {
	var others []api.Condition
	changed := true
	for _, old := range conditions {
		if old.Type != condition.Type {
			others = append(others, old)
			continue
		}
		if old.Status == condition.Status {
			condition.LastTransitionTime = old.LastTransitionTime
		}
		changed = old.Status != condition.Status || old.Reason != condition.Reason || old.Message != condition.Message
	}
	return append(others, condition), changed
}

// setStatus writes the condition and, if the claim has one, the name of its address. The claim must still be the same:
// if it is gone, or another one has its name, the error tells.
func (b *base) setStatus(ctx context.Context, claim *api.Claim, condition api.Condition, address string) error {
	conditions, changed := with(claim.Status.Conditions, condition)
	if !changed && claim.Status.AddressRef.Name == address {
		return nil
	}
	status := b.versions.status(conditions)
	if address != "" {
		status["addressRef"] = api.NameRef{Name: address}
	}
	return b.patchStatus(ctx, claim, map[string]any{"uid": claim.UID}, status)
}

// status is where the conditions stand in the version that the server serves. Each version has those of the other too.
func (v versions) status(conditions []api.Condition) map[string]any {
	modern, legacy := make([]api.Condition, len(conditions)), make([]api.Condition, len(conditions))
	for i, condition := range conditions {
		modern[i], legacy[i] = condition, condition
		modern[i].Severity, legacy[i].ObservedGeneration = "", 0
		if condition.Status == metav1.ConditionFalse {
			legacy[i].Severity = "Error"
		}
	}
	if v.ipam == "v1beta1" {
		return map[string]any{"conditions": legacy, "v1beta2": map[string]any{"conditions": modern}}
	}
	return map[string]any{
		"conditions": modern,
		"deprecated": map[string]any{"v1beta1": map[string]any{"conditions": legacy}},
	}
}

func (b *base) patchStatus(ctx context.Context, object client.Object, metadata, status map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	if err != nil {
		return err
	}
	return b.client.Status().Patch(ctx, object, client.RawPatch(types.MergePatchType, patch))
}

// setFinalizer adds or removes a finalizer, unless the object has changed since it was read.
func (b *base) setFinalizer(ctx context.Context, object client.Object, finalizer string, present bool) error {
	if hasFinalizer(object, finalizer) == present {
		return nil
	}
	before := object.DeepCopyObject().(client.Object)
	var finalizers []string
	for _, other := range object.GetFinalizers() {
		if other != finalizer {
			finalizers = append(finalizers, other)
		}
	}
	if present {
		finalizers = append(finalizers, finalizer)
	}
	object.SetFinalizers(finalizers)
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	return b.client.Patch(ctx, object, patch)
}
