package pool

import (
	"bytes"
	"encoding/json"
	"slices"
	"sync"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// rules are a spec with what follows from it, computed once. They are never changed.
type rules struct {
	Spec
	families []Family
	withheld []netipx.IPRange // what the pool may not hand out because others decide so; see Info.Withheld
	moving   Renumbering      // zero unless the pool is being renumbered
	sets     [2]familySets    // by Family.index, as are the following
	allowed  [2]set           // what the pool hands out: Spec.Set without what is withheld
	tiers    [2]tiers
	bands    map[string]*[2]*space.Part // by name, then by Family.index
	bits     [2]int                     // of a request that names none
	bounded  bool                       // claims may not ask for any length
	sizes    [2]cidr.Count              // of allowed; only if there are quotas
	counted  *counted                   // whose addresses are counted; nil if there are no quotas

	encoded func() (encodedRules, error)
}

// newRules returns the rules of a spec, or an error that wraps [ErrInvalid]. Cost: O(n log n) for n ranges.
func newRules(spec Spec, withheld []netipx.IPRange, moving Renumbering) (*rules, error) {
	sets, err := spec.validated()
	if err != nil {
		return nil, err
	}
	own := spec.clone() // so that the caller's slices are not shared
	r := &rules{
		Spec: own, families: own.AllFamilies(), withheld: withheld, moving: moving, sets: sets, bands: own.bandParts(),
	}
	end, err := moving.endOf(own)
	if err != nil {
		return nil, err
	}
	r.counted = countedBy(own.Quotas)
	r.encoded = sync.OnceValues(r.encode)
	for i, family := range families { // also what the pool has not any more may be held
		r.bits[i] = own.Bits(family)
	}
	for _, family := range r.families {
		i, lengths := family.index(), own.of(family)
		r.allowed[i] = sets[i].allowed.minus(setOf(ofFamily(withheld, family)))
		r.restrict(family, end)
		if len(own.Quotas) > 0 {
			r.sizes[i] = r.allowed[i].size()
		}
		r.tiers[i] = own.tiersOf(family, sets[i].ranges)
		r.bounded = r.bounded || lengths.MinBits != 0 || lengths.MaxBits != 0
	}
	return r, nil
}

// encodedRules are rules as the store has them.
type encodedRules struct {
	Spec json.RawMessage `json:"spec,omitempty"`
	// Withheld are the addresses that the pool may not hand out because others decide so.
	Withheld []string `json:"withheld,omitempty"`
	// Renumbering is from which prefix to which the pool moves.
	Renumbering Renumbering `json:"renumbering,omitzero"`
}

// encode returns the rules as the store has them. Cost: O(ranges).
func (r *rules) encode() (encodedRules, error) {
	text, err := json.Marshal(r.Spec)
	return encodedRules{Spec: text, Withheld: formatRanges(r.withheld), Renumbering: r.moving}, err
}

// size is about how many bytes the rules take in a record.
func (e encodedRules) size() int {
	size := len(e.Spec)
	for _, text := range e.Withheld {
		size += len(text) + len(`"",`)
	}
	return size
}

// parse reads the rules without checking them.
func (e encodedRules) parse() (spec Spec, withheld []netipx.IPRange, err error) {
	if err = json.Unmarshal(e.Spec, &spec); err == nil {
		withheld, err = parseRanges(e.Withheld)
	}
	return spec, withheld, err
}

// decode reads the rules, and checks them.
func (e encodedRules) decode() (*rules, error) {
	spec, withheld, err := e.parse()
	if err != nil {
		return nil, err
	}
	r, err := newRules(spec, withheld, e.Renumbering)
	if err != nil {
		return nil, err
	}
	r.encoded = func() (encodedRules, error) { return e, nil }
	return r, nil
}

// isIn reports whether e is what the rules are in the store, byte for byte.
func (r *rules) isIn(e encodedRules) bool {
	mine, err := r.encoded()
	return err == nil && bytes.Equal(mine.Spec, e.Spec) && slices.Equal(mine.Withheld, e.Withheld) &&
		mine.Renumbering == e.Renumbering
}

func (r *rules) has(family Family) bool { return slices.Contains(r.families, family) }

// reserves reports whether subnets reserve addresses of the family.
func (r *rules) reserves(family Family) bool { return len(r.sets[family.index()].reserved) > 0 }

// allowedSet is what the pool hands out of all families. Cost: O(ranges).
func (r *rules) allowedSet() *netipx.IPSet {
	return slices.Concat(r.allowed[0], r.allowed[1]).ipSet()
}

// requireRoom returns an error unless there is something to hand out of each family that has ranges.
func (r *rules) requireRoom() error {
	for _, family := range r.families {
		if i := family.index(); len(r.allowed[i]) == 0 && len(r.sets[i].ranges) > 0 {
			return invalid("all %v addresses of the pool are excluded, external, gateways or reserved", family)
		}
	}
	return nil
}

// newSpace returns the free space of an empty pool.
func (r *rules) newSpace(random func() uint64) (*space.Space, error) {
	in := space.Rules{Strategy: r.Strategy.inSpace()}
	for _, family := range r.families {
		i := family.index()
		in.Families = append(in.Families, space.FamilyRules{
			Family: family.inSpace(), Set: r.allowed[i].ipSet(), Total: r.sets[i].ranges.size(),
		})
	}
	return space.New(in, random)
}

// inSpace is the family in the terms of package space.
func (f Family) inSpace() space.Family { return space.Family(f.index()) }
