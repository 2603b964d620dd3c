package main

import (
	"cmp"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// label names a line on the right of the plot, at the height of its last point if there is room.
type label struct {
	name  string
	style draw.LineStyle
	last  plotter.XY
	at    vg.Length // its height on the canvas
}

// labels are those of the lines.
func (f figure) labels(lines []line) []label {
	all := make([]label, len(lines))
	for i, l := range lines {
		last := l.points[len(l.points)-1]
		if f.falling {
			last = l.points[0]
		}
		all[i] = label{name: l.name, style: l.style, last: last}
	}
	return all
}

// drawLabels draws them beside the area of the points, each with a thin line from where it belongs.
func drawLabels(p *plot.Plot, area draw.Canvas, labels []label) {
	x, y := p.Transforms(&area)
	for i := range labels {
		labels[i].at = y(labels[i].last.Y)
	}
	const height = 13
	spread(labels, vg.Points(height), area.Min.Y, area.Max.Y)
	style := text.Style{Font: p.X.Label.TextStyle.Font, Handler: plot.DefaultTextHandler, YAlign: draw.YCenter}
	style.Font.Size = font.Points(10)
	edge := area.Max.X + vg.Points(8)
	for _, l := range labels {
		from, to := vg.Point{X: x(l.last.X), Y: y(l.last.Y)}, vg.Point{X: edge + vg.Points(14), Y: l.at}
		thin := draw.LineStyle{Color: l.style.Color, Width: vg.Points(0.5), Dashes: []vg.Length{vg.Points(1), vg.Points(2)}}
		area.StrokeLines(thin, []vg.Point{from, {X: max(from.X, edge), Y: from.Y}, to})
		style.Color = l.style.Color
		area.FillText(style, vg.Point{X: to.X + vg.Points(3), Y: to.Y}, l.name)
	}
}

// spread moves the labels so that none covers another and all lie between the two heights, as far as there is
// room. They keep the order of their points.
func spread(labels []label, apart, lowest, highest vg.Length) {
	slices.SortStableFunc(labels, func(a, b label) int { return cmp.Compare(a.at, b.at) })
	for i := range labels {
		least := lowest
		if i > 0 {
			least = labels[i-1].at + apart
		}
		labels[i].at = max(labels[i].at, least)
	}
	for i := len(labels) - 1; i >= 0; i-- {
		most := highest
		if i < len(labels)-1 {
			most = labels[i+1].at - apart
		}
		labels[i].at = min(labels[i].at, most)
	}
}
