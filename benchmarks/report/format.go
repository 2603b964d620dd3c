package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// format writes a figure with two or three digits and its unit.
func format(value float64, unit Unit) string {
	switch unit {
	case Nanoseconds:
		return formatNanoseconds(value)
	case Bytes:
		return formatScaled(value, 1024, "B", "KiB", "MiB", "GiB")
	case PairsSecond:
		return formatScaled(value, 1000, "/s", "k/s", "M/s")
	}
	return strings.TrimSpace(formatScaled(value, 1000, "", "k", "M", "G"))
}

func formatNanoseconds(ns float64) string { return formatScaled(ns, 1000, "ns", "µs", "ms", "s") }

// formatScaled uses the largest unit in which the value is at least 1.
func formatScaled(value, step float64, units ...string) string {
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

// formatSpread is the distance between the quartiles, as a share of the median.
func formatSpread(c Cell) string {
	if c.Median == 0 {
		return ""
	}
	return fmt.Sprintf("±%.0f %%", 50*(c.High-c.Low)/c.Median)
}
