package space

import (
	"fmt"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/allocator"
	"github.com/ipalloc/ipalloc/cidr"
)

// Strategy says which free prefix a [Want] gets, of all that it could have.
type Strategy uint8

// The strategies.
const (
	// Lowest gives the lowest.
	Lowest Strategy = iota
	// Next gives the lowest at the cursor or above, which is the end of the one that was given last, and the lowest
	// of all when there is none (round robin). An exact Want neither uses nor moves the cursor.
	Next
	// Random gives any. It tries addresses at random until one is free, up to 16 times, so that each free one is as
	// likely as any other unless nearly all are taken; then it takes the next free one behind the last try.
	Random
	// Highest gives the highest.
	Highest
	// Spread gives the beginning of the largest free aligned block, of several of these of the lowest.
	Spread
	// Best gives the beginning of the smallest free aligned block that has room, of several of these of the lowest. In
	// a tier that is not the whole family it gives the lowest.
	Best
)

// Rules say what a space hands out. They are not changed after [New]. The zero Rules are not valid.
type Rules struct {
	// Families are one or two, the primary one first.
	Families []FamilyRules
	// Strategy is for all families.
	Strategy Strategy
}

// FamilyRules are the rules for one family.
type FamilyRules struct {
	Family Family
	// Set is what may be handed out. It may be empty or nil: then nothing is.
	Set *netipx.IPSet
	// Total is the number of addresses in the ranges of the pool, those included that are never handed out. It is
	// not less than the size of Set.
	Total cidr.Count
}

// Want is one request. It may be used again, for the same space: then it remembers where it has found something. Its
// exported fields must not be changed in between. A Want must not be used by two goroutines at once.
type Want struct {
	Family Family
	// Bits is the length of the prefix, if it may be any.
	Bits int
	// Exact, if it is valid, is the only prefix that will do. Bits and Tiers mean nothing then.
	Exact netip.Prefix
	// Tiers are tried one after the other. A tier that is nil is the whole family, and one without ranges has nothing.
	// All are of the family. Without Tiers there is one, the whole family.
	Tiers []*Part

	tier, at int    // where the last search ended: the tier, and the index of its range
	freed    uint64 // Space.freed then, plus 1; 0 if there was no search yet
}

// check returns what is wrong with the rules.
func (r Rules) check(random func() uint64) error {
	if r.Strategy > Best {
		return fmt.Errorf("%w: strategy %d: want one of Lowest to Best", allocator.ErrInvalid, r.Strategy)
	}
	if r.Strategy == Random && random == nil {
		return fmt.Errorf("%w: the strategy Random needs a source of random numbers", allocator.ErrInvalid)
	}
	if len(r.Families) == 0 || len(r.Families) > numFamilies {
		return fmt.Errorf("%w: %d families: want one or two", allocator.ErrInvalid, len(r.Families))
	}
	for i, f := range r.Families {
		if f.Family >= numFamilies || i > 0 && f.Family == r.Families[0].Family {
			return fmt.Errorf("%w: family %v: want IPv4, IPv6 or each of them once", allocator.ErrInvalid, f.Family)
		}
		if size := cidr.Size(f.Set); f.Total.Cmp(size) < 0 {
			return fmt.Errorf("%w: a total of %v %v addresses: want at least the %v of the set",
				allocator.ErrInvalid, f.Total, f.Family, size)
		}
	}
	return nil
}
