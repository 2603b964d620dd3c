package view

import (
	"math"
	"strconv"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
)

// formatCount writes a count for people: exactly up to a million million, and beyond that about.
func formatCount(c cidr.Count) string {
	const exactBits = 40
	if c.BitLen() > exactBits {
		f, _ := strconv.ParseFloat(c.String(), 64) // which it always is
		return about(f)
	}
	return grouped(c.Uint64())
}

// formatAmount is formatCount for a number of addresses that may have been rounded.
func formatAmount(f float64) string {
	if f >= 1<<40 {
		return about(f)
	}
	return grouped(uint64(math.Round(f)))
}

// about writes a large number with two digits and the power of ten.
func about(f float64) string {
	mantissa, exponent, _ := strings.Cut(strconv.FormatFloat(f, 'e', 1, 64), "e+")
	return "≈" + mantissa + "·10^" + exponent
}

// grouped writes n with a comma before each three digits.
func grouped(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func formatRanges(ranges []netipx.IPRange) []string {
	texts := make([]string, len(ranges))
	for i, r := range ranges {
		texts[i] = cidr.FormatRange(r)
	}
	return texts
}
