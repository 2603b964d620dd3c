package main

import (
	"fmt"
	"math"

	"gonum.org/v1/plot"

	"github.com/ipalloc/ipalloc/benchmarks/measure"
)

// ticks are the ticks of a log axis: a label with its unit at each power of ten, and small ticks between. On a short
// axis twice and five times a power of ten have labels as well.
type ticks struct{ unit Unit }

// Ticks implements plot.Ticker.
func (t ticks) Ticks(lowest, highest float64) []plot.Tick {
	const short = 100
	var all []plot.Tick
	for power := math.Pow(10, math.Floor(math.Log10(lowest))); power <= highest; power *= 10 {
		for times := 1.0; times < 10; times++ {
			value := power * times
			if value < lowest || value > highest {
				continue
			}
			tick := plot.Tick{Value: value}
			if times == 1 || highest/lowest < short && (times == 2 || times == 5) {
				tick.Label = t.label(value)
			}
			all = append(all, tick)
		}
	}
	return all
}

// label counts bytes in powers of ten, as the ticks are.
func (t ticks) label(value float64) string {
	if t.unit == Bytes {
		return measure.Format(value, 1000, "B", "kB", "MB", "GB")
	}
	return format(value, t.unit)
}

// ticks are the places of the points on the x axis, which are few.
func (f figure) ticks(lines []line) plot.ConstantTicks {
	var all plot.ConstantTicks
	seen := map[float64]bool{}
	for _, l := range lines {
		for _, p := range l.points {
			if !seen[p.X] {
				seen[p.X] = true
				all = append(all, plot.Tick{Value: p.X, Label: f.label(p.X)})
			}
		}
	}
	return all
}

func (f figure) label(x float64) string {
	if f.size {
		return fmt.Sprintf("/%.0f", 32-math.Log2(x))
	}
	return format(x, Number)
}
