// Package admission is the server that the API server asks before it takes a pool, and to convert one from one version
// to another.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"go4.org/netipx"
	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/pools"
)

// The paths of the server, which the manifests name.
const (
	ValidatePath = "/validate-pools"
	ConvertPath  = "/convert"
)

// maxListed is how many addresses in use an answer lists.
const maxListed = 20

// Reader is what the validation needs to know of the cluster.
type Reader interface {
	// InUse lists the addresses of a pool.
	InUse(ctx context.Context, key pools.Key) ([]api.Address, error)
	// Each calls a function with each valid pool.
	Each(ctx context.Context, do func(pools.Key, pools.Pool)) error
}

// Register makes the server validate and convert pools.
func Register(server webhook.Server, reader Reader) {
	server.Register(ValidatePath, &webhook.Admission{Handler: &validator{reader}})
	server.Register(ConvertPath, http.HandlerFunc(serveConversion))
}

type validator struct{ Reader }

// Handle allows a change of a pool, or says everything that is wrong with it.
func (v *validator) Handle(ctx context.Context, request admission.Request) admission.Response {
	var wrong field.ErrorList
	var err error
	if request.Operation == admissionv1.Delete {
		wrong, err = v.deletion(ctx, request)
	} else {
		wrong, err = v.change(ctx, request)
	}
	if err != nil {
		return admission.Errored(http.StatusInternalServerError, err)
	}
	if len(wrong) == 0 {
		return admission.Allowed("")
	}
	kind := schema.GroupKind{Group: request.Kind.Group, Kind: request.Kind.Kind}
	status := apierrors.NewInvalid(kind, request.Name, wrong).Status()
	return admission.Response{AdmissionResponse: admissionv1.AdmissionResponse{Result: &status}}
}

// deletion is what is wrong with the deletion of a pool: that it is in use.
func (v *validator) deletion(ctx context.Context, request admission.Request) (field.ErrorList, error) {
	old := &unstructured.Unstructured{}
	if err := json.Unmarshal(request.OldObject.Raw, old); err != nil {
		return nil, err
	}
	if _, skip := old.GetAnnotations()[api.SkipDeleteAnnotation]; skip {
		return nil, nil
	}
	used, err := v.InUse(ctx, keyOf(old))
	if err != nil || len(used) == 0 {
		return nil, err
	}
	text := fmt.Sprintf("the pool has %d addresses in use; delete their claims first", len(used))
	return field.ErrorList{field.Forbidden(field.NewPath("metadata", "name"), text)}, nil
}

func keyOf(object *unstructured.Unstructured) pools.Key {
	return pools.Key{Kind: object.GetKind(), NamespacedName: client.ObjectKeyFromObject(object)}
}

// change is what is wrong with a new pool, or with a change of one.
func (v *validator) change(ctx context.Context, request admission.Request) (field.ErrorList, error) {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(request.Object.Raw, object); err != nil {
		return nil, err
	}
	if object.GetDeletionTimestamp() != nil {
		return nil, nil // only finalizers change
	}
	if object.GetName() == "" {
		object.SetName(object.GetGenerateName() + "0") // the server appends to it
	}
	read, err := pools.Read(object)
	if err != nil {
		return fieldErrors(err), nil
	}
	key := keyOf(object)
	wrong, err := v.beside(ctx, key, read)
	if err != nil || request.Operation != admissionv1.Update || read.Drain {
		return wrong, err
	}
	stranded, err := v.stranded(ctx, key, read, request.OldObject.Raw)
	return append(wrong, stranded...), err
}

// fieldErrors are all faults of a pool.
func fieldErrors(err error) field.ErrorList {
	var list field.ErrorList
	for _, wrong := range config.FieldErrors(err) {
		text := wrong.Rule
		if wrong.Want != "" {
			text += ", want " + wrong.Want
		}
		var value any = wrong.Value
		if wrong.Value == "" {
			value = field.OmitValueType{}
		}
		list = append(list, field.Invalid(field.NewPath(wrong.Field), value, text))
	}
	if len(list) == 0 {
		list = append(list, field.InternalError(nil, errors.Unwrap(err)))
	}
	return list
}

// beside is what is wrong with a pool beside other pools.
func (v *validator) beside(ctx context.Context, key pools.Key, read pools.Pool) (field.ErrorList, error) {
	var wrong field.ErrorList
	ranges := cidr.SetOf(read.Spec.Ranges...)
	spec := field.NewPath("spec")
	err := v.Each(ctx, func(other pools.Key, p pools.Pool) {
		if other == key {
			return
		}
		if read.Spec.Network != "" && p.Spec.Network == read.Spec.Network && ranges.Overlaps(cidr.SetOf(p.Spec.Ranges...)) {
			wrong = append(wrong, field.Invalid(spec.Child("network"), read.Spec.Network,
				fmt.Sprintf("the addresses overlap with those of %s %s", other.Kind, other)))
		}
		if read.DualStackPool != "" && other == key.Sibling(read.DualStackPool) && p.Family() == read.Family() {
			wrong = append(wrong, field.Invalid(spec.Child("dualStackPool"), read.DualStackPool,
				fmt.Sprintf("that pool has the same family, %v", p.Family())))
		}
	})
	if read.DualStackPool == key.Name && read.DualStackPool != "" {
		wrong = append(wrong, field.Invalid(spec.Child("dualStackPool"), read.DualStackPool, "is the pool itself"))
	}
	return wrong, err
}

// stranded are the addresses in use that an update would take out of the pool.
func (v *validator) stranded(
	ctx context.Context, key pools.Key, read pools.Pool, oldRaw []byte,
) (field.ErrorList, error) {
	old := &unstructured.Unstructured{}
	if err := json.Unmarshal(oldRaw, old); err != nil {
		return nil, err
	}
	before, err := pools.Read(old)
	if err != nil {
		return nil, nil //nolint:nilerr // what was not valid handed out nothing that could be stranded
	}
	used, err := v.InUse(ctx, key)
	if err != nil {
		return nil, err
	}
	var wrong field.ErrorList
	was, is := handedOut(before), handedOut(read)
	for _, address := range used {
		addr, err := netip.ParseAddr(address.Spec.Address)
		if err != nil {
			continue
		}
		prefix := netip.PrefixFrom(addr, before.Length())
		if was.ContainsPrefix(prefix) && !is.ContainsPrefix(prefix) {
			wrong = append(wrong, field.Invalid(field.NewPath("spec"), prefix.String(), fmt.Sprintf(
				"would no longer be in the pool, but claim %s/%s has it; set drain to let it keep it",
				address.Namespace, address.Spec.ClaimRef.Name)))
		}
	}
	if more := len(wrong) - maxListed; more > 0 {
		wrong = append(wrong[:maxListed], field.Forbidden(field.NewPath("spec"), fmt.Sprintf("and %d more", more)))
	}
	return wrong, nil
}

// handedOut are the addresses that a pool may hand out.
func handedOut(p pools.Pool) *netipx.IPSet {
	var b netipx.IPSetBuilder
	b.AddSet(p.Spec.Set(p.Family()))
	b.RemoveSet(cidr.SetOf(p.External...))
	set, _ := b.IPSet() // fails only for ranges that are not valid
	return set
}
