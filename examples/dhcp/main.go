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
	"syscall"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/config"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/driver"
	"github.com/ipalloc/ipalloc/examples/dhcp/internal/server"
	"github.com/ipalloc/ipalloc/store"
)

const usage = `usage: dhcpalloc COMMAND -config FILE

  serve     answer clients
  check     read the configuration, and say what is wrong with it
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

func run(ctx context.Context, args []string, stdout io.Writer) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: no command\n%s", errUsage, usage)
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	path := flags.String("config", "/etc/dhcpalloc.yaml", "the configuration `file`")
	verbose := flags.Bool("v", false, "say why messages get no answer")
	var command func(context.Context, *config.Config, store.Store) error
	switch args[0] {
	case "serve":
		command = func(ctx context.Context, c *config.Config, db store.Store) error {
			level := slog.LevelInfo
			if *verbose {
				level = slog.LevelDebug
			}
			log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
			return server.Run(ctx, c, db, log, func() { fmt.Fprintln(stdout, "ready") })
		}
	case "check":
	default:
		return fmt.Errorf("%w: %q is no command\n%s", errUsage, args[0], usage)
	}
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	c, err := config.ReadFile(*path)
	if err != nil || command == nil {
		return err
	}
	db, err := driver.Open(ctx, c.Store)
	if err != nil {
		return err
	}
	return errors.Join(command(ctx, c, db), db.Close())
}
