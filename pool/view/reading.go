package view

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/pool"
)

// reading is what a page needs of a pool. It is made while the pool is read, without holding the whole pool.
type reading struct {
	info     pool.Info
	tooLarge bool // there are more than most allocations, of which nothing is known
	picture  *picture
	n        int // allocations, held and cooling

	options Options
	limits  limits
	most    int
	// first are the first allocations in the order of their addresses, and perhaps others: up to keep of them, where
	// the page ends, and then no more than twice as many.
	first []listed
	keep  int
	past  netip.Addr // what begins after it is not on the page; the zero Addr if that is not known
}

// listed is an allocation as the pages list it.
type listed struct {
	pool.Allocation
	cooling bool
}

func (l *listed) state() string {
	switch {
	case l.Kept:
		return stateReserved
	case l.cooling:
		return stateCooling
	}
	return stateHeld
}

func (l *listed) first() netip.Addr {
	if len(l.Prefixes) == 0 {
		return netip.Addr{}
	}
	return l.Prefixes[0].Addr()
}

// newReading returns what is to be read for the request.
func (h *handler) newReading(r *http.Request, format format) *reading {
	options := (&Options{Label: h.options.Label}).withDefaults()
	read := &reading{options: options, limits: svgLimits(options), most: h.options.MaxRecords}
	if format == formatText {
		read.limits = textLimits(options)
	}
	page, err := strconv.Atoi(r.URL.Query().Get("page"))
	if err != nil || page < 1 {
		page = 1 // as newPager does, or it refuses
	}
	read.keep = h.options.Rows * min(page, 1+read.most/h.options.Rows)
	return read
}

// errTooLarge ends the reading of a pool that is too large.
var errTooLarge = errors.New("too many allocations")

// pool reads the pool of that name.
func (r *reading) pool(ctx context.Context, source Source, name string) error {
	p, err := source.Pool(ctx, name)
	if err != nil {
		return err
	}
	err = p.Walk(ctx, func(info pool.Info) error {
		r.info, r.n, r.first, r.past = info, 0, nil, netip.Addr{}
		r.info.Name = name
		r.picture = newPicture(r.info, r.options, r.most)
		return nil
	}, r.add)
	if errors.Is(err, errTooLarge) {
		r.tooLarge, r.n, r.first = true, 0, nil
		return nil
	}
	if err == nil {
		r.picture.finish(r.limits)
	}
	return err
}

// add notes an allocation.
func (r *reading) add(a pool.Allocation, isCooling bool) error {
	if r.n++; r.n > r.most {
		return errTooLarge
	}
	class := taken
	switch {
	case a.Kept:
		class = kept
	case isCooling:
		class = cooling
	}
	r.picture.add(&a, class)
	l := listed{a, isCooling}
	if r.past.IsValid() && r.past.Less(l.first()) {
		return nil
	}
	if r.first = append(r.first, l); len(r.first) >= 2*r.keep {
		r.cut()
		r.past = r.first[r.keep-1].first()
	}
	return nil
}

// cut keeps those that the page may list, in order.
func (r *reading) cut() {
	slices.SortFunc(r.first, func(a, b listed) int {
		byState := 0
		if a.cooling != b.cooling {
			byState = strings.Compare(a.state(), b.state())
		}
		return cmp.Or(a.first().Compare(b.first()), byState, strings.Compare(a.Owner, b.Owner))
	})
	clear(r.first[min(r.keep, len(r.first)):])
	r.first = r.first[:min(r.keep, len(r.first))]
}

// rows returns the allocations of the page, held and cooling ones in the order of their addresses.
func (r *reading) rows(pager pager) []listed {
	r.cut()
	return r.first[min(pager.from, len(r.first)):min(pager.to, len(r.first))]
}
