package pool

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// Band is a part of a pool for claims that ask for it by name, with [Request.Band], or for an exact address. Other
// claims get an address of it only when nothing else is left, or never. The zero Band is not valid. A Band may be
// copied; the copy shares Ranges.
type Band struct {
	// Name is what claims ask for. Any UTF-8 without NUL, 1 to [store.MaxNameBytes] bytes.
	Name string
	// Ranges are the addresses of the band, each in the ranges of the pool.
	Ranges []netipx.IPRange
	// Exclusive bands are never used by claims that do not ask for them.
	Exclusive bool
}

func (b Band) equal(other Band) bool {
	return b.Name == other.Name && b.Exclusive == other.Exclusive &&
		cidr.SetOf(b.Ranges...).Equal(cidr.SetOf(other.Ranges...))
}

// ServiceBand returns the range that Kubernetes keeps for static addresses in a Service range: the first min(max(16,
// size/16), 256) usable addresses, where size is the number of addresses in the prefix. It is false for a prefix of
// 16 addresses or fewer, which Kubernetes does not divide, and for one that is not valid.
//
// Source: KEP-3070, reserve Service IP ranges for dynamic and static IP allocation.
func ServiceBand(services netip.Prefix) (netipx.IPRange, bool) {
	services = services.Masked()
	const least, most, part = 16, 256, 16
	hostBits := services.Addr().BitLen() - services.Bits()
	if !services.IsValid() || hostBits <= 4 {
		return netipx.IPRange{}, false
	}
	size := most * part
	if hostBits < 12 {
		size = 1 << hostBits
	}
	offset := uint64(min(max(least, size/part), most))
	set := cidr.SetOf(netipx.RangeOfPrefix(services))
	first, _ := cidr.Nth(set, cidr.CountOf(1))
	last, _ := cidr.Nth(set, cidr.CountOf(offset))
	return netipx.IPRangeFrom(first, last), true
}

func (s Spec) validateBands() error {
	for i, band := range s.Bands {
		if err := validateName("band's name", band.Name); err != nil {
			return err
		}
		if len(band.Ranges) == 0 {
			return invalid("the band %q has no ranges", band.Name)
		}
		for _, r := range band.Ranges {
			if err := s.validateBandRange(band.Name, r); err != nil {
				return err
			}
		}
		for _, other := range s.Bands[:i] {
			if other.Name == band.Name {
				return invalid("two bands have the name %q", band.Name)
			}
			if cidr.Overlaps(cidr.SetOf(other.Ranges...), cidr.SetOf(band.Ranges...)) {
				return invalid("the bands %q and %q overlap", other.Name, band.Name)
			}
		}
	}
	return nil
}

func (s Spec) validateBandRange(name string, r netipx.IPRange) error {
	if err := validateRange("range of the band "+name, r); err != nil {
		return err
	}
	if !s.rangeSet(FamilyOf(r.From())).ContainsRange(r) {
		return invalid("the range %s of the band %q is outside of the pool's ranges", cidr.FormatRange(r), name)
	}
	return nil
}

// tiers are the ranges of one family in the order in which a request tries them. nil ranges mean the whole family.
type tiers [][]netipx.IPRange

// everywhere is for pools without bands.
var everywhere = tiers{nil}

// tiersOf returns what a request that names no band tries, in this order: what is in no band; then, if some bands are
// not exclusive, everything outside of the exclusive ones.
func (s Spec) tiersOf(family Family) tiers {
	var all, exclusive []netipx.IPRange
	for _, band := range s.Bands {
		all = append(all, ofFamily(band.Ranges, family)...)
		if band.Exclusive {
			exclusive = append(exclusive, ofFamily(band.Ranges, family)...)
		}
	}
	if len(all) == 0 {
		return everywhere
	}
	set := s.rangeSet(family)
	return tiers{
		rangesOrNone(cidr.Difference(set, cidr.SetOf(all...))), rangesOrNone(cidr.Difference(set, cidr.SetOf(exclusive...))),
	}
}

// rangesOrNone never returns nil, which would mean everywhere.
func rangesOrNone(set *netipx.IPSet) []netipx.IPRange {
	return append([]netipx.IPRange{}, set.Ranges()...)
}

// band returns the ranges of the band of that name.
func (s Spec) band(name string, family Family) ([]netipx.IPRange, bool) {
	i := slices.IndexFunc(s.Bands, func(b Band) bool { return b.Name == name })
	if i < 0 {
		return nil, false
	}
	return append([]netipx.IPRange{}, cidr.SetOf(ofFamily(s.Bands[i].Ranges, family)...).Ranges()...), true
}

// tiers are the ranges that the request tries, one after the other.
func (r *Request) tiers(spec *rules) tiers {
	ts := spec.tiers[r.Family.index()]
	if r.Band != "" {
		ranges, _ := spec.band(r.Band, r.Family)
		ts = append(tiers{ranges}, ts...)
	}
	if r.Within == nil {
		return ts
	}
	within := make(tiers, len(ts))
	for i, ranges := range ts {
		if within[i] = r.Within.Ranges(); ranges != nil {
			within[i] = rangesOrNone(cidr.Intersection(r.Within, cidr.SetOf(ranges...)))
		}
	}
	return within
}
