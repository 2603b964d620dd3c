package cidr

import "go4.org/netipx"

// FormatRange returns the text of r in the shortest form: "a" for one address, "a/len" for what is exactly
// one prefix, and else "a-b"; "" for an invalid range. IPv6 is written by RFC 5952. [ParseRange] reads the
// text as the same range, but for one kind that has no accepted text: ranges of values with an
// IPv4-mapped bound, which it refuses. Cost: O(1).
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

// FormatSet returns the text of the ranges of s as [FormatRange] writes them, in order: the fewest ranges,
// so equal sets have equal texts; nil for an empty or nil set. [ParseSet] reads them as the same set, with
// the exception that FormatRange has. Cost: O(n) for n ranges.
func FormatSet(s *netipx.IPSet) []string {
	var texts []string
	for _, r := range rangesOf(s) {
		texts = append(texts, FormatRange(r))
	}
	return texts
}
