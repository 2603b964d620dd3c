package pool

import (
	"bytes"
	"encoding/json"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// rules are a spec with what follows from it, computed once. They are never changed.
type rules struct {
	Spec
	text     json.RawMessage
	families []Family
	withheld []netipx.IPRange // what the pool may not hand out because others decide so; see Info.Withheld
	tiers    [2]tiers         // by Family.index
}

func newRules(spec Spec, withheld []netipx.IPRange) (*rules, error) {
	if err := spec.Validate(); err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	// Through its text and back, so that the caller's slices are not shared.
	var own Spec
	if err := json.Unmarshal(text, &own); err != nil {
		return nil, err
	}
	r := &rules{Spec: own, text: text, families: own.Families(), withheld: withheld}
	for _, family := range r.families {
		r.tiers[family.index()] = own.tiersOf(family)
	}
	return r, nil
}

// sameAs reports whether a head with this text of a spec, and with this withheld, needs no other rules.
func (r *rules) sameAs(text []byte, withheld []netipx.IPRange) bool {
	return bytes.Equal(r.text, text) && slices.Equal(r.withheld, withheld)
}

func (r *rules) has(family Family) bool { return slices.Contains(r.families, family) }

func (r *rules) bits(family Family) int { return r.Spec.Bits(family) }

// allowed is what the pool hands out of the family: [Spec.Set] without what is withheld.
func (r *rules) allowed(family Family) *netipx.IPSet {
	return cidr.Difference(r.Set(family), cidr.SetOf(ofFamily(r.withheld, family)...))
}

// allowedSet is what the pool hands out of all families.
func (r *rules) allowedSet() *netipx.IPSet {
	var all []netipx.IPRange
	for _, family := range r.families {
		all = append(all, r.allowed(family).Ranges()...)
	}
	return cidr.SetOf(all...)
}

// requireRoom returns an error unless there is something to hand out of each family.
func (r *rules) requireRoom() error {
	for _, family := range r.families {
		if len(r.allowed(family).Ranges()) == 0 {
			return invalid("all %v addresses of the pool are excluded, foreign, gateways or reserved", family)
		}
	}
	return nil
}

// newSpace returns the free space of an empty pool.
func (r *rules) newSpace(random func() uint64) (*space.Space, error) {
	in := space.Rules{Strategy: space.Strategy(r.Strategy)}
	for _, family := range r.families {
		in.Families = append(in.Families, space.FamilyRules{
			Family: family.inSpace(), Set: r.allowed(family), Total: cidr.Size(r.rangeSet(family)),
		})
	}
	return space.New(in, random)
}

// inSpace is the family in the terms of package space.
func (f Family) inSpace() space.Family { return space.Family(f.index()) }
