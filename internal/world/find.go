package world

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// Labelled are the allocations of a pool that have all the labels, in the order of their lowest addresses.
func (m *Pool) Labelled(labels map[string]string) []pool.Allocation {
	var found []pool.Allocation
	for _, a := range m.Held() {
		if hasAll(a.Labels, labels) {
			found = append(found, a)
		}
	}
	slices.SortFunc(found, func(a, b pool.Allocation) int {
		return cmp.Or(Lowest(a).Compare(Lowest(b)), cmp.Compare(a.Owner, b.Owner))
	})
	return found
}

func hasAll(labels, wanted map[string]string) bool {
	for name, value := range wanted {
		if got, ok := labels[name]; !ok || got != value {
			return false
		}
	}
	return true
}

// Lowest returns the lowest address of an allocation.
func Lowest(a pool.Allocation) netip.Addr {
	return slices.MinFunc(a.Prefixes, func(p, q netip.Prefix) int { return p.Addr().Compare(q.Addr()) }).Addr()
}

// auditLabels requires each label that a record of the pool has to find just the records that have it.
func auditLabels(ctx context.Context, s store.Store, name string) error {
	want := map[store.Labelled]map[string]int64{} // the revisions, by owner
	for r, err := range s.List(ctx, store.KindAllocation, name) {
		if err != nil {
			return err
		}
		for label, value := range r.Labels {
			l := store.Labelled{Kind: store.KindAllocation, Pool: name, Name: label, Value: value}
			if want[l] == nil {
				want[l] = map[string]int64{}
			}
			want[l][r.Name] = r.Revision
		}
	}
	for l, owners := range want {
		for r, err := range store.ByLabel(ctx, s, l) {
			if err != nil {
				return err
			}
			if owners[r.Name] != r.Revision {
				return fmt.Errorf("the label %q=%q finds %q at revision %d, want %d", l.Name, l.Value, r.Name, r.Revision,
					owners[r.Name])
			}
			delete(owners, r.Name)
		}
		for owner := range owners {
			return fmt.Errorf("the label %q=%q does not find %q", l.Name, l.Value, owner)
		}
	}
	return nil
}
