package command

import (
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/pool"
)

// holding is an allocation as the commands print it. Its members are those of an exported pool, and the pool's name.
type holding struct {
	Pool       string            `json:"pool"`
	Owner      string            `json:"owner"`
	Prefixes   []netip.Prefix    `json:"prefixes"`
	Beside     []netip.Prefix    `json:"beside,omitempty"`
	State      string            `json:"state"`
	Reserved   bool              `json:"reserved,omitempty"`
	Generation int64             `json:"generation"`
	Created    time.Time         `json:"created"`
	Expires    time.Time         `json:"expires,omitzero"`
	Scope      string            `json:"scope,omitempty"`
	Share      string            `json:"share,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
	Child      string            `json:"child,omitempty"`
}

func holdingOf(poolName string, a pool.Allocation) holding {
	h := holding{
		Pool: poolName, Owner: a.Owner, Prefixes: a.Prefixes, Beside: a.Beside, State: "allocated",
		Reserved: a.Reserved, Generation: a.Generation, Created: a.Created, Expires: a.Expires, Scope: a.Scope,
		Share:  a.Share,
		Labels: a.Labels, Child: a.Child,
	}
	if a.Kept {
		h.State = "reserved"
	}
	return h
}

func holdingsOf(poolName string, all []pool.Allocation) []holding {
	holdings := make([]holding, 0, len(all))
	for _, a := range all {
		holdings = append(holdings, holdingOf(poolName, a))
	}
	return holdings
}

// holdingTable is one row for each holding. It has a column with the share keys if there are any.
func holdingTable(holdings []holding) table {
	t := table{columns: []string{
		"pool", "owner", "prefixes", "state", "generation", "created", "expires", "scope", "labels", "child",
	}}
	var shares []string
	for _, h := range holdings {
		t.add(h.Pool, h.Owner, heldText(h.Prefixes, h.Beside), h.State, strconv.FormatInt(h.Generation, 10),
			timeText(h.Created), timeText(h.Expires), h.Scope, labelText(h.Labels), h.Child)
		shares = append(shares, h.Share)
	}
	t.addShares(shares)
	return t
}

// printHolding prints one holding, which is no list in JSON.
func (a *app) printHolding(h holding) error { return a.print(h, holdingTable([]holding{h})) }

func (a *app) printHoldings(holdings []holding) error {
	return a.print(holdings, holdingTable(holdings))
}

// heldText is what is held, and what is held beside it while the pool is renumbered.
func heldText(prefixes, beside []netip.Prefix) string {
	text := prefixText(prefixes)
	if len(beside) > 0 {
		text += " beside " + prefixText(beside)
	}
	return text
}

// prefixText is prefixes for people: a single address without its length.
func prefixText(prefixes []netip.Prefix) string {
	texts := make([]string, 0, len(prefixes))
	for _, p := range prefixes {
		text := p.String()
		if p.IsSingleIP() {
			text = p.Addr().String()
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ",")
}
