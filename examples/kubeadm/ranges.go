package main

import (
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
)

// subnetText is the subnets of a family in a pool, or its ranges if it has no subnets.
func subnetText(spec pool.Spec, family pool.Family) string {
	prefixes := make([]netip.Prefix, len(spec.Subnets))
	for i, subnet := range spec.Subnets {
		prefixes[i] = subnet.Prefix
	}
	if text := rangeText(rangesOf(prefixes), family); text != "" {
		return text
	}
	return rangeText(spec.Ranges, family)
}

// rangeText is the ranges of a family, with commas in between.
func rangeText(ranges []netipx.IPRange, family pool.Family) string {
	var texts []string
	for _, r := range ranges {
		if pool.FamilyOf(r.From()) == family {
			texts = append(texts, cidr.FormatRange(r))
		}
	}
	return strings.Join(texts, ",")
}

func rangesOf(prefixes []netip.Prefix) []netipx.IPRange {
	ranges := make([]netipx.IPRange, len(prefixes))
	for i, p := range prefixes {
		ranges[i] = netipx.RangeOfPrefix(p)
	}
	return ranges
}
