// Command contention measures how many writers on one pool fare when they go on and on.
//
//	go run ./benchmarks/contention [-store S] [-as A] [-writers W] [-for D] [-kill F] [-stop F] [-held D] [-json]
//	go run ./benchmarks/contention -wait ...
//
// Writers are goroutines that allocate and release, each for an owner of its own, on one or more handles of the pool.
// A handle has a store of its own, in this process or in one of its own, which can be killed or stopped.
//
// It prints a row for each store, and number of writers: how long the calls of Allocate took, what the slowest handle
// got beside the others, how many commits met a conflict, and what one handle with as many goroutines would do. The
// first and the last row of a store are bare: one client that swaps one record again and again, without a pool. With
// -wait there are fewer addresses than writers, and they call AllocateWait.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

func main() {
	if durable.RunServer() || runHandle() {
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "contention:", err)
		os.Exit(1)
	}
}

// command prints the table, or JSON, once all rows are measured. A row that fails is left out, and is part of the
// error.
func command(ctx context.Context, args []string, out, progress io.Writer) error {
	var p plan
	flags := flag.NewFlagSet("contention", flag.ContinueOnError)
	flags.SetOutput(progress)
	p.define(flags)
	asJSON := flags.Bool("json", false, "print JSON, with times in nanoseconds")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	rows, err := measureAll(ctx, p, progress)
	compare(rows)
	if *asJSON {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "\t")
		return errors.Join(err, encoder.Encode(rows))
	}
	return errors.Join(err, writeTable(out, p, rows))
}

// measureAll measures one store after the other.
func measureAll(ctx context.Context, p plan, progress io.Writer) (rows []row, err error) {
	dir, err := os.MkdirTemp("", "ipalloc-contention-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	servers := durable.NewServers(dir)
	m := &measurer{plan: p, progress: progress}
	for _, name := range p.stores {
		m.store(ctx, backend{name: name, servers: servers, dir: dir})
	}
	return m.rows, errors.Join(m.failed, ctx.Err(), servers.Close())
}

// measurer measures the rows of a plan. A row that fails does not keep the next ones from being measured.
type measurer struct {
	plan
	progress io.Writer
	rows     []row
	failed   error
}

// bareLength is how long a bare store is measured at most: it goes on as it begins.
const bareLength = 5 * time.Second

// store measures the rows of a store, the bare one before and after the others: how far these two are apart is what a
// machine that does other work too does to all rows.
func (m *measurer) store(ctx context.Context, b backend) {
	ofBare := func() (row, error) { return measureBare(ctx, b, min(m.length, bareLength)) }
	m.measure(ctx, b.name+" bare", ofBare)
	for _, as := range m.as {
		if as == inProcesses && !b.isServer() {
			fmt.Fprintf(m.progress, "%s: handles in processes of their own cannot share it\n", b.name)
			continue
		}
		for _, w := range m.writers {
			m.measure(ctx, fmt.Sprintf("%s %s %v", b.name, as, w), func() (row, error) {
				return contend(ctx, m.plan, b, as, w)
			})
		}
	}
	m.measure(ctx, b.name+" bare", ofBare)
}

// measure measures a row, unless the context has ended.
func (m *measurer) measure(ctx context.Context, what string, of func() (row, error)) {
	if ctx.Err() != nil {
		return
	}
	r, err := of()
	if err != nil {
		m.failed = errors.Join(m.failed, fmt.Errorf("%s: %w", what, err))
		return
	}
	m.rows = append(m.rows, r)
	fmt.Fprintf(m.progress, "%s: %.0f/s\n", what, r.PerSecond)
}
