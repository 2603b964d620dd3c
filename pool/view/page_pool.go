package view

import (
	"context"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/pool"
)

type poolPage struct {
	page
	Stats    []statsRow
	Spec     []specRow
	TooLarge bool
	Map      template.HTML
	Rows     []*row
	Pager    pager
}

type specRow struct{ Name, Value string }

type poolJSON struct {
	pager
	Name        string            `json:"name"`
	Spec        pool.Spec         `json:"spec"`
	Created     time.Time         `json:"created,omitzero"`
	Revision    int64             `json:"revision"`
	Parent      *pool.Parent      `json:"parent,omitempty"`
	Withheld    []string          `json:"withheld,omitempty"`
	Stats       pool.Stats        `json:"stats"`
	TooLarge    bool              `json:"tooLarge,omitempty"`
	Allocations []*jsonAllocation `json:"allocations"`
}

func (h *handler) pool(r *http.Request, name string) (*answer, error) {
	format, err := formatOf(r, formatHTML, formatText, formatJSON, formatSVG)
	if err != nil {
		return nil, err
	}
	done, err := h.turn(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	s, whole, err := h.read(r.Context(), name)
	if err != nil {
		return nil, err
	}
	pager, err := newPager(r, len(s.Allocations)+len(s.Cooling), h.options.Rows)
	if err != nil {
		return nil, err
	}
	a, options := &answer{format: format}, &Options{Label: h.options.Label}
	if !whole && format == formatSVG {
		return nil, &requestError{http.StatusServiceUnavailable, "the pool has too many allocations to be drawn here"}
	}
	switch format {
	case formatJSON:
		return a, a.encode(newPoolJSON(s, whole, pager))
	case formatSVG:
		return a, SVG(&a.body, s, options)
	case formatText:
		return a, a.poolText(s, whole, pager, options)
	default:
		return a, h.poolHTML(a, s, whole, pager, options)
	}
}

// read reads the pool of that name: all of it or, if there are too many allocations, its info.
func (h *handler) read(ctx context.Context, name string) (s pool.Snapshot, whole bool, err error) {
	p, err := h.source.Pool(ctx, name)
	if err != nil {
		return s, false, err
	}
	if s.Info, err = p.Info(ctx); err != nil {
		return s, false, err
	}
	whole, err = h.small(ctx, p, s.Stats)
	if err == nil && whole {
		s, err = p.Snapshot(ctx)
	}
	s.Name = name
	return s, whole, err
}

// small reports whether the pool has few enough allocations. Each has at least one address, so the count of addresses
// is an upper bound. If that bound is too large, small counts, but no further than it must.
func (h *handler) small(ctx context.Context, p *pool.Pool, stats pool.Stats) (bool, error) {
	most := uint64(h.options.MaxRecords)
	var held, withheld uint64
	for _, s := range stats {
		held += min(s.Used.Add(s.OutOfRange).Uint64(), most+1)
		withheld += min(s.Cooling.Uint64(), most+1)
	}
	if held+withheld <= most {
		return true, nil
	}
	n := withheld
	for _, err := range p.Allocations(ctx) {
		if n++; err != nil || n > most {
			return false, err
		}
	}
	return n <= most, nil
}

// rowsOf returns the allocations of the page, held and cooling ones in the order of their addresses.
func rowsOf(s *pool.Snapshot, pager pager) []listed {
	rows := make([]listed, 0, len(s.Allocations)+len(s.Cooling))
	for i := range s.Allocations {
		rows = append(rows, listed{&s.Allocations[i], stateHeld})
	}
	for i := range s.Cooling {
		rows = append(rows, listed{&s.Cooling[i], stateCooling})
	}
	slices.SortStableFunc(rows, func(a, b listed) int { return a.first().Compare(b.first()) })
	return rows[pager.from:pager.to]
}

type listed struct {
	*pool.Allocation
	state string
}

func (l listed) first() netip.Addr {
	if len(l.Prefixes) == 0 {
		return netip.Addr{}
	}
	return l.Prefixes[0].Addr()
}

func newPoolJSON(s pool.Snapshot, whole bool, pager pager) poolJSON {
	j := poolJSON{
		pager: pager, Name: s.Name, Spec: s.Spec, Created: s.Created, Revision: s.Revision,
		Withheld: formatRanges(s.Withheld), Stats: s.Stats, TooLarge: !whole, Allocations: []*jsonAllocation{},
	}
	if s.Parent.Pool != "" {
		j.Parent = &s.Parent
	}
	for _, l := range rowsOf(&s, pager) {
		j.Allocations = append(j.Allocations, newJSONAllocation(*l.Allocation, l.state))
	}
	return j
}

func (a *answer) poolText(s pool.Snapshot, whole bool, pager pager, options *Options) error {
	if !whole {
		a.indexText([]pool.Info{s.Info}, pager)
		fmt.Fprintln(&a.body, "\nThe pool has too many allocations to be drawn and listed here.")
		return nil
	}
	if err := Text(&a.body, s, options); err != nil {
		return err
	}
	fmt.Fprintln(&a.body)
	table := tabwriter.NewWriter(&a.body, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ADDRESSES\tOWNER\tSTATE\tSINCE\tENDS")
	for _, l := range rowsOf(&s, pager) {
		r := newRow(*l.Allocation, l.state, time.Time{})
		more := ""
		if r.MorePrefixes > 0 {
			more = fmt.Sprintf(" and %d more", r.MorePrefixes)
		}
		fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\t%s\n", strings.Join(r.Shown, " "), more, r.Owner, r.State, r.Created, r.Expires)
	}
	table.Flush() //nolint:errcheck // a Buffer takes everything
	a.pageText(pager)
	return nil
}

func (h *handler) poolHTML(a *answer, s pool.Snapshot, whole bool, pager pager, options *Options) error {
	p := poolPage{
		page:  newPage("Pool "+short(s.Name, shownLetters), "../", "", formatText, formatJSON, formatSVG),
		Stats: statsRows(s.Stats), Spec: specRows(s.Info), TooLarge: !whole, Pager: pager,
	}
	if pager.Page > 1 {
		p.page.Formats[1].Link = fmt.Sprintf("?page=%d&format=json", pager.Page)
	}
	if whole {
		var picture strings.Builder
		if err := SVG(&picture, s, options); err != nil {
			return err
		}
		p.Map = template.HTML(picture.String()) //nolint:gosec // which SVG has escaped
		for _, l := range rowsOf(&s, pager) {
			p.Rows = append(p.Rows, newRow(*l.Allocation, l.state, h.options.Clock()))
		}
	}
	return a.render("pool", p)
}

// specRows says what a pool is, in words.
func specRows(info pool.Info) []specRow {
	var rows []specRow
	add := func(name, value string) {
		if value != "" {
			rows = append(rows, specRow{name, value})
		}
	}
	spec := info.Spec
	add("Ranges", listRanges(spec.Ranges))
	for _, subnet := range spec.Subnets {
		value := subnet.Prefix.String()
		if subnet.Gateway.IsValid() {
			value += ", gateway " + subnet.Gateway.String()
		}
		add("Subnet", value)
	}
	add("Excluded", listRanges(spec.Exclude))
	add("Withheld", listRanges(info.Withheld))
	for _, band := range spec.Bands {
		value := short(band.Name, shownLetters) + ": " + listRanges(band.Ranges)
		if band.Exclusive {
			value += ", exclusive"
		}
		add("Band", value)
	}
	for _, family := range spec.AllFamilies() {
		if bits := spec.Bits(family); bits != family.Width() {
			add(fmt.Sprintf("%v prefixes", family), fmt.Sprintf("/%d", bits))
		}
	}
	add("Strategy", spec.Strategy.String())
	if spec.Cooldown > 0 {
		add("Cooldown", spec.Cooldown.String())
	}
	add("Network", short(spec.Network, shownLetters))
	add("Scope", short(spec.Scope, shownLetters))
	if parent := info.Parent; parent.Pool != "" {
		var owners []string
		for _, grant := range parent.Grants {
			owners = append(owners, grant.Owner)
		}
		held := short(strings.Join(owners, ", "), shownLetters)
		add("Carved from", fmt.Sprintf("%s, held there by %s", short(parent.Pool, shownLetters), held))
	}
	add("Created", formatTime(info.Created).String())
	add("Revision", fmt.Sprint(info.Revision))
	return rows
}

// listRanges writes ranges, but not too many.
func listRanges(ranges []netipx.IPRange) string {
	const most = 32
	text := strings.Join(formatRanges(ranges[:min(most, len(ranges))]), ", ")
	if len(ranges) > most {
		text += fmt.Sprintf(" and %d more", len(ranges)-most)
	}
	return text
}
