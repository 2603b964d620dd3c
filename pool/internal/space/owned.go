package space

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
)

// Whose names those whose addresses are counted together: those with a value of a label. The empty label stands for
// the scope. A Whose is a value.
type Whose struct {
	Label string `json:"label,omitempty"`
	Value string `json:"value"`
}

// Owned is how many addresses are counted together, as the head has it.
type Owned struct {
	Whose
	V4 cidr.Count `json:"ipv4,omitzero"`
	V6 cidr.Count `json:"ipv6,omitzero"`
}

// owning is what a count was before a change in this transaction.
type owning struct {
	whose  Whose
	before [numFamilies]cidr.Count
}

// Own adds the addresses of p to the count of those, or takes them out. It does not matter what may be handed out of p.
func (s *Space) Own(w Whose, p netip.Prefix, owned bool) {
	before := s.owned[w]
	s.ownings = append(s.ownings, owning{w, before})
	if n := &before[FamilyOf(p.Addr())]; owned {
		*n = n.Add(cidr.PrefixSize(p))
	} else {
		*n = n.Sub(cidr.PrefixSize(p))
	}
	s.setOwned(w, before)
}

// setOwned makes the count what it says. Nothing is kept of one that is empty.
func (s *Space) setOwned(w Whose, n [numFamilies]cidr.Count) {
	if n == [numFamilies]cidr.Count{} {
		delete(s.owned, w)
		return
	}
	if s.owned == nil {
		s.owned = map[Whose][numFamilies]cidr.Count{}
	}
	s.owned[w] = n
}

// OwnedBy returns how many addresses of the family are counted as those.
func (s *Space) OwnedBy(w Whose, f Family) cidr.Count {
	if f >= numFamilies {
		return cidr.Count{}
	}
	return s.owned[w][f]
}

// Owners returns how many different ones are counted.
func (s *Space) Owners() int { return len(s.owned) }

// Owned returns all counts, in the order of labels and values. It is empty, not nil, for none. Cost: O(n log n).
func (s *Space) Owned() []Owned {
	all := make([]Owned, 0, len(s.owned))
	for w, n := range s.owned {
		all = append(all, Owned{w, n[V4], n[V6]})
	}
	SortOwned(all)
	return all
}

// SortOwned puts counts into the order of labels and values.
func SortOwned(all []Owned) {
	slices.SortFunc(all, func(a, b Owned) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), strings.Compare(a.Value, b.Value))
	})
}

// loadOwned makes the counts those of a head.
func (s *Space) loadOwned(all []Owned) {
	s.owned = nil
	for _, o := range all {
		s.setOwned(o.Whose, [numFamilies]cidr.Count{V4: o.V4, V6: o.V6})
	}
}
