package kube

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// Labels of allocations, by which Find finds them: the prefix that the allocation has of the family, as prefixLabel
// writes it, or manyPrefixes.
const (
	labelIPv4    = Group + "/ipv4"
	labelIPv6    = Group + "/ipv6"
	manyPrefixes = "many"
)

// Find implements [store.Store]. Cost: a list of the objects whose labels name a prefix that contains addr, or that
// have several prefixes of its family. The server looks at every object, but sends only these.
func (s *Store) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	if err := (store.Key{Kind: store.KindAllocation, Pool: pool}).Validate(); err != nil {
		return store.Record{}, err
	}
	if !addr.IsValid() || addr.Is4In6() {
		return store.Record{}, notInPool(pool, addr)
	}
	addr = addr.WithZone("")
	best, found := -1, store.Record{}
	labels := selector(store.KindAllocation, pool) + "," + containing(addr)
	for r, err := range s.selected(ctx, resourceAllocations, labels, store.KindAllocation, pool) {
		if err != nil {
			return store.Record{}, err
		}
		for _, p := range r.Prefixes {
			if p.Contains(addr) && p.Bits() > best {
				best, found = p.Bits(), r
			}
		}
	}
	if best < 0 {
		return store.Record{}, notInPool(pool, addr)
	}
	return found, nil
}

// containing returns the label selector of the objects that may have a prefix which contains addr.
func containing(addr netip.Addr) string {
	values := []string{manyPrefixes}
	for bits := range addr.BitLen() + 1 {
		values = append(values, prefixLabel(netip.PrefixFrom(addr, bits).Masked()))
	}
	return fmt.Sprintf("%s in (%s)", familyLabel(addr), strings.Join(values, ","))
}

func familyLabel(addr netip.Addr) string {
	if addr.Is4() {
		return labelIPv4
	}
	return labelIPv6
}

// prefixLabel returns p as the value of a label: 10.0.0.1-32, or with eight groups of four digits,
// 2001-0db8-…-0001-128.
func prefixLabel(p netip.Prefix) string {
	return strings.ReplaceAll(p.Addr().StringExpanded(), ":", "-") + fmt.Sprint("-", p.Bits())
}

// addPrefixLabels adds the labels for Find of all prefixes that o has or may have.
func addPrefixLabels(labels map[string]string, o *object) {
	for _, r := range []*store.Record{o.value, o.current()} {
		if r == nil {
			continue
		}
		for _, p := range r.Prefixes {
			label, value := familyLabel(p.Addr()), prefixLabel(p)
			if old, ok := labels[label]; ok && old != value {
				value = manyPrefixes
			}
			labels[label] = value
		}
	}
}
