package kube

import (
	"encoding/json"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

// item is an object as it came, or what can be told of one that makes no sense.
type item struct {
	object *object // nil if it makes no sense
	key    store.Key
	known  bool // the key is that of the object's name
	err    error
}

// decodeItem reads an object of resource. Its error names the object.
func decodeItem(resource string, text []byte) item {
	o, err := decodeObject(resource, text)
	if err == nil {
		return item{object: o, key: o.key, known: refOf(o.key) == o.ref}
	}
	var said struct {
		Metadata struct{ Name string }
		Key      keyJSON
	}
	_ = json.Unmarshal(text, &said) // what can be read of it
	it := item{key: said.Key.key(), err: err}
	it.known = it.key.Validate() == nil && refOf(it.key) == ref{resource, said.Metadata.Name}
	if said.Metadata.Name != "" {
		it.err = fmt.Errorf("%s/%s: %w", resource, said.Metadata.Name, err)
	}
	return it
}

func (k keyJSON) key() store.Key {
	return store.Key{Kind: store.Kind(k.Kind), Pool: k.Pool, Name: k.Name}
}

// mayBe reports whether it may be a record of kind in pool, or in any if pool is empty.
func (it item) mayBe(kind store.Kind, pool string) bool {
	return !it.known || it.key.Kind == kind && (pool == "" || it.key.Pool == pool)
}

// misnamed returns an error if the object is not under the name of its key.
func (it item) misnamed() error {
	if it.known {
		return nil
	}
	return fmt.Errorf("%w: %v holds %v, which belongs under %v", ErrCollision, it.object.ref, it.key, refOf(it.key))
}

// wrongLabel says which of the labels by which lists find an object is not what it should be; empty if each is.
func (o *object) wrongLabel(labels map[string]string) string {
	right := o.labels()
	for _, label := range listed(labels, right) {
		got, ok := labels[label]
		want, wanted := right[label]
		switch {
		case got == want && ok == wanted:
		case !wanted:
			return fmt.Sprintf("it has a label %s, which it should not have", label)
		case !ok:
			return fmt.Sprintf("it has no label %s, want %s", label, want)
		default:
			return fmt.Sprintf("its label %s is %.63q, want %s", label, got, want)
		}
	}
	return ""
}

// misled returns an error if the object has a label that lists do not find it by.
func (it item) misled() error {
	if it.object.wrong == "" {
		return nil
	}
	return fmt.Errorf("%w: %v: %s; lists overlook it until it is written again, or labelled (kubectl label --overwrite)",
		ErrDamaged, it.object.ref, it.object.wrong)
}
