package cidr

import "go4.org/netipx"

// FormatRange returns r as text: "a" for a single address, "a/len" for a range that is exactly one prefix, "a-b" for
// any other, and "" for an invalid range. IPv6 addresses are written as RFC 5952 recommends. [ParseRange] parses the
// text as the same range, unless a bound is an IPv4-mapped IPv6 address, which has no accepted text. Cost: O(1).
func FormatRange(r netipx.IPRange) string {
	if !r.IsValid() {
		return ""
	}
	if r.From() == r.To() {
		return r.From().String()
	}
	if p, ok := r.Prefix(); ok {
		return p.String()
	}
	return r.String()
}

// FormatSet returns the ranges of s in order, each formatted by [FormatRange]. It uses the fewest ranges possible, so
// equal sets have equal texts. The result is nil for an empty or nil set. [ParseSet] parses the texts as the same set,
// with the exception described at FormatRange. Cost: O(n) for n ranges.
func FormatSet(s *netipx.IPSet) []string {
	var texts []string
	for _, r := range rangesOf(s) {
		texts = append(texts, FormatRange(r))
	}
	return texts
}
