// Program dhcpalloc is a DHCPv4 and DHCPv6 server whose addresses are pools of this library. The README says how to use
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/dnsmasq"
	"github.com/ipalloc/ipalloc/adopt/isc"
	"github.com/ipalloc/ipalloc/adopt/kea"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/driver"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/server"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const usage = `usage: dhcpalloc COMMAND [-config FILE] [FLAGS]

  serve     answer clients
  check     read the configuration, and say what is wrong with it
  adopt     take over the leases of another server: -format isc, dnsmasq or kea, and its lease file
  keep      make reservations of all current leases
  unkeep    end the reservations that keep has made
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "dhcpalloc:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to be done
	}
}

var errUsage = errors.New("wrong usage")

// program is a run of the program.
type program struct {
	stdout  io.Writer
	verbose bool
	format  string
	args    []string
}

var commands = map[string]func(*program, context.Context, *config.Config, store.Store) error{
	"serve": (*program).serve, "check": nil, "adopt": (*program).adopt,
	"keep": (*program).keep, "unkeep": (*program).unkeep,
}

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command\n%s", errUsage, usage)
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("%w: %q is no command\n%s", errUsage, args[0], usage)
	}
	p := &program{stdout: stdout}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	path := flags.String("config", "/etc/dhcpalloc.yaml", "the configuration `file`")
	switch args[0] {
	case "serve":
		flags.BoolVar(&p.verbose, "v", false, "say why messages get no answer")
	case "adopt":
		flags.StringVar(&p.format, "format", "", "the `format` of the lease file: isc, dnsmasq or kea")
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	p.args = flags.Args()
	if len(p.args) > 0 && args[0] != "adopt" {
		return fmt.Errorf("%w: %s takes no arguments: %q", errUsage, args[0], p.args)
	}
	c, err := config.ReadFile(*path)
	if err != nil || command == nil {
		return err
	}
	db, err := driver.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	return errors.Join(command(p, ctx, c, db), db.Close())
}

func (p *program) serve(ctx context.Context, c *config.Config, db store.Store) error {
	level := slog.LevelInfo
	if p.verbose {
		level = slog.LevelDebug
	}
	// What is live is small beside what each message leaves behind: to collect less often costs little memory.
	debug.SetGCPercent(400)
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	return server.Run(ctx, c, db, log, func() { fmt.Fprintln(p.stdout, "ready") })
}

var errNotAdopted = errors.New("not adopted")

// leaseFiles are the readers of the lease files of other servers, by the names that the command knows.
var leaseFiles = map[string]func(io.ReadSeeker) adopt.Entries{"isc": isc.Read, "dnsmasq": dnsmasq.Read, "kea": kea.Read}

// adopt takes over the leases in a file, and prints them.
func (p *program) adopt(ctx context.Context, c *config.Config, db store.Store) error {
	read, ok := leaseFiles[p.format]
	if !ok || len(p.args) != 1 {
		return fmt.Errorf("%w: want -format isc, dnsmasq or kea, and one file", errUsage)
	}
	file, err := os.Open(p.args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	l, err := leases.Open(ctx, db, c, nil)
	if err != nil {
		return err
	}
	failed, all := 0, 0
	for a, err := range l.Adopt(ctx, read(file)) {
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", p.args[0], err)
		case a.Outcome == adopt.Ended:
			continue
		case a.Err != nil:
			failed++
			fmt.Fprintf(p.stdout, "%v %s: not adopted: %v\n", a.Prefixes[0], a.Owner, a.Err)
		default:
			fmt.Fprintf(p.stdout, "%v %s\n", a.Prefixes[0], a.Owner)
		}
		all++
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d leases", errNotAdopted, failed, all)
	}
	return nil
}

func (p *program) keep(ctx context.Context, c *config.Config, db store.Store) error {
	return p.change(ctx, c, db, (*leases.Leases).Keep)
}

func (p *program) unkeep(ctx context.Context, c *config.Config, db store.Store) error {
	return p.change(ctx, c, db, (*leases.Leases).Unkeep)
}

func (p *program) change(
	ctx context.Context, c *config.Config, db store.Store,
	change func(*leases.Leases, context.Context) ([]pool.Allocation, error),
) error {
	l, err := leases.Open(ctx, db, c, nil)
	if err != nil {
		return err
	}
	changed, err := change(l, ctx)
	for _, a := range changed {
		fmt.Fprintf(p.stdout, "%v %s\n", a.Prefixes[0], a.Owner)
	}
	return err
}
