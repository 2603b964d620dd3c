package pool

import (
	"net/netip"
	"slices"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool/internal/space"
)

// Band is a part of a pool for claims that name it in [Request.Band], or that ask for an exact address in it. Other
// claims get an address of the band only when nothing else is left, or never. The zero Band is not valid. A Band may be
// copied; the copy shares Ranges.
type Band struct {
	// Name is the name that claims use. It is 1 to [store.MaxNameBytes] bytes of UTF-8 without NUL.
	Name string
	// Ranges are the addresses of the band, each in the ranges of the pool.
	Ranges []netipx.IPRange
	// Exclusive reports whether claims that do not ask for the band never get an address of it.
	Exclusive bool
}

func (b Band) equal(other Band) bool {
	return b.Name == other.Name && b.Exclusive == other.Exclusive &&
		slices.Equal(setOf(b.Ranges), setOf(other.Ranges))
}

// ServiceBand returns the range that Kubernetes keeps for static addresses in a Service range: the first min(max(16,
// size/16), 256) usable addresses, where size is the number of addresses in the prefix. It returns false for a prefix
// of 16 addresses or fewer, which Kubernetes does not divide, and for an invalid prefix.
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

// validateBands checks the bands, given what follows from the spec by Family.index.
func (s Spec) validateBands(sets *[2]familySets) error {
	names := make(map[string]bool, len(s.Bands))
	var all []bandRange
	for i, band := range s.Bands {
		switch err := validateName("band's name", band.Name); {
		case err != nil:
			return err
		case names[band.Name]:
			return invalid("two bands have the name %q", band.Name)
		case len(band.Ranges) == 0:
			return invalid("the band %q has no ranges", band.Name)
		}
		names[band.Name] = true
		for _, r := range band.Ranges {
			if err := validateBandRange(band.Name, r, sets); err != nil {
				return err
			}
		}
		for _, r := range setOf(band.Ranges) {
			all = append(all, bandRange{r, i})
		}
	}
	return s.validateApart(all)
}

// bandRange is a range of the band with an index.
type bandRange struct {
	netipx.IPRange
	band int
}

// validateApart refuses bands that overlap. The ranges of one band do not.
func (s Spec) validateApart(all []bandRange) error {
	slices.SortFunc(all, func(a, b bandRange) int { return byFrom(a.IPRange, b.IPRange) })
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.Overlaps(b.IPRange) { // if any two overlap, so do two that stand side by side
			first, second := s.Bands[min(a.band, b.band)], s.Bands[max(a.band, b.band)]
			return invalid("the bands %q and %q overlap", first.Name, second.Name)
		}
	}
	return nil
}

func validateBandRange(name string, r netipx.IPRange, sets *[2]familySets) error {
	if err := validateRange("range of a band", r); err != nil {
		return err
	}
	if !sets[FamilyOf(r.From()).index()].ranges.contains(r) {
		return invalid("the range %s of the band %q is outside of the pool's ranges", cidr.FormatRange(r), name)
	}
	return nil
}

// tiers are the parts of one family in the order in which a request tries them. A nil part means the whole family.
type tiers []*space.Part

// everywhere is for pools without bands.
var everywhere = tiers{nil}

// tiersOf returns what a request that names no band tries, in this order: what is in no band; then, if some bands are
// not exclusive, everything outside of the exclusive ones. The ranges are those of the pool.
func (s Spec) tiersOf(family Family, ranges set) tiers {
	var all, exclusive []netipx.IPRange
	for _, band := range s.Bands {
		all = append(all, ofFamily(band.Ranges, family)...)
		if band.Exclusive {
			exclusive = append(exclusive, ofFamily(band.Ranges, family)...)
		}
	}
	switch {
	case len(all) == 0:
		return everywhere
	case len(all) == len(exclusive):
		return tiers{space.NewPart(ranges.minus(setOf(all)))}
	}
	return tiers{space.NewPart(ranges.minus(setOf(all))), space.NewPart(ranges.minus(setOf(exclusive)))}
}

// bandParts returns what each band has, by its name and then by Family.index.
func (s Spec) bandParts() map[string]*[2]*space.Part {
	bands := make(map[string]*[2]*space.Part, len(s.Bands))
	for _, band := range s.Bands {
		parts := [2]*space.Part{{}, {}}
		ranges := setOf(band.Ranges)
		v6 := ranges.from(netip.IPv6Unspecified()) // IPv4 comes before IPv6
		if v6 > 0 {
			parts[0] = space.NewPart(ranges[:v6])
		}
		if v6 < len(ranges) {
			parts[1] = space.NewPart(ranges[v6:])
		}
		bands[band.Name] = &parts
	}
	return bands
}

// tiersFor returns the parts that the request tries, one after the other.
func (r *rules) tiersFor(q *Request) tiers {
	ts := r.tiers[q.Family.index()]
	if q.Band != "" {
		ts = append(tiers{r.bands[q.Band][q.Family.index()]}, ts...)
	}
	if q.within == nil {
		return ts
	}
	within := make(tiers, len(ts))
	for i, part := range ts {
		if within[i] = q.within; part != nil {
			within[i] = space.NewPart(set(q.within.Ranges()).and(part.Ranges()))
		}
	}
	return within
}

// wants are the searches for the requests of one claim. Requests that ask for the same share one, which goes on where
// it found something last. The zero wants are ready to use.
type wants struct {
	one  space.Want
	like map[wantKey]*space.Want
}

// wantKey is what a request in a part of the pool searches for.
type wantKey struct {
	family Family
	bits   int
	band   string
	within *space.Part
}

// reset forgets the searches.
func (w *wants) reset() { w.like = nil }

// of returns the search for a request, which is good until the next one of this claim.
func (w *wants) of(q *Request, r *rules) *space.Want {
	if q.Exact.IsValid() || q.Band == "" && q.within == nil {
		w.one = space.Want{Family: q.Family.inSpace(), Bits: q.Bits, Exact: q.Exact, Tiers: r.tiers[q.Family.index()]}
		return &w.one
	}
	key := wantKey{q.Family, q.Bits, q.Band, q.within}
	want := w.like[key]
	if want == nil {
		if w.like == nil {
			w.like = map[wantKey]*space.Want{}
		}
		want = &space.Want{Family: q.Family.inSpace(), Bits: q.Bits, Tiers: r.tiersFor(q)}
		w.like[key] = want
	}
	return want
}
