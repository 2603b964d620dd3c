package main

import (
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// format writes a figure with two or three digits and its unit.
func format(value float64, unit Unit) string {
	switch unit {
	case Nanoseconds:
		return measure.FormatTime(value)
	case Bytes:
		return measure.Format(value, 1024, "B", "KiB", "MiB", "GiB")
	case PairsSecond:
		return measure.Format(value, 1000, "/s", "k/s", "M/s")
	}
	return strings.TrimSpace(measure.Format(value, 1000, "", "k", "M", "G"))
}

// formatSpread is the distance between the quartiles, as a share of the median.
func formatSpread(c Cell) string {
	if c.Median == 0 {
		return ""
	}
	return fmt.Sprintf("±%.0f %%", 50*(c.High-c.Low)/c.Median)
}
