package kube

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// LabelPrefix begins the labels of objects that stand for those of records: label.ipalloc.github.io/node.
const LabelPrefix = "label." + Group + "/"

const (
	// notPlain begins what stands for a name or a value that Kubernetes does not admit in a label: then comes its hash.
	notPlain = "x--"
	// manyValues is the value of a label while the object has two: that of its record, and that of a pending commit.
	manyValues = notPlain + "many"
)

// ByLabel implements [store.Labeller], in the order of the objects' names. Cost: a list of the objects that have the
// label, also of those before l.After, which are left out. The server looks at each object of the pool, but sends only
// these.
func (s *Store) ByLabel(ctx context.Context, l store.Labelled) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := l.Validate(); err != nil {
			yield(store.Record{}, err)
			return
		}
		begin := ""
		if l.After != "" {
			begin = refOf(store.Key{Kind: l.Kind, Pool: l.Pool, Name: l.After}).name
		}
		labels := fmt.Sprintf("%s,%s in (%s,%s)", selector(l.Kind, l.Pool), labelName(l.Name),
			labelText(l.Value), manyValues)
		for r, err := range s.selected(ctx, resourceOf(l.Kind), labels, l.Kind, l.Pool) {
			if err == nil {
				value, ok := r.Labels[l.Name]
				if !ok || value != l.Value || refOf(r.Key).name <= begin {
					continue
				}
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// labelName returns the name of the object's label for a record's label of that name.
func labelName(name string) string { return LabelPrefix + labelText(name) }

// labelText returns text if Kubernetes admits it as the value of a label, and in the name of one behind the slash;
// otherwise what no such text is.
func labelText(text string) string {
	if text == "" || isLabelText(text) && !strings.HasPrefix(text, notPlain) {
		return text
	}
	return notPlain + hash(text)
}

// isLabelText reports whether text is 1 to 63 letters, digits, hyphens, underscores and dots, with a letter or a digit
// at either end.
func isLabelText(text string) bool {
	letter := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	if len(text) > maxPlain || !letter(text[0]) || !letter(text[len(text)-1]) {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !letter(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// addRecordLabels adds the labels for ByLabel of all labels that o has or may have.
func addRecordLabels(labels map[string]string, o *object) {
	if !o.key.Kind.IsLabelled() {
		return
	}
	for _, r := range []*store.Record{o.value, o.current()} {
		if r == nil {
			continue
		}
		for name, value := range r.Labels {
			label, text := labelName(name), labelText(value)
			if old, ok := labels[label]; ok && old != text {
				text = manyValues
			}
			labels[label] = text
		}
	}
}

// listed are the labels by which lists find objects, of those that an object has or should have.
func listed(has, wants map[string]string) []string {
	all := []string{labelKind, labelPool, labelIPv4, labelIPv6}
	for _, some := range []map[string]string{has, wants} {
		for label := range some {
			if strings.HasPrefix(label, LabelPrefix) && !slices.Contains(all, label) {
				all = append(all, label)
			}
		}
	}
	slices.Sort(all[4:])
	return all
}
