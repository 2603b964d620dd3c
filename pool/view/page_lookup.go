package view

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

type lookupPage struct {
	page
	Asked bool
	Found []finding
}

// finding is what one pool knows of an address.
type finding struct {
	Pool, Path string
	State      string // if nobody holds it
	Row        *row   // if somebody does
}

type lookupJSON struct {
	Address netip.Addr    `json:"address"`
	Pools   []findingJSON `json:"pools"`
}

type findingJSON struct {
	Pool       string          `json:"pool"`
	Path       string          `json:"path"`
	State      string          `json:"state"`
	Allocation *jsonAllocation `json:"allocation,omitempty"`
}

func (h *handler) lookup(r *http.Request) (*answer, error) {
	format, err := formatOf(r, formatHTML, formatText, formatJSON)
	if err != nil {
		return nil, err
	}
	text := r.URL.Query().Get("addr")
	if text == "" && format == formatHTML {
		a := &answer{format: format}
		return a, a.render("lookup", lookupPage{page: newPage("Look up an address", "", "")})
	}
	addr, err := parseAddr(text)
	if err != nil {
		return nil, err
	}
	done, err := h.turn(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	found, err := h.find(r, addr)
	if err != nil {
		return nil, err
	}
	return h.lookupAnswer(format, addr, found)
}

func parseAddr(text string) (netip.Addr, error) {
	const most = 64
	if len(text) > most {
		return netip.Addr{}, badRequest(fmt.Sprintf("the address is %d bytes long, the most is %d", len(text), most))
	}
	addr, err := cidr.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, badRequest(fmt.Sprintf("%q is no address: %v", cut(text), err))
	}
	return addr, nil
}

// found is what one pool knows of an address; the allocation is nil if nobody holds it.
type found struct {
	pool       string
	state      string
	allocation *pool.Allocation
}

// find asks the pools that can have the address, in the order of their names.
func (h *handler) find(r *http.Request, addr netip.Addr) ([]found, error) {
	infos, _, err := h.infos(r)
	if err != nil {
		return nil, err
	}
	var all []found
	for _, info := range infos {
		state, n := stateOf(info, addr), info.Renumbering
		moves := n.From.Contains(addr) || n.To.Contains(addr)
		if state == outside && !moves && info.StatsOf(pool.FamilyOf(addr)).OutOfRange.IsZero() {
			continue
		}
		holders, err := h.holders(r.Context(), info.Name, addr)
		for i := range holders {
			all = append(all, found{info.Name, stateHeld, &holders[i]})
		}
		switch {
		case err == nil:
		case errors.Is(err, pool.ErrNoPool): // deleted meanwhile
		case !errors.Is(err, pool.ErrNotFound):
			return nil, err
		case state == free:
			all = append(all, found{info.Name, "free, cooling or kept", nil})
		case state != outside:
			all = append(all, found{info.Name, looks[state].name, nil})
		}
	}
	return all, nil
}

func (h *handler) holders(ctx context.Context, name string, addr netip.Addr) ([]pool.Allocation, error) {
	p, err := h.source.Pool(ctx, name)
	if err != nil {
		return nil, err
	}
	return p.Holders(ctx, addr)
}

// stateOf tells what the address is to the pool if nobody holds it.
func stateOf(info pool.Info, addr netip.Addr) class {
	sets := groundSets(info, pool.FamilyOf(addr))
	one := cidr.SetOf(netipx.IPRangeFrom(addr, addr))
	for c, set := range sets {
		if cidr.Overlaps(set, one) {
			return class(c)
		}
	}
	return outside
}

func (h *handler) lookupAnswer(format format, addr netip.Addr, all []found) (*answer, error) {
	a := &answer{format: format}
	switch format {
	case formatJSON:
		j := lookupJSON{addr, []findingJSON{}}
		for _, f := range all {
			next := findingJSON{Pool: f.pool, Path: pathOf(f.pool), State: f.state}
			if f.allocation != nil {
				next.Allocation = newJSONAllocation(*f.allocation, f.state)
			}
			j.Pools = append(j.Pools, next)
		}
		return a, a.encode(j)
	case formatText:
		a.lookupText(addr, all)
		return a, nil
	}
	p := lookupPage{
		page:  newPage("Who has "+addr.String(), "", "addr="+addr.String()+"&", formatText, formatJSON),
		Asked: true,
	}
	p.Address = addr.String()
	for _, f := range all {
		next := finding{Pool: short(f.pool, shownLetters), Path: pathOf(f.pool), State: f.state}
		if f.allocation != nil {
			next.Row = newRow(*f.allocation, f.state, h.options.Clock())
		}
		p.Found = append(p.Found, next)
	}
	return a, a.render("lookup", p)
}

func (a *answer) lookupText(addr netip.Addr, all []found) {
	if len(all) == 0 {
		fmt.Fprintf(&a.body, "no pool has %v\n", addr)
	}
	for _, f := range all {
		name := short(f.pool, shownLetters)
		if f.allocation == nil {
			fmt.Fprintf(&a.body, "%v in pool %s: %s\n", addr, name, f.state)
			continue
		}
		fmt.Fprintf(&a.body, "%v in pool %s: held by %s, %v", addr, name,
			short(f.allocation.Owner, shownLetters), f.allocation.Prefixes)
		if len(f.allocation.Beside) > 0 {
			fmt.Fprintf(&a.body, " beside %v", f.allocation.Beside)
		}
		fmt.Fprintln(&a.body)
	}
}
