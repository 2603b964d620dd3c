package measure

import (
	"math"
	"strconv"
	"strings"
)

// FormatTime writes nanoseconds with two or three digits, in the largest unit in which they are at least 1.
func FormatTime(ns float64) string { return Format(ns, 1000, "ns", "µs", "ms", "s") }

// Format writes a value with two or three digits, in the largest unit in which it is at least 1. Each unit is step
// times the one before.
func Format(value, step float64, units ...string) string {
	i := 0
	for i < len(units)-1 && math.Round(value) >= step {
		value /= step
		i++
	}
	return digits(value) + " " + units[i]
}

// digits are three significant ones below a hundred in thousands, and no fraction from a hundred on.
func digits(value float64) string {
	switch {
	case value >= 100 || value == math.Trunc(value):
		return strconv.FormatFloat(value, 'f', 0, 64)
	case value >= 10:
		return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0")
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 2, 64), ".00")
}
