package view

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

//go:embed style.css
var pageStyle string

//go:embed pages.html
var pageSource string

var pages = template.Must(template.New("pages").Parse(pageSource))

// page is what every page has.
type page struct {
	Title   string
	Up      string // the way to the index, as the beginning of links
	Address string
	Style   template.CSS
	Formats []formatLink
}

type formatLink struct{ Name, Link string }

// newPage returns a page with links to itself in other formats. The query is that of the page, without its format.
func newPage(title, up, query string, formats ...format) page {
	p := page{Title: title, Up: up, Style: template.CSS(pageStyle)} //nolint:gosec // our own
	for _, f := range formats {
		p.Formats = append(p.Formats, formatLink{strings.ToUpper(string(f)), "?" + query + "format=" + string(f)})
	}
	return p
}

// render fills the answer with the page of that name.
func (a *answer) render(name string, data any) error {
	return pages.ExecuteTemplate(&a.body, name, data)
}

// encode fills the answer with JSON.
func (a *answer) encode(value any) error {
	encoder := json.NewEncoder(&a.body)
	encoder.SetIndent("", "  ")
	return encoder.Encode(value)
}

// pager says which page of several it is.
type pager struct {
	Page  int `json:"page"`
	Pages int `json:"pages"`

	from, to int // of the rows
}

// Previous is the page before, or 0.
func (p pager) Previous() int { return p.Page - 1 }

// Next is the page after, or 0.
func (p pager) Next() int {
	if p.Page == p.Pages {
		return 0
	}
	return p.Page + 1
}

// newPager finds the page of so many items that the request is for.
func newPager(r *http.Request, items, rows int) (pager, error) {
	p := pager{Page: 1, Pages: max(1, (items+rows-1)/rows)}
	if text := r.URL.Query().Get("page"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return p, badRequest(fmt.Sprintf("the page %q is not a number from 1 on", cut(text)))
		}
		if n > p.Pages {
			return p, &requestError{http.StatusNotFound, fmt.Sprintf("there is no page %d, the last is %d", n, p.Pages)}
		}
		p.Page = n
	}
	p.from = (p.Page - 1) * rows
	p.to = min(items, p.from+rows)
	return p, nil
}

// statsRow are the counts of a family for people.
type statsRow struct {
	Family                                                 pool.Family
	Used, Free, Cooling, Kept, Reserved, OutOfRange, Total string
	Percent                                                string  // of what can be handed out, how much is not free
	Part                                                   float64 // the same as a number
}

func statsRows(stats []pool.Stats) []statsRow {
	rows := make([]statsRow, len(stats))
	for i, s := range stats {
		inUse := number(s.Used) + number(s.Cooling) + number(s.Kept)
		percent := 0.0
		if all := inUse + number(s.Free); all > 0 {
			percent = 100 * inUse / all
		}
		rows[i] = statsRow{
			s.Family, formatCount(s.Used), formatCount(s.Free), formatCount(s.Cooling),
			formatCount(s.Kept), formatCount(s.Reserved), formatCount(s.OutOfRange),
			formatCount(s.Total), formatPercent(percent), percent,
		}
	}
	return rows
}

// formatPercent never rounds to nothing what is something, nor to all what is not.
func formatPercent(percent float64) string {
	switch {
	case percent > 0 && percent < 0.1:
		return "<0.1%"
	case percent > 99.9 && percent < 100:
		return ">99.9%"
	default:
		return strings.TrimSuffix(strconv.FormatFloat(percent, 'f', 1, 64), ".0") + "%"
	}
}

func number(c cidr.Count) float64 {
	f, _ := strconv.ParseFloat(c.String(), 64) // which it always is
	return f
}

// row is an allocation for people.
type row struct {
	Owner, State, Scope, Child, ChildPath string
	Shown, Beside                         []string
	MorePrefixes                          int
	Created, Expires                      when
	Left                                  string
	Labels                                []string
}

const (
	shownPrefixes = 8
	shownLabels   = 16
	shownLetters  = 256 // of a name; JSON has all of it
)

func newRow(a pool.Allocation, state string, now time.Time) *row {
	r := &row{
		Owner: short(a.Owner, shownLetters), State: state, Scope: short(a.Scope, shownLetters),
		Child: short(a.Child, shownLetters), ChildPath: segmentOf(a.Child),
		Created: formatTime(a.Created), Expires: formatTime(a.Expires),
	}
	for _, p := range a.Prefixes[:min(shownPrefixes, len(a.Prefixes))] {
		r.Shown = append(r.Shown, cidr.FormatRange(netipx.RangeOfPrefix(p)))
	}
	r.MorePrefixes = len(a.Prefixes) - len(r.Shown)
	for _, p := range a.Beside[:min(shownPrefixes, len(a.Beside))] {
		r.Beside = append(r.Beside, cidr.FormatRange(netipx.RangeOfPrefix(p)))
	}
	if !a.Expires.IsZero() {
		r.Left = left(a.Expires, now)
	}
	for name, value := range a.Labels {
		r.Labels = append(r.Labels, short(name, shownLetters)+"="+short(value, shownLetters))
	}
	slices.Sort(r.Labels)
	r.Labels = r.Labels[:min(shownLabels, len(r.Labels))]
	return r
}

// when is a time for people: a date and a time of the day in UTC, both empty for none.
type when struct{ Date, Time string }

func formatTime(t time.Time) when {
	if t.IsZero() {
		return when{}
	}
	t = t.UTC()
	return when{t.Format(time.DateOnly), t.Format("15:04:05Z")}
}

func (w when) String() string { return strings.TrimSpace(w.Date + " " + w.Time) }

// left returns how long it is until expires, or since then. A lease that has ended is still held
// until somebody needs its addresses.
func left(expires, now time.Time) string {
	if d := expires.Sub(now).Round(time.Second); now.Before(expires) {
		return "in " + d.String()
	}
	return "ended " + now.Sub(expires).Round(time.Second).String() + " ago"
}

// jsonAllocation is an allocation for programs, with the names that [pool.Snapshot] has for it.
type jsonAllocation struct {
	Owner      string            `json:"owner"`
	State      string            `json:"state"`
	Prefixes   []netip.Prefix    `json:"prefixes"`
	Beside     []netip.Prefix    `json:"beside,omitempty"`
	Generation int64             `json:"generation,omitempty"`
	Created    time.Time         `json:"created,omitzero"`
	Expires    time.Time         `json:"expires,omitzero"`
	Scope      string            `json:"scope,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
}

func newJSONAllocation(a pool.Allocation, state string) *jsonAllocation {
	return &jsonAllocation{
		a.Owner, state, a.Prefixes, a.Beside, a.Generation, a.Created, a.Expires, a.Scope, a.Labels, a.Child,
	}
}

const (
	stateHeld     = "allocated"
	stateCooling  = "cooling"
	stateReserved = "reserved"
)
