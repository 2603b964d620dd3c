package admission

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/api"
)

// originalAnnotation has the spec that a pool was converted from, if the other version cannot say all of it. So nothing
// is lost on the way back.
const originalAnnotation = "ipam.ipalloc.github.io/converted-from"

// maxReview is the largest size in bytes of what is to be converted at once; etcd's objects are smaller.
const maxReview = 64 << 20

// original is the value of the annotation.
type original struct {
	Version string         `json:"version"`
	Spec    map[string]any `json:"spec"`
}

// serveConversion answers a ConversionReview.
func serveConversion(w http.ResponseWriter, r *http.Request) {
	var review apiextensions.ConversionReview
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxReview)).Decode(&review)
	if err != nil || review.Request == nil {
		http.Error(w, "the body is no ConversionReview", http.StatusBadRequest)
		return
	}
	response := &apiextensions.ConversionResponse{
		UID: review.Request.UID, Result: metav1.Status{Status: metav1.StatusSuccess},
	}
	for _, raw := range review.Request.Objects {
		converted, err := convertRaw(raw.Raw, review.Request.DesiredAPIVersion)
		if err != nil {
			response.Result = metav1.Status{Status: metav1.StatusFailure, Message: err.Error()}
			response.ConvertedObjects = nil
			break
		}
		response.ConvertedObjects = append(response.ConvertedObjects, runtime.RawExtension{Raw: converted})
	}
	review.Request, review.Response = nil, response
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(review) // the client is gone, if that fails
}

func convertRaw(raw []byte, version string) ([]byte, error) {
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(raw, object); err != nil {
		return nil, err
	}
	if err := Convert(object, version); err != nil {
		return nil, err
	}
	return json.Marshal(object)
}

// Convert converts a pool to another version, such as ipam.cluster.x-k8s.io/v1alpha2.
func Convert(object *unstructured.Unstructured, version string) error {
	from := object.GetAPIVersion()
	if from == version {
		return nil
	}
	spec, _, err := unstructured.NestedMap(object.Object, "spec")
	if err != nil {
		return err
	}
	converted, err := translate(object, spec, from, version)
	if err != nil {
		return err
	}
	converted = restored(object, spec, converted, from, version)
	back, err := translate(object, converted, version, from)
	if err != nil {
		return err
	}
	if err := remember(object, spec, back, from); err != nil {
		return err
	}
	object.SetAPIVersion(version)
	return unstructured.SetNestedMap(object.Object, converted, "spec")
}

// translate says in one version what a spec says in another, as far as that can.
func translate(object *unstructured.Unstructured, spec map[string]any, from, to string) (map[string]any, error) {
	switch {
	case from == api.Group+"/v1alpha1" && to == api.Group+"/v1alpha2":
		return upgraded(object, spec)
	case from == api.Group+"/v1alpha2" && to == api.Group+"/v1alpha1":
		down := map[string]any{}
		for _, name := range []string{"addresses", "prefix", "gateway"} {
			if value, found := spec[name]; found {
				down[name] = value
			}
		}
		return down, nil
	}
	return nil, fmt.Errorf("cannot convert a pool from %s to %s", from, to)
}

// upgraded is a spec of v1alpha1 in v1alpha2.
func upgraded(object *unstructured.Unstructured, spec map[string]any) (map[string]any, error) {
	subject := map[string]any{
		"apiVersion": api.Group + "/v1alpha1", "kind": object.GetKind(), "spec": spec,
		"metadata": map[string]any{"name": "converted"},
	}
	text, err := json.Marshal(subject)
	if err != nil {
		return nil, err
	}
	read, err := clusterapi.Parse(text)
	if err != nil {
		return nil, err
	}
	var addresses []any
	for _, r := range read[0].Spec.Ranges {
		text := r.String()
		if r.From() == r.To() {
			text, _, _ = strings.Cut(text, "-")
		}
		addresses = append(addresses, text)
	}
	up := map[string]any{"addresses": addresses, "prefix": int64(read[0].Prefix)}
	if read[0].Gateway.IsValid() {
		up["gateway"] = read[0].Gateway.String()
	}
	return up, nil
}

// restored is the converted spec with what the annotation knows beyond it.
func restored(object *unstructured.Unstructured, spec, converted map[string]any, from, to string) map[string]any {
	var kept original
	if json.Unmarshal([]byte(object.GetAnnotations()[originalAnnotation]), &kept) != nil || kept.Version != to {
		return converted
	}
	said, err := translate(object, kept.Spec, to, from)
	if err == nil && equal(said, spec) {
		return kept.Spec // nobody has changed anything meanwhile
	}
	if to == api.Group+"/v1alpha1" {
		return converted
	}
	for name, value := range kept.Spec { // what v1alpha1 cannot say has not been changed
		if _, found := converted[name]; !found && name != "gateway" {
			converted[name] = value
		}
	}
	return converted
}

// remember keeps the spec in the annotation if the way back would not lead to it.
func remember(object *unstructured.Unstructured, spec, back map[string]any, from string) error {
	annotations := object.GetAnnotations()
	delete(annotations, originalAnnotation)
	if !equal(back, spec) {
		text, err := json.Marshal(original{from, spec})
		if err != nil {
			return err
		}
		if annotations == nil {
			annotations = map[string]string{}
		}
		annotations[originalAnnotation] = string(text)
	}
	object.SetAnnotations(annotations)
	return nil
}

// equal reports whether two specs are the same JSON.
func equal(a, b map[string]any) bool {
	x, err := json.Marshal(a)
	if err != nil {
		return false
	}
	y, err := json.Marshal(b)
	if err != nil {
		return false
	}
	return reflect.DeepEqual(x, y)
}
