package config

import "net/netip"

// Route is a route of a CNI configuration, which a CNI plugin returns in its result as it is.
//
// It marshals to the JSON that CNI uses. The zero Route is not valid. It may be copied; the copy shares Table and
// Scope.
type Route struct {
	// Destination is as written; it may have host bits.
	Destination netip.Prefix `json:"dst"`
	// Gateway is the next hop; the zero Addr if there is none.
	Gateway netip.Addr `json:"gw,omitzero"`
	// MTU, AdvMSS and Priority are the route's, the first two in bytes; 0 if there is none.
	MTU      int `json:"mtu,omitempty"`
	AdvMSS   int `json:"advmss,omitempty"`
	Priority int `json:"priority,omitempty"`
	// Table and Scope are numbers of the system's; nil if there is none.
	Table *int `json:"table,omitempty"`
	Scope *int `json:"scope,omitempty"`
}

// DNS is what a CNI configuration says of name resolution, which a CNI plugin returns in its result as it is. No part
// of it is checked.
//
// It marshals to the JSON that CNI uses. The zero DNS says nothing. It may be copied; the copy shares its slices.
type DNS struct {
	Nameservers []string `json:"nameservers,omitempty"`
	Domain      string   `json:"domain,omitempty"`
	Search      []string `json:"search,omitempty"`
	Options     []string `json:"options,omitempty"`
}
