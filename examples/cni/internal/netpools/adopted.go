package netpools

import (
	"maps"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/pool"
)

// Adopted returns what other plugins have given to attachments, as allocations with these labels and those of the pods.
func Adopted(entries adopt.Entries, labels map[string]string) ([]pool.Allocation, error) {
	var all []pool.Allocation
	for e, err := range entries {
		if err != nil {
			return nil, err
		}
		a := pool.Allocation{Owner: e.Owner, Prefixes: e.Prefixes, Labels: maps.Clone(labels)}
		for _, name := range []string{LabelPodNamespace, LabelPodName} {
			if value, ok := e.Labels[name]; ok {
				a.Labels[name] = value
			}
		}
		all = append(all, a)
	}
	return all, nil
}

// Entries returns allocations as entries, as the writers of package adopt take them.
func Entries(held []pool.Allocation) []adopt.Entry {
	var all []adopt.Entry
	for _, a := range held {
		all = append(all, adopt.Entry{Owner: a.Owner, Prefixes: a.Prefixes, Labels: a.Labels})
	}
	return all
}
