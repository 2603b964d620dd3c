package view

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// maxPools is how many pools the index and a lookup take note of.
const maxPools = 10_000

// infos reads what the pools are, in the order of their names, and tells whether there are more.
func (h *handler) infos(r *http.Request) (infos []pool.Info, more bool, err error) {
	for info, err := range h.source.Infos(r.Context()) {
		if err == nil {
			err = r.Context().Err()
		}
		if err != nil {
			return nil, false, err
		}
		if len(infos) == maxPools {
			more = true
			break
		}
		infos = append(infos, info)
	}
	slices.SortStableFunc(infos, func(a, b pool.Info) int { return cmp.Compare(a.Name, b.Name) })
	return infos, more, nil
}

type indexPage struct {
	page
	Pools []indexRow
	Pager pager
	More  bool
}

type indexRow struct {
	Shown, Path, Network string
	Stats                []statsRow
}

type indexJSON struct {
	pager
	More  bool            `json:"more,omitempty"`
	Pools []indexJSONPool `json:"pools"`
}

type indexJSONPool struct {
	Name     string       `json:"name"`
	Path     string       `json:"path"`
	Created  time.Time    `json:"created,omitzero"`
	Revision int64        `json:"revision"`
	Network  string       `json:"network,omitempty"`
	Scope    string       `json:"scope,omitempty"`
	Stats    []pool.Stats `json:"stats"`
}

func pathOf(name string) string { return "pool/" + segmentOf(name) }

func (h *handler) index(r *http.Request) (*answer, error) {
	format, err := formatOf(r, formatHTML, formatText, formatJSON)
	if err != nil {
		return nil, err
	}
	infos, more, err := h.infos(r)
	if err != nil {
		return nil, err
	}
	pager, err := newPager(r, len(infos), h.options.Rows)
	if err != nil {
		return nil, err
	}
	infos = infos[pager.from:pager.to]
	a := &answer{format: format}
	switch format {
	case formatJSON:
		list := indexJSON{pager, more, []indexJSONPool{}}
		for _, info := range infos {
			list.Pools = append(list.Pools, indexJSONPool{
				info.Name, pathOf(info.Name), info.Created, info.Revision, info.Spec.Network, info.Spec.Scope, info.Stats,
			})
		}
		return a, a.encode(list)
	case formatText:
		a.indexText(infos, pager)
		return a, nil
	}
	p := indexPage{page: newPage("Pools", "", "", formatText, formatJSON), Pager: pager, More: more}
	for _, info := range infos {
		p.Pools = append(p.Pools, indexRow{
			short(info.Name, shownLetters), pathOf(info.Name), short(info.Spec.Network, shownLetters), statsRows(info.Stats),
		})
	}
	return a, a.render("index", p)
}

func (a *answer) indexText(infos []pool.Info, pager pager) {
	table := tabwriter.NewWriter(&a.body, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "POOL\tFAMILY\tTAKEN\tFREE\tCOOLING\tKEPT\tRESERVED\tOUT OF RANGE\tTOTAL")
	for _, info := range infos {
		for _, s := range info.Stats {
			fmt.Fprintf(table, "%s\t%v\t%v\t%v\t%v\t%v\t%v\t%v\t%v\n", short(info.Name, shownLetters),
				s.Family, s.Used, s.Free, s.Cooling, s.Kept, s.Reserved, s.OutOfRange, s.Total)
		}
	}
	table.Flush() //nolint:errcheck // a Buffer takes everything
	a.pageText(pager)
}

func (a *answer) pageText(pager pager) {
	if pager.Pages > 1 {
		fmt.Fprintf(&a.body, "\npage %d of %d\n", pager.Page, pager.Pages)
	}
}
