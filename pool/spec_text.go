package pool

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// specText is the JSON form of a Spec.
type specText struct {
	Ranges   []string          `json:"ranges,omitempty"`
	Families []Family          `json:"families,omitempty"`
	Exclude  []string          `json:"exclude,omitempty"`
	Subnets  []subnetText      `json:"subnets,omitempty"`
	IPv4     familyText        `json:"ipv4,omitzero"`
	IPv6     familyText        `json:"ipv6,omitzero"`
	Strategy Strategy          `json:"strategy,omitempty"`
	Bands    []bandText        `json:"bands,omitempty"`
	Cooldown string            `json:"cooldown,omitempty"`
	History  string            `json:"history,omitempty"`
	Most     int               `json:"historyMost,omitempty"`
	Network  string            `json:"network,omitempty"`
	Scope    string            `json:"scope,omitempty"`
	Quotas   []quotaText       `json:"quotas,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Cordoned bool              `json:"cordoned,omitempty"`
}

type quotaText struct {
	Label     string     `json:"label,omitempty"`
	Value     string     `json:"value,omitempty"`
	Family    Family     `json:"family,omitempty"`
	Addresses cidr.Count `json:"addresses,omitzero"`
	Percent   int        `json:"percent,omitempty"`
}

type familyText struct {
	Bits             int  `json:"bits,omitempty"`
	MinBits          int  `json:"minBits,omitempty"`
	MaxBits          int  `json:"maxBits,omitempty"`
	AllocateReserved bool `json:"allocateReserved,omitempty"`
}

type bandText struct {
	Name      string   `json:"name"`
	Ranges    []string `json:"ranges"`
	Exclusive bool     `json:"exclusive,omitempty"`
}

type subnetText struct {
	Prefix  netip.Prefix `json:"prefix"`
	Gateway *netip.Addr  `json:"gateway,omitempty"`
}

// MarshalJSON writes the spec with its ranges as text, in the forms that package cidr parses:
//
//	{"ranges": ["192.0.2.0/24"], "families": ["IPv4", "IPv6"], "exclude": ["192.0.2.9"],
//	 "subnets": [{"prefix": "192.0.2.0/24", "gateway": "192.0.2.1"}],
//	 "ipv4": {"bits": 32, "minBits": 24, "maxBits": 32, "allocateReserved": true}, "ipv6": {"bits": 64},
//	 "strategy": "next",
//	 "bands": [{"name": "static", "ranges": ["192.0.2.1-192.0.2.16"], "exclusive": true}],
//	 "cooldown": "1m0s", "history": "8760h0m0s", "historyMost": 10000, "network": "blue", "scope": "team-a",
//	 "quotas": [{"label": "tenant", "value": "acme", "family": "IPv4", "addresses": "100"}, {"percent": 20}],
//	 "labels": {"zone": "eu-1"}, "cordoned": true}
//
// Fields with their default value are left out.
func (s Spec) MarshalJSON() ([]byte, error) {
	text := specText{
		Ranges: formatRanges(s.Ranges), Families: s.Families, Exclude: formatRanges(s.Exclude),
		IPv4: familyText(s.IPv4), IPv6: familyText(s.IPv6), Strategy: s.Strategy.canonical(),
		Network: s.Network, Scope: s.Scope,
		Labels: s.Labels, Cordoned: s.Cordoned,
	}
	for _, q := range s.Quotas {
		text.Quotas = append(text.Quotas, quotaText(q))
	}
	for _, band := range s.Bands {
		text.Bands = append(text.Bands, bandText{band.Name, formatRanges(band.Ranges), band.Exclusive})
	}
	if s.Cooldown != 0 {
		text.Cooldown = s.Cooldown.Truncate(time.Microsecond).String()
	}
	if s.History != 0 {
		text.History, text.Most = s.History.Truncate(time.Microsecond).String(), s.HistoryMost
	}
	for _, subnet := range s.Subnets {
		t := subnetText{Prefix: subnet.Prefix}
		if subnet.Gateway.IsValid() {
			t.Gateway = &subnet.Gateway
		}
		text.Subnets = append(text.Subnets, t)
	}
	return json.Marshal(text)
}

// UnmarshalJSON reads what [Spec.MarshalJSON] writes. Unknown members, member names that differ in case, duplicate
// members and text that is not UTF-8 are errors. UnmarshalJSON checks the form but not the rules; see [Spec.Validate].
func (s *Spec) UnmarshalJSON(b []byte) error {
	var text specText
	if err := unmarshalStrict(b, &text); err != nil {
		return fmt.Errorf("the pool's spec: %w", err)
	}
	spec := Spec{
		Families: text.Families, IPv4: FamilySpec(text.IPv4), IPv6: FamilySpec(text.IPv6),
		Strategy: text.Strategy.canonical(), Network: text.Network, Scope: text.Scope, Labels: text.Labels,
		Cordoned: text.Cordoned,
	}
	if err := spec.Strategy.validate(); err != nil {
		return err
	}
	var err error
	if spec.Ranges, err = parseRanges(text.Ranges); err != nil {
		return err
	}
	if spec.Exclude, err = parseRanges(text.Exclude); err != nil {
		return err
	}
	for _, q := range text.Quotas {
		spec.Quotas = append(spec.Quotas, Quota(q))
	}
	for _, t := range text.Bands {
		band := Band{Name: t.Name, Exclusive: t.Exclusive}
		if band.Ranges, err = parseRanges(t.Ranges); err != nil {
			return err
		}
		spec.Bands = append(spec.Bands, band)
	}
	spec.HistoryMost = text.Most
	if text.History != "" {
		if spec.History, err = time.ParseDuration(text.History); err != nil {
			return errorf("the pool's spec: the history %q is no duration, such as \"8760h\"", text.History)
		}
	}
	if text.Cooldown != "" {
		if spec.Cooldown, err = time.ParseDuration(text.Cooldown); err != nil {
			return errorf("the pool's spec: the cooldown %q is no duration, such as \"1m30s\"", text.Cooldown)
		}
	}
	for _, t := range text.Subnets {
		subnet := Subnet{Prefix: t.Prefix}
		if t.Gateway != nil {
			if subnet.Gateway = *t.Gateway; !subnet.Gateway.IsValid() {
				return fmt.Errorf("the pool's spec: the gateway of the subnet %v is empty; leave it out for none", t.Prefix)
			}
		}
		spec.Subnets = append(spec.Subnets, subnet)
	}
	*s = spec
	return nil
}

func formatRanges(ranges []netipx.IPRange) []string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, cidr.FormatRange(r))
	}
	return texts
}

// parseRanges returns nil for no texts, as it was written.
func parseRanges(texts []string) ([]netipx.IPRange, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	return cidr.ParseRanges(texts...)
}
