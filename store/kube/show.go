package kube

import (
	"encoding/json"
	"net/netip"
	"strings"
)

// showJSON is what an object shows in printer columns and has in no other form that a column can show. It is only for
// people.
type showJSON struct {
	State     string `json:"state,omitempty"`
	Addresses string `json:"addresses,omitempty"`
	Families  string `json:"families,omitempty"`
	Total     string `json:"total,omitempty"`
	Reserved  string `json:"reserved,omitempty"`
	Used      string `json:"used,omitempty"`
	Cooling   string `json:"cooling,omitempty"`
	Free      string `json:"free,omitempty"`
}

// show returns what there is to show of o: while a commit is about to write it, or has and has not settled it yet, what
// it is about to be; of what is about to go, what it was. It returns nil if there is nothing to show.
func (o *object) show() *showJSON {
	show, r := &showJSON{}, o.value
	switch {
	case r != nil:
		show.State = r.State
	case o.turn != "":
		show.State = "waiting"
	case o.isRoll():
		show.State = "settling"
	case o.pending != nil && o.resource == resourceAllocations:
		show.State, r = "being released", o.pending.before
	case o.pending != nil:
		show.State, r = "being deleted", o.pending.before
	case len(o.log) > 0:
		show.State = "deleted"
	default:
		show.State = "being made"
	}
	if r == nil {
		return show
	}
	if o.resource == resourcePools {
		show.addSpaces(r.Data)
	}
	for _, p := range r.Prefixes {
		join(&show.Addresses, prefixText(p))
	}
	if *show == (showJSON{}) {
		return nil
	}
	return show
}

// addSpaces adds what data, the head of a pool as package pool writes it, says of the pool's space; nothing if it is
// something else.
func (s *showJSON) addSpaces(data json.RawMessage) {
	var head struct {
		Spaces []struct {
			Family, Total, Reserved, Used, Cooling, Free json.RawMessage
		}
	}
	if len(data) == 0 || json.Unmarshal(data, &head) != nil {
		return
	}
	for _, space := range head.Spaces {
		join(&s.Families, scalar(space.Family))
		join(&s.Total, scalar(space.Total))
		join(&s.Reserved, scalar(space.Reserved))
		join(&s.Used, scalar(space.Used))
		join(&s.Cooling, scalar(space.Cooling))
		join(&s.Free, scalar(space.Free))
	}
}

// prefixText returns a single address without its length.
func prefixText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

// maxShown bounds what a column shows, in bytes.
const maxShown = 1000

func join(to *string, text string) {
	switch {
	case *to == "":
		*to = text
	case len(*to)+len(text) < maxShown:
		*to = strings.Join([]string{*to, text}, ",")
	}
}

// maxScalar is the longest count shown, in bytes: 2^128 has 39 digits.
const maxScalar = 40

// scalar returns a JSON number or string as text, "0" if there is none; "?" if it is something else, or long.
func scalar(value json.RawMessage) string {
	if len(value) == 0 {
		return "0"
	}
	var text string
	if json.Unmarshal(value, &text) != nil {
		var number json.Number
		if json.Unmarshal(value, &number) != nil {
			return "?"
		}
		text = number.String()
	}
	if len(text) > maxScalar {
		return "?"
	}
	return text
}
