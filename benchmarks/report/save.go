package main

import (
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// save writes the plot with its labels on the right.
func save(p *plot.Plot, labels []label, path string) error {
	canvas := vgsvg.New(plotWidth, plotHeight)
	area := draw.Crop(draw.New(canvas), 0, -labelWidth, 0, -vg.Points(6))
	p.Draw(area)
	drawLabels(p, p.DataCanvas(area), labels)
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := canvas.WriteTo(f); err != nil {
		return err
	}
	return f.Close()
}
