package main

import (
	"bytes"
	"context"
	"os"
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

// QuickReport runs the rows that contain the text as with -quick, or as a full run with the sizes of a quick one.
func QuickReport(ctx context.Context, quick bool, only, dir, against string) error {
	s := quickSettings()
	s.quick, s.only, s.log = quick, only, os.Stderr
	return report(ctx, s, dir, against)
}
