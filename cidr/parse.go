package cidr

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"

	"go4.org/netipx"
)

// Parser reads addresses, prefixes, ranges and sets. The zero value is the strict parser, the one that the
// functions ParseRange, ParsePrefix and ParseSet use. A Parser is a value: copy it freely and use it
// concurrently. Each method takes time linear in its text.
//
// The forms are an address "a", a CIDR "a/len", bounds "a-b" (both included), and bounds in a subnet
// "a-b/len". The rules:
//
//   - An address is written as RFC 4291 2.2 has it for IPv6, and as four decimal numbers for IPv4.
//   - There are no spaces, in or around the text. SpacesAroundDash lifts this for the dash of a range.
//   - No leading zeros in the numbers of an IPv4 address, where some readers take them for octal, and in a
//     length. In the groups of an IPv6 address they are as harmless as usual, and allowed.
//   - No zone ("%eth0").
//   - No IPv4-mapped IPv6 address ("::ffff:192.0.2.1", in any spelling): write the IPv4 address.
//   - A length is 0 to 32 for IPv4 and 0 to 128 for IPv6.
//   - The bounds of a range are of one family, and the first is not after the last.
//   - In "a-b/len" one subnet of that length holds both bounds.
//   - A CIDR has no host bits: its address is the first of the prefix. MaskHostBits lifts this.
//
// What breaks one is refused with a [*ParseError].
type Parser struct {
	// MaskHostBits accepts a CIDR whose address is not the first of the prefix, and takes it for the
	// prefix that holds the address: "192.0.2.192/24" is then 192.0.2.0/24. The default refuses it.
	MaskHostBits bool

	// SpacesAroundDash accepts spaces (U+0020) before and after the dash of a range: "192.0.2.10 - 192.0.2.20" is then
	// 192.0.2.10-192.0.2.20. The default refuses them. Spaces elsewhere, tabs and line ends are always refused.
	SpacesAroundDash bool
}

// ParseAddr returns the address that text says, by the rules of [Parser]. The error is a [*ParseError].
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

// ParseRange is [Parser.Range] of the strict parser.
func ParseRange(text string) (netipx.IPRange, error) { return Parser{}.Range(text) }

// ParsePrefix is [Parser.Prefix] of the strict parser.
func ParsePrefix(text string) (netip.Prefix, error) { return Parser{}.Prefix(text) }

// ParseRanges returns the ranges that the texts say. It is [Parser.Ranges] of the strict parser.
func ParseRanges(texts ...string) ([]netipx.IPRange, error) { return Parser{}.Ranges(texts...) }

// ParseSet is [Parser.Set] of the strict parser.
func ParseSet(texts ...string) (*netipx.IPSet, error) { return Parser{}.Set(texts...) }

// Range returns the range that text says in any of the four forms. The error is a [*ParseError].
func (p Parser) Range(text string) (netipx.IPRange, error) {
	r, _, err := p.SubnetRange(text)
	return r, err
}

// SubnetRange returns the range that text says, as Range does, and the subnet that it names: of "a-b/len"
// the subnet that holds the bounds, of a CIDR the prefix itself, and the zero Prefix if it names none. The
// subnet is masked. A CIDR always means all of its prefix, also one whose host bits MaskHostBits masked:
// "192.0.2.192/24" does not mean the addresses from .192 on. The error is a [*ParseError].
func (p Parser) SubnetRange(text string) (r netipx.IPRange, subnet netip.Prefix, err error) {
	r, subnet, fault := p.subnetRange(text)
	if fault != nil {
		return netipx.IPRange{}, netip.Prefix{}, fault.in(text)
	}
	return r, subnet, nil
}

// Prefix returns the prefix that text says as a CIDR; a lone address is refused. The prefix is masked. The
// error is a [*ParseError].
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

// Ranges returns one range for each text, in the order of the texts. A text has any of the four forms. The error is a
// [*ParseError] for the first text that breaks a rule. Cost: O(texts).
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

// Set returns the set of the addresses in all the texts, each in any of the four forms. They may overlap,
// and be of both families; without texts the set is empty. The error is a [*ParseError] for the first text
// that breaks a rule. Cost: O(n log n) for n texts.
func (p Parser) Set(texts ...string) (*netipx.IPSet, error) {
	ranges, err := p.Ranges(texts...)
	if err != nil {
		return nil, err
	}
	return SetOf(ranges...), nil
}

// What is right where no text can be suggested.
const (
	exampleAddr = `an address, as in "192.0.2.1" or "2001:db8::1"`
	examplePair = `two bounds, as in "192.0.2.1-192.0.2.9"`
	exampleCIDR = `one address and one length, as in "192.0.2.0/24" or "2001:db8::/64"`
	exampleAny  = `an address "192.0.2.1", a CIDR "192.0.2.0/24", or bounds ` +
		`"192.0.2.1-192.0.2.9" or "192.0.2.1-192.0.2.9/24"`
	exampleInNet = `the length after the last bound, as in "192.0.2.1-192.0.2.9/24"`
)

// checkText returns the fault that a text of any form has, or nil.
func (p Parser) checkText(text string) *ParseError {
	switch {
	case text == "":
		return &ParseError{Rule: "the text must not be empty", Want: exampleAny}
	case strings.Contains(text, ","):
		return &ParseError{Rule: "a text holds one range, not a list with commas", Want: "each range as a text of its own"}
	case strings.ContainsFunc(text, unicode.IsSpace):
		return &ParseError{Rule: p.spaceRule(), Want: suggest(strings.Join(strings.Fields(text), ""))}
	case strings.Contains(text, "%"):
		return &ParseError{Rule: "zones are not allowed", Want: `the address without "%" and what follows, as in "fe80::1"`}
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

// suggest quotes a text that is better in one respect, if it is right in all others.
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

// parseBounds reads "first-last", where last may end in a length.
func parseBounds(first, last string) (r netipx.IPRange, subnet netip.Prefix, fault *ParseError) {
	last, length, hasLength := strings.Cut(last, "/")
	switch {
	case strings.Contains(first, "/"):
		return r, subnet, &ParseError{Rule: "a range has its length at the end only", Want: exampleInNet}
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

// checkBounds finds what is wrong with two bounds as a range. The suffix completes a suggested text.
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

// subnetOf returns the subnet of a length, given as text, that holds both bounds.
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

// prefix reads a CIDR.
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

// parseLength reads the length of a prefix in a family of that many bits.
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

// parseAddr reads an address, without a zone, that may be a part of a text.
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

// noAddr says why text is not an address.
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

// withoutZeros removes the leading zeros from the numbers of an IPv4 address, also of one that ends an IPv6
// address.
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
