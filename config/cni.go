package config

import "net/netip"

// Route is a route of a CNI configuration, which a CNI plugin returns unchanged in its result.
//
// It marshals to the JSON that CNI uses. The zero Route is not valid. It may be copied; the copy shares Table and
// Scope.
type Route struct {
	// Destination is as written; it may have host bits.
	Destination netip.Prefix `json:"dst"`
	// Gateway is the next hop; the zero Addr if there is none.
	Gateway netip.Addr `json:"gw,omitzero"`
	// MTU and AdvMSS, in bytes, and Priority are those of the route; 0 if not set.
	MTU      int `json:"mtu,omitempty"`
	AdvMSS   int `json:"advmss,omitempty"`
	Priority int `json:"priority,omitempty"`
	// Table and Scope are numbers that the operating system defines; nil if not set.
	Table *int `json:"table,omitempty"`
	Scope *int `json:"scope,omitempty"`
}

// DNS is the name resolution of a CNI configuration, which a CNI plugin returns unchanged in its result. It is not
// checked.
//
// It marshals to the JSON that CNI uses. The zero DNS is empty. A DNS may be copied; the copy shares its slices.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}
