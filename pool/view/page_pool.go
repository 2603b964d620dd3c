package view

import (
	"cmp"
	"fmt"
	"html/template"
	"maps"
	"net/http"
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
	Parent      *jsonParent       `json:"parent,omitempty"`
	Withheld    []string          `json:"withheld,omitempty"`
	Stats       []pool.Stats      `json:"stats"`
	TooLarge    bool              `json:"tooLarge,omitempty"`
	Allocations []*jsonAllocation `json:"allocations"`
}

// jsonParent is where a pool was delegated from.
type jsonParent struct {
	Pool   string       `json:"pool"`
	Grants []pool.Grant `json:"grants"`
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
	a := &answer{format: format}
	read := h.newReading(r, format)
	if err := read.pool(r.Context(), h.source, name); err != nil {
		return nil, err
	}
	pager, err := newPager(r, read.n, h.options.Rows)
	if err != nil {
		return nil, err
	}
	if read.tooLarge && format == formatSVG {
		return nil, &requestError{http.StatusServiceUnavailable, "the pool has too many allocations to be drawn here"}
	}
	switch format {
	case formatJSON:
		return a, a.encode(newPoolJSON(read, pager))
	case formatSVG:
		return a, drawSVG(&a.body, read.picture)
	case formatText:
		return a, a.poolText(read, pager)
	default:
		return a, h.poolHTML(a, read, pager)
	}
}

func newPoolJSON(read *reading, pager pager) poolJSON {
	s := read.info
	j := poolJSON{
		pager: pager, Name: s.Name, Spec: s.Spec, Created: s.Created, Revision: s.Revision,
		Withheld: formatRanges(s.Withheld), Stats: s.Stats, TooLarge: read.tooLarge, Allocations: []*jsonAllocation{},
	}
	if s.Parent != "" {
		j.Parent = &jsonParent{s.Parent, s.Grants}
	}
	for _, l := range read.rows(pager) {
		j.Allocations = append(j.Allocations, newJSONAllocation(l.Allocation, l.state()))
	}
	return j
}

func (a *answer) poolText(read *reading, pager pager) error {
	if read.tooLarge {
		a.indexText([]pool.Info{read.info}, pager)
		fmt.Fprintln(&a.body, "\nThe pool has too many allocations to be drawn and listed here.")
		return nil
	}
	if err := drawText(&a.body, read.picture, read.options); err != nil {
		return err
	}
	fmt.Fprintln(&a.body)
	table := tabwriter.NewWriter(&a.body, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ADDRESSES\tOWNER\tSTATE\tSINCE\tENDS")
	for _, l := range read.rows(pager) {
		r := newRow(l.Allocation, l.state(), time.Time{})
		more := ""
		if r.MorePrefixes > 0 {
			more = fmt.Sprintf(" and %d more", r.MorePrefixes)
		}
		if len(r.Beside) > 0 {
			more += " beside " + strings.Join(r.Beside, " ")
		}
		fmt.Fprintf(table, "%s%s\t%s\t%s\t%s\t%s\n", strings.Join(r.Shown, " "), more, r.Owner, r.State, r.Created, r.Expires)
	}
	table.Flush() //nolint:errcheck // a Buffer takes everything
	a.pageText(pager)
	return nil
}

func (h *handler) poolHTML(a *answer, read *reading, pager pager) error {
	s := read.info
	p := poolPage{
		page:  newPage("Pool "+short(s.Name, shownLetters), "../", "", formatText, formatJSON, formatSVG),
		Stats: statsRows(s.Stats), Spec: specRows(s), TooLarge: read.tooLarge, Pager: pager,
	}
	if pager.Page > 1 {
		p.page.Formats[1].Link = fmt.Sprintf("?page=%d&format=json", pager.Page)
	}
	if !read.tooLarge {
		var picture strings.Builder
		if err := drawSVG(&picture, read.picture); err != nil {
			return err
		}
		p.Map = template.HTML(picture.String()) //nolint:gosec // which SVG has escaped
		for _, l := range read.rows(pager) {
			p.Rows = append(p.Rows, newRow(l.Allocation, l.state(), h.options.Clock()))
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
	add("Strategy", cmp.Or(string(spec.Strategy), "lowest"))
	if spec.Cooldown > 0 {
		add("Cooldown", spec.Cooldown.String())
	}
	if n := info.Renumbering; n != (pool.Renumbering{}) {
		add("Renumbered", fmt.Sprintf("from %v to %v", n.From, n.To))
	}
	add("Network", short(spec.Network, shownLetters))
	add("Scope", short(spec.Scope, shownLetters))
	for _, name := range slices.Sorted(maps.Keys(spec.Labels)) {
		add("Label", short(name+": "+spec.Labels[name], shownLetters))
	}
	if spec.Cordoned {
		add("Cordoned", "closed for new claims")
	}
	if info.Parent != "" {
		var owners []string
		for _, grant := range info.Grants {
			owners = append(owners, grant.Owner)
		}
		held := short(strings.Join(owners, ", "), shownLetters)
		add("Delegated from", fmt.Sprintf("%s, held there by %s", short(info.Parent, shownLetters), held))
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
