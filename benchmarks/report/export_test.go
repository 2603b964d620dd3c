package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"time"

	"gonum.org/v1/plot/vg"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

var (
	WriteAll    = writeAll
	Compare     = compare
	ReadResults = readResults
	Format      = format
	ErrQuick    = errQuick
	ErrSlower   = errSlower
)

type Change = change

const (
	GroupAddresses = groupAddresses
	GroupDurable   = groupDurable
	PlotFill       = plotFill
	PlotWriters    = plotWriters
)

func Table(r Results) string {
	var b bytes.Buffer
	writeTable(&b, r)
	return b.String()
}

func Changes(before, now Results) string {
	var b bytes.Buffer
	writeChanges(&b, before, now, compare(before, now))
	return b.String()
}

// QuickReport runs the rows that contain the text, as with -quick or as a full run with the sizes of
// a quick one. It logs to log.
func QuickReport(ctx context.Context, quick bool, only, dir, against string, log io.Writer) error {
	s := quickSettings()
	s.quick, s.only, s.log = quick, only, log
	return report(ctx, s, dir, against)
}

// ErrBroken is what the first row of BrokenRun says.
var ErrBroken = errors.New("broken on purpose")

// BrokenRun measures a row in which this library fails, and then one in which nothing does.
func BrokenRun(ctx context.Context) (Results, error) {
	s := quickSettings()
	s.log, s.keep = io.Discard, func(Results) error { return nil }
	row := func(name string, err error) benchCase {
		return benchCase{Row: Row{Name: name, Unit: Nanoseconds}, prepare: func(context.Context, subject) (work, error) {
			return work{round: func(context.Context, time.Duration) (reading, error) { return reading{value: 1}, err }}, nil
		}}
	}
	return s.measureAll(ctx, []benchCase{row("broken", ErrBroken), row("right", nil)})
}

// Order is the names of all rows in the order in which they are measured.
func Order() []string {
	cases := allCases(fullSizes())
	var names []string
	for _, i := range inOrder(cases) {
		names = append(names, cases[i].Name)
	}
	return names
}

// Spread is where labels that belong there are put.
func Spread(apart, lowest, highest float64, at ...float64) []float64 {
	labels := make([]label, len(at))
	for i := range at {
		labels[i].at = vg.Length(at[i])
	}
	spread(labels, vg.Length(apart), vg.Length(lowest), vg.Length(highest))
	for i := range at {
		at[i] = float64(labels[i].at)
	}
	return at
}

// Place is a place that rows share.
type Place = place

// TakePlace takes a place of the kind in which held owners had an address and only every nth of them is left, and gives
// it back. It uses a place that was given back before, if there is one.
func TakePlace(ctx context.Context, all *Places, kind durable.Kind, servers *durable.Servers,
	held, nth int,
) (*Place, error) {
	p, err := all.of(ctx, subject{kind: &kind, servers: servers, places: all}, content{held, nth})
	if err == nil {
		all.giveBack(p)
	}
	return p, err
}

type Places = places

func NewPlaces() *Places { return newPlaces() }

func (all *places) End() error { return all.end() }
