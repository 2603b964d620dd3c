package main

import "gonum.org/v1/plot"

// ticks are those of a log axis: a label with its unit at each power of ten, and small ones between.
type ticks struct{ unit Unit }

// Ticks implements plot.Ticker.
func (t ticks) Ticks(lowest, highest float64) []plot.Tick {
	all := plot.LogTicks{Prec: -1}.Ticks(lowest, highest)
	for i := range all {
		if all[i].Label != "" {
			all[i].Label = t.label(all[i].Value)
		}
	}
	return all
}

// label counts bytes in powers of ten, as the ticks are.
func (t ticks) label(value float64) string {
	if t.unit == Bytes {
		return formatScaled(value, 1000, "B", "kB", "MB", "GB")
	}
	return format(value, t.unit)
}
