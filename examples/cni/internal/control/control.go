// Package control is the command for operators: it frees what is left behind, adopts what other plugins have given, and
// changes what a pool has.
package control

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
)

// Control runs the command. The zero Control is not useful.
type Control struct {
	Drivers driver.Set
	Stdin   io.Reader
	Stdout  io.Writer
	Log     *slog.Logger
	// Now and After are those of package time.
	Now   func() time.Time
	After func(time.Duration) <-chan time.Time
}

// ErrUsage is returned for wrong arguments.
var ErrUsage = errors.New("wrong arguments")

const usage = `usage: ipallocctl COMMAND [flags]

  install     put the plugin on a node
  reconcile   free what containers hold that are gone
  adopt       take over what host-local or Whereabouts have given to containers
  apply       give up the ranges that a configuration does not have
  give-back   write what containers hold as host-local or Whereabouts have it

ipallocctl COMMAND -help lists the flags.
`

// Run runs one command with its arguments.
func (c *Control) Run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("%w: %s", ErrUsage, usage)
	}
	commands := map[string]func(context.Context, []string) error{
		"install": c.install, "reconcile": c.reconcile, "adopt": c.adopt, "apply": c.apply, "give-back": c.giveBack,
	}
	command, ok := commands[args[0]]
	if !ok {
		return fmt.Errorf("%w: there is no command %q\n%s", ErrUsage, args[0], usage)
	}
	return command(ctx, args[1:])
}

// parse parses the arguments of a command, which has only flags.
func parse(flags *flag.FlagSet, args []string) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return fmt.Errorf("%w: %w", ErrUsage, err)
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("%w: %q is not a flag", ErrUsage, flags.Arg(0))
	}
	return nil
}

// newFlags returns flags of a command, which print their help to the standard output.
func (c *Control) newFlags(command string) *flag.FlagSet {
	flags := flag.NewFlagSet("ipallocctl "+command, flag.ContinueOnError)
	flags.SetOutput(c.Stdout)
	return flags
}
