package main

import (
	"image/color"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
)

// styleOf returns the style of the n-th line of a plot: this library is thick, floors are dashed. Subjects on the same
// backend have the same color; in memory this library is red, and the floor grey.
func styleOf(name string, n int) draw.LineStyle {
	style := draw.LineStyle{Color: colorOf(name, n), Width: vg.Points(1.4)}
	switch {
	case isOurs(name):
		style.Width = vg.Points(3.4)
	case name == peer.Floor || strings.HasPrefix(name, "bare "):
		style.Dashes = []vg.Length{vg.Points(5), vg.Points(3)}
	}
	return style
}

func colorOf(name string, n int) color.Color {
	for _, backend := range []struct {
		name  string
		color color.Color
	}{
		{"disk", color.RGBA{R: 0xe0, G: 0x80, B: 0x10, A: 0xff}},
		{"file", color.RGBA{R: 0x80, G: 0x60, B: 0x20, A: 0xff}},
		{"bolt", color.RGBA{R: 0xc0, A: 0xff}},
		{"SQLite", color.RGBA{R: 0x10, G: 0x90, B: 0x90, A: 0xff}},
		{"etcd", color.RGBA{R: 0x1f, G: 0x5f, B: 0xd0, A: 0xff}},
		{"PostgreSQL", color.RGBA{R: 0x20, G: 0x90, B: 0x30, A: 0xff}},
		{"MariaDB", color.RGBA{R: 0xd0, G: 0x60, B: 0x90, A: 0xff}},
		{"Kubernetes", color.RGBA{R: 0x80, G: 0x30, B: 0xa0, A: 0xff}},
	} {
		if strings.HasSuffix(name, " "+backend.name) || strings.HasSuffix(name, " b"+backend.name) {
			return backend.color
		}
	}
	switch name {
	case peer.Ours:
		return color.RGBA{R: 0xc0, A: 0xff}
	case peer.Floor:
		return color.Gray{0x80}
	}
	others := []color.Color{
		color.RGBA{R: 0x1f, G: 0x5f, B: 0xd0, A: 0xff}, color.RGBA{R: 0xe0, G: 0x80, B: 0x10, A: 0xff},
		color.RGBA{R: 0x20, G: 0x90, B: 0x30, A: 0xff}, color.RGBA{R: 0x80, G: 0x30, B: 0xa0, A: 0xff},
		color.RGBA{R: 0x10, G: 0x90, B: 0x90, A: 0xff}, color.RGBA{R: 0xd0, G: 0x40, B: 0x90, A: 0xff},
		color.RGBA{R: 0x60, G: 0x60, B: 0x20, A: 0xff}, color.RGBA{R: 0x60, G: 0x9c, B: 0xf0, A: 0xff}, color.Black,
	}
	return others[n%len(others)]
}
