package kube

import (
	"encoding/json"
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// showJSON is what an object shows in printer columns and has in no other form that a column can show. It is only for
// people.
type showJSON struct {
	Addresses string `json:"addresses,omitempty"`
	Families  string `json:"families,omitempty"`
	Total     string `json:"total,omitempty"`
	Reserved  string `json:"reserved,omitempty"`
	Used      string `json:"used,omitempty"`
	Cooling   string `json:"cooling,omitempty"`
	Free      string `json:"free,omitempty"`
}

// showOf returns what there is to show of r; nil if nothing.
func showOf(resource string, r *store.Record) *showJSON {
	if r == nil {
		return nil
	}
	show := &showJSON{}
	if resource == resourcePools {
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
