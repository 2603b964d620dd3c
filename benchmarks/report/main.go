// Command report runs the same work on this library and on its peers, and writes results.json, table.md and plots.
//
//	go run ./benchmarks/report [-quick] [-o DIR] [-run TEXT] [-against FILE]
//
// A full run takes about 40 minutes and wants a machine where nothing else runs. It writes its results after each
// row, and also when it is interrupted. With -quick the sizes are cut, and the run only proves that every row
// still works. With -against it names what got slower in this library than in an earlier results.json, beyond
// noise, and then fails; see compare for the rule.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

func main() {
	if processes.RunJob() {
		return
	}
	quick := flag.Bool("quick", false, "only prove that every row still runs")
	dir := flag.String("o", "report", "the folder to write to; it is created")
	only := flag.String("run", "", "measure only the rows whose name or heading contains this")
	against := flag.String("against", "", "an earlier results.json to compare with")
	flag.Parse()
	s := fullSettings()
	if *quick {
		s = quickSettings()
	}
	s.only, s.log = *only, os.Stderr
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := report(ctx, s, *dir, *against)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

var errSlower = errors.New("something got slower")

func report(ctx context.Context, s settings, dir, against string) error {
	var before Results
	if against != "" {
		if s.quick {
			return errQuick
		}
		var err error
		if before, err = readResults(against); err != nil { // now, not after half an hour
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s.keep = func(r Results) error { return writeTables(dir, r) }
	now, err := run(ctx, s)
	if err := errors.Join(err, writeAll(dir, now)); err != nil || against == "" {
		return err
	}
	changes := compare(before, now)
	writeChanges(os.Stdout, before, now, changes)
	if len(changes) > 0 {
		return errSlower
	}
	return nil
}

// writeAll writes all files.
func writeAll(dir string, r Results) error {
	return errors.Join(writeTables(dir, r), writePlots(dir, r))
}

// writeTables writes all but the plots.
func writeTables(dir string, r Results) error {
	if err := r.write(filepath.Join(dir, "results.json")); err != nil {
		return err
	}
	f, err := os.Create(filepath.Join(dir, "table.md"))
	if err != nil {
		return err
	}
	defer f.Close()
	writeTable(f, r)
	return f.Close()
}
