package cidr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"go4.org/netipx"
)

// Parser parses addresses, prefixes, ranges and sets. The zero value is the strict parser, which [ParsePrefix],
// [ParseRange], [ParseRanges] and [ParseSet] use. A Parser may be copied, and is safe for concurrent use. Each method
// takes time linear in the length of its text.
//
// The forms are an address "a", a CIDR "a/len", a range "a-b" that includes both bounds, and a range in a subnet
// "a-b/len". These are the rules:
//
//   - An IPv6 address is written as in RFC 4291 2.2, an IPv4 address as four decimal numbers.
//   - The text has no spaces, inside or around it. SpacesAroundDash relaxes this rule.
//   - The numbers of an IPv4 address have no leading zeros, because some programs read such numbers as octal. Neither
//     has a length. The groups of an IPv6 address may have leading zeros.
//   - An address has no zone ("%eth0").
//   - An address is not an IPv4-mapped IPv6 address, such as "::ffff:192.0.2.1"; write the IPv4 address instead.
//   - A length is from 0 to 32 for IPv4 and from 0 to 128 for IPv6.
//   - The bounds of a range are of the same family, and the first is not after the last.
//   - Both bounds of "a-b/len" are in one subnet of that length.
//   - A CIDR has no host bits: its address is the first of the prefix. MaskHostBits relaxes this rule.
//
// The error for a text that breaks a rule is a [*ParseError].
type Parser struct {
	// MaskHostBits allows a CIDR to have host bits, and ignores them: "192.0.2.192/24" is 192.0.2.0/24. By default such
	// a CIDR is an error.
	MaskHostBits bool

	// SpacesAroundDash allows any number of spaces (U+0020) before and after the dash of a range, as in
	// "192.0.2.10 - 192.0.2.20". By default they are an error. Other spaces, tabs and newlines are always an error.
	SpacesAroundDash bool
}

// ParseAddr parses an address by the rules of [Parser]. The error is a [*ParseError].
func ParseAddr(text string) (netip.Addr, error) {
	fault := Parser{}.checkText(text)
	if fault != nil {
		return netip.Addr{}, fault.in(text)
	}
	if strings.ContainsAny(text, "-/") {
		fault = &ParseError{Rule: "an address has no second bound and no length", Want: exampleAddr}
		return netip.Addr{}, fault.in(text)
	}
	addr, fault := parseAddr(text)
	if fault != nil {
		return netip.Addr{}, fault.in(text)
	}
	return addr, nil
}

// ParseRange parses a range strictly, as [Parser.Range] of the zero Parser does.
func ParseRange(text string) (netipx.IPRange, error) { return Parser{}.Range(text) }

// ParsePrefix parses a CIDR strictly, as [Parser.Prefix] of the zero Parser does.
func ParsePrefix(text string) (netip.Prefix, error) { return Parser{}.Prefix(text) }

// ParseRanges parses ranges strictly, as [Parser.Ranges] of the zero Parser does.
func ParseRanges(texts ...string) ([]netipx.IPRange, error) { return Parser{}.Ranges(texts...) }

// ParseSet parses a set strictly, as [Parser.Set] of the zero Parser does.
func ParseSet(texts ...string) (*netipx.IPSet, error) { return Parser{}.Set(texts...) }

// Range parses a range, which may have any of the four forms. The error is a [*ParseError].
func (p Parser) Range(text string) (netipx.IPRange, error) {
	r, _, err := p.SubnetRange(text)
	return r, err
}

// SubnetRange parses a range as [Parser.Range] does, and also returns the subnet that the text names. For "a-b/len"
// that is the subnet of the length len that contains both bounds. For a CIDR it is the prefix itself. For the other
// forms it is the zero Prefix. The subnet is masked.
//
// The range of a CIDR is the whole prefix, even if MaskHostBits ignored host bits: "192.0.2.192/24" is not the range
// that starts at 192.0.2.192. The error is a [*ParseError].
func (p Parser) SubnetRange(text string) (r netipx.IPRange, subnet netip.Prefix, err error) {
	r, subnet, fault := p.subnetRange(text)
	if fault != nil {
		return netipx.IPRange{}, netip.Prefix{}, fault.in(text)
	}
	return r, subnet, nil
}

// Prefix parses a CIDR. The prefix is masked. A text of another form, such as an address without a length, is an error.
// The error is a [*ParseError].
func (p Parser) Prefix(text string) (netip.Prefix, error) {
	fault := p.checkText(text)
	if fault != nil {
		return netip.Prefix{}, fault.in(text)
	}
	prefix, fault := p.prefix(text)
	if fault != nil {
		return netip.Prefix{}, fault.in(text)
	}
	return prefix, nil
}

// Ranges parses each text as [Parser.Range] does, and returns the ranges in the order of the texts. The error is a
// [*ParseError] for the first text that breaks a rule. Cost: O(n) for n texts.
func (p Parser) Ranges(texts ...string) ([]netipx.IPRange, error) {
	ranges := make([]netipx.IPRange, len(texts))
	for i, text := range texts {
		r, err := p.Range(text)
		if err != nil {
			return nil, err
		}
		ranges[i] = r
	}
	return ranges, nil
}

// Set parses each text as [Parser.Range] does, and returns the set of all their addresses. The ranges may overlap, and
// may be of both families. The error is a [*ParseError] for the first text that breaks a rule. Cost: O(n log n) for n
// texts.
func (p Parser) Set(texts ...string) (*netipx.IPSet, error) {
	ranges, err := p.Ranges(texts...)
	if err != nil {
		return nil, err
	}
	return SetOf(ranges...), nil
}

// The examples of correct text, for errors that cannot suggest a corrected one.
const (
	exampleAddr = `an address, as in "192.0.2.1" or "2001:db8::1"`
	examplePair = `two bounds, as in "192.0.2.1-192.0.2.9"`
	exampleCIDR = `one address and one length, as in "192.0.2.0/24" or "2001:db8::/64"`
	exampleAny  = `an address "192.0.2.1", a CIDR "192.0.2.0/24", or bounds ` +
		`"192.0.2.1-192.0.2.9" or "192.0.2.1-192.0.2.9/24"`
	exampleInNet = `the length after the last bound only, as in "192.0.2.1-192.0.2.9/24"`
)

// checkText checks the rules that hold for every form.
func (p Parser) checkText(text string) *ParseError {
	switch {
	case text == "":
		return &ParseError{Rule: "the text must not be empty", Want: exampleAny}
	case strings.Contains(text, ","):
		return &ParseError{Rule: "a text is one range, not a list with commas", Want: "a separate text for each range"}
	case strings.ContainsFunc(text, unicode.IsSpace):
		return &ParseError{Rule: p.spaceRule(), Want: suggest(strings.Join(strings.Fields(text), ""))}
	case strings.Contains(text, "%"):
		return &ParseError{Rule: "zones are not allowed", Want: `the address without its zone, as in "fe80::1"`}
	}
	return nil
}

func (p Parser) spaceRule() string {
	if p.SpacesAroundDash {
		return "spaces are allowed only around the dash of a range"
	}
	return "spaces are not allowed"
}

// trimDash removes the spaces before and after the first dash of a text.
func trimDash(text string) string {
	first, last, ok := strings.Cut(text, "-")
	if !ok {
		return text
	}
	return strings.TrimRight(first, " ") + "-" + strings.TrimLeft(last, " ")
}

// suggest returns text in quotes if it is correct, and otherwise an example.
func suggest(text string) string {
	if _, err := ParseRange(text); err != nil {
		return exampleAny
	}
	return strconv.Quote(text)
}

func (p Parser) subnetRange(text string) (netipx.IPRange, netip.Prefix, *ParseError) {
	if p.SpacesAroundDash {
		text = trimDash(text)
	}
	if fault := p.checkText(text); fault != nil {
		return netipx.IPRange{}, netip.Prefix{}, fault
	}
	if first, last, ok := strings.Cut(text, "-"); ok && !strings.HasSuffix(first, "/") {
		return parseBounds(first, last)
	}
	if strings.Contains(text, "/") {
		prefix, fault := p.prefix(text)
		return netipx.RangeOfPrefix(prefix), prefix, fault
	}
	addr, fault := parseAddr(text)
	return netipx.IPRangeFrom(addr, addr), netip.Prefix{}, fault
}

// parseBounds parses "first-last", where last may end in a length.
func parseBounds(first, last string) (r netipx.IPRange, subnet netip.Prefix, fault *ParseError) {
	last, length, hasLength := strings.Cut(last, "/")
	switch {
	case strings.Contains(first, "/"):
		return r, subnet, &ParseError{Rule: "the first bound of a range has no length", Want: exampleInNet}
	case strings.Contains(last, "-"):
		return r, subnet, &ParseError{Rule: "a range has two bounds", Want: examplePair}
	}
	from, fault := parseAddr(first)
	if fault != nil {
		return r, subnet, fault
	}
	to, fault := parseAddr(last)
	if fault != nil {
		return r, subnet, fault
	}
	if hasLength {
		subnet, fault = subnetOf(from, to, length)
	} else {
		fault = checkBounds(from, to, "")
	}
	return netipx.IPRangeFrom(from, to), subnet, fault
}

// checkBounds checks that two bounds make a range. The suffix is appended to a suggested text.
func checkBounds(from, to netip.Addr, suffix string) *ParseError {
	switch {
	case from.BitLen() != to.BitLen():
		return &ParseError{
			Rule: "both bounds must be of one family, IPv4 or IPv6",
			Want: examplePair + ` or "2001:db8::1-2001:db8::9"`,
		}
	case to.Less(from):
		swapped := to.String() + "-" + from.String() + suffix
		return &ParseError{Rule: "the first bound must not be after the last", Want: suggest(swapped)}
	}
	return nil
}

// subnetOf returns the subnet with a length, given as text, that contains both bounds.
func subnetOf(from, to netip.Addr, length string) (netip.Prefix, *ParseError) {
	if fault := checkBounds(from, to, "/"+length); fault != nil {
		return netip.Prefix{}, fault
	}
	bits, fault := parseLength(length, from.BitLen())
	if fault != nil {
		return netip.Prefix{}, fault
	}
	subnet := netip.PrefixFrom(from, bits).Masked()
	if subnet.Contains(to) {
		return subnet, nil
	}
	wider := bits
	for wider > 0 && !netip.PrefixFrom(from, wider).Contains(to) {
		wider--
	}
	return netip.Prefix{}, &ParseError{
		Rule: fmt.Sprintf("both bounds must be in one /%d subnet", bits),
		Want: fmt.Sprintf(`a last bound of at most "%v", or a length of at most "/%d"`, netipx.PrefixLastIP(subnet), wider),
	}
}

// prefix parses a CIDR.
func (p Parser) prefix(text string) (netip.Prefix, *ParseError) {
	address, length, hasLength := strings.Cut(text, "/")
	if strings.Contains(address, "-") || strings.Contains(length, "/") {
		return netip.Prefix{}, &ParseError{Rule: "a CIDR has one address and one length", Want: exampleCIDR}
	}
	addr, fault := parseAddr(address)
	if fault != nil {
		return netip.Prefix{}, fault
	}
	if !hasLength {
		return netip.Prefix{}, &ParseError{Rule: "a CIDR has a length", Want: fmt.Sprintf(`"%v/%d"`, addr, addr.BitLen())}
	}
	bits, fault := parseLength(length, addr.BitLen())
	if fault != nil {
		return netip.Prefix{}, fault
	}
	prefix := netip.PrefixFrom(addr, bits)
	if masked := prefix.Masked(); masked != prefix && !p.MaskHostBits {
		return netip.Prefix{}, &ParseError{Rule: "a CIDR has no host bits", Want: strconv.Quote(masked.String())}
	}
	return prefix.Masked(), nil
}

// parseLength parses a prefix length for addresses of familyBits bits.
func parseLength(text string, familyBits int) (int, *ParseError) {
	want := fmt.Sprintf(`"/0" to "/%d"`, familyBits)
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, &ParseError{Rule: fmt.Sprintf("the length %s must be a number in decimal digits", quote(text)), Want: want}
	}
	if text[0] == '0' && text != "0" {
		return 0, &ParseError{Rule: fmt.Sprintf("the length %s must have no leading zeros", quote(text)), Want: want}
	}
	bits, err := strconv.Atoi(text)
	if err != nil || bits > familyBits {
		return 0, &ParseError{Rule: fmt.Sprintf("the length %s must be from 0 to %d", quote(text), familyBits), Want: want}
	}
	return bits, nil
}

// parseAddr parses an address without a zone.
func parseAddr(text string) (netip.Addr, *ParseError) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, noAddr(text)
	}
	if addr.Is4In6() {
		return netip.Addr{}, &ParseError{
			Rule: fmt.Sprintf("%s is an IPv4-mapped IPv6 address, which is not allowed", quote(text)),
			Want: fmt.Sprintf(`the IPv4 address "%v", with a length (if any) that is 96 less`, addr.Unmap()),
		}
	}
	return addr, nil
}

// noAddr returns the error for a text that is not an address.
func noAddr(text string) *ParseError {
	if stripped, err := netip.ParseAddr(withoutZeros(text)); err == nil {
		return &ParseError{
			Rule: fmt.Sprintf("the numbers of %s must have no leading zeros", quote(text)),
			Want: fmt.Sprintf(`"%v"`, stripped.Unmap()),
		}
	}
	switch {
	case text == "":
		return &ParseError{Rule: "an address is missing", Want: exampleAny}
	case strings.Contains(text, ":"):
		return &ParseError{
			Rule: fmt.Sprintf("%s must be an IPv6 address: eight groups of one to four hexadecimal digits, "+
				"or fewer and one \"::\"", quote(text)),
			Want: `an address, as in "2001:db8::1"`,
		}
	case strings.Contains(text, "."):
		return &ParseError{
			Rule: fmt.Sprintf("%s must be an IPv4 address: four numbers from 0 to 255", quote(text)),
			Want: `an address, as in "192.0.2.1"`,
		}
	}
	return &ParseError{Rule: fmt.Sprintf("%s must be an IP address", quote(text)), Want: exampleAddr}
}

// withoutZeros removes the leading zeros from the numbers of an IPv4 address, which may be the end of an IPv6 address.
func withoutZeros(text string) string {
	start := strings.LastIndex(text, ":") + 1
	numbers := strings.Split(text[start:], ".")
	for i, number := range numbers {
		for len(number) > 1 && number[0] == '0' {
			number = number[1:]
		}
		numbers[i] = number
	}
	return text[:start] + strings.Join(numbers, ".")
}
