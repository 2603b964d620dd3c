// Command far measures how far this library goes: ten million owners in one pool, a thousand pools in one store, ten
// thousand writers with blocks of their own.
//
//	go run ./benchmarks/far [-owners N] [-pools N] [-writers N] [-processes PxW,...] [-for D] [-every D]
//		[-store S] [-run NAME] [-o PAGE]
//
// It prints Markdown tables, and checks that what it measures is right: the addresses, the numbers of owners, pools and
// blocks, and that Verify finds nothing. With -o it also puts each table in the place of the same table of a page,
// docs/how-far-it-goes.md, between two comments that name it. Tables that were not measured stay as they are.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
)

func main() {
	if durable.RunServer() || runTask() {
		return
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	cancel()
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "far:", err)
		os.Exit(1)
	}
}

// command prints the tables as they are measured.
func command(ctx context.Context, args []string, out, progress io.Writer) (err error) {
	var p plan
	flags := flag.NewFlagSet("far", flag.ContinueOnError)
	flags.SetOutput(progress)
	p.define(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := p.check(); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ipalloc-far-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	servers := durable.NewServers(dir)
	defer func() { err = errors.Join(err, servers.Close()) }()
	m := measurer{plan: p, servers: servers, dir: dir, out: out, progress: progress}
	for _, run := range p.runs {
		if err := runs[run](&m, ctx); err != nil {
			return fmt.Errorf("%s: %w", run, err)
		}
	}
	return nil
}

// runs are what can be measured.
var runs = map[string]func(*measurer, context.Context) error{
	"owners": (*measurer).owners, "pools": (*measurer).pools,
	"writers": (*measurer).writers, "simulated": (*measurer).simulated,
}

// measurer measures a plan.
type measurer struct {
	plan
	servers       *durable.Servers
	dir           string
	out, progress io.Writer
}

// tell says what goes on.
func (m *measurer) tell(format string, args ...any) { fmt.Fprintf(m.progress, format+"\n", args...) }
