// Package command has the commands of the program ipalloc, one file for each subject.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/stores"
	"github.com/ipalloc/ipalloc/store"
)

// storeVariable is the variable of the environment that names the store.
const storeVariable = "IPALLOC_STORE"

const about = `ipalloc shows and changes the pools of IP addresses and prefixes that programs
keep with the Go library github.com/ipalloc/ipalloc.

The store is the one that --store or the variable IPALLOC_STORE names:

  bolt:FILE       a file of store/bolt; waits while another process has it open
  sqlite:FILE     a file of store/sqlite
  etcd://USER:PASSWORD@HOST:PORT,HOST:PORT/PREFIX?ca=FILE&cert=FILE&key=FILE
  postgres://USER:PASSWORD@HOST:PORT/DATABASE?schema=SCHEMA
  mysql://USER:PASSWORD@HOST:PORT/SCHEMA?tls=true&ca=FILE&cert=FILE&key=FILE
  kube:CONTEXT?namespace=NAMESPACE&kubeconfig=FILE
  kube://NAMESPACE?context=CONTEXT&kubeconfig=FILE

A command that takes something away shows what it would do, and does it only
with --yes. Long flags may also be written with one dash, as in -yes.

Exit codes:
  0  done
  1  failed: the store cannot be reached, for example
  2  a flag, an argument or a file breaks a rule; nothing was changed
  3  there is no such pool, owner or address
  4  the pool refuses; nothing was changed
  5  something is wrong with a pool, as verify and doctor find
  6  --yes is missing; nothing was changed
  7  it is not known whether the change took effect; do the same again
  8  adopt has found clashes, and adopted the rest`

// app is one run of the program.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	now            func() time.Time

	// The flags of all commands.
	store   string
	output  string
	timeout time.Duration
	yes     bool
}

// Run runs the command that args name, and returns the exit code.
func Run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a := &app{stdin: stdin, stdout: stdout, stderr: stderr, now: time.Now}
	root := a.root()
	root.SetArgs(doubleDashes(root, args))
	err := root.ExecuteContext(ctx)
	if err != nil {
		fmt.Fprintln(stderr, "ipalloc:", err)
	}
	return codeOf(err)
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use: "ipalloc", Short: "Shows and changes pools of IP addresses", Long: about,
		SilenceErrors: true, SilenceUsage: true, DisableAutoGenTag: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("no command is called %q; ipalloc --help lists the commands", args[0])
			}
			return nil
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return usagef("%v; %s --help lists the flags", err, c.CommandPath())
	})
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVar(&a.store, "store", os.Getenv(storeVariable), "URL of the store")
	flags.Lookup("store").DefValue = "" // a password may be in it
	flags.StringVarP(&a.output, "output", "o", formatTable, "table, json, yaml or csv")
	flags.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long the store may take to open")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
	a.addCommands(root)
	return root
}

// addCommands adds the commands in the order in which the help lists them.
func (a *app) addCommands(root *cobra.Command) {
	cobra.EnableCommandSorting = false
	groups := []struct {
		title    string
		commands []*cobra.Command
	}{
		{"Look", []*cobra.Command{a.pools(), a.show(), a.who(), a.owners(), a.history(), a.watch(), a.serve()}},
		{"Give and take", []*cobra.Command{a.allocate(), a.renew(), a.release(), a.reserve(), a.unreserve()}},
		{"Pools", []*cobra.Command{a.create(), a.ensure(), a.update(), a.drain(), a.renumber(), a.delete()}},
		{"Check and mend", []*cobra.Command{a.doctor(), a.verify(), a.repair()}},
		{"Move", []*cobra.Command{a.export(), a.importPool(), a.copy(), a.adopt()}},
	}
	for _, group := range groups {
		root.AddGroup(&cobra.Group{ID: group.title, Title: group.title + ":"})
		for _, c := range group.commands {
			c.GroupID = group.title
			if c.ValidArgsFunction == nil {
				c.ValidArgsFunction = cobra.NoFileCompletions
			}
			root.AddCommand(c)
		}
	}
}

// doubleDashes writes the long flags that have one dash, as Go's own flags may, with two.
func doubleDashes(root *cobra.Command, args []string) []string {
	long := map[string]bool{"help": true}
	collect := func(f *pflag.Flag) { long[f.Name] = true }
	root.PersistentFlags().VisitAll(collect)
	for _, c := range root.Commands() {
		c.Flags().VisitAll(collect)
	}
	all := make([]string, len(args))
	for i, arg := range args {
		all[i] = arg
		if arg == "--" {
			copy(all[i:], args[i:])
			break
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(arg, "-"), "=")
		if strings.HasPrefix(arg, "-") && len(name) > 1 && long[name] {
			all[i] = "-" + arg
		}
	}
	return all
}

// withStore opens the store, runs do, and closes the store. A store that is not there is made only if create is set.
func (a *app) withStore(ctx context.Context, create bool, do func(db store.Store) error) error {
	if a.store == "" {
		return usagef("no store is named, want --store or %s, such as bolt:addresses.db", storeVariable)
	}
	return a.withStoreAt(ctx, a.store, create, do)
}

func (a *app) withStoreAt(ctx context.Context, url string, create bool, do func(db store.Store) error) error {
	opening, cancel := context.WithTimeout(ctx, a.timeout)
	db, err := stores.Open(opening, url, create)
	late := opening.Err() != nil && ctx.Err() == nil
	cancel()
	if err != nil && late {
		return fmt.Errorf("%w; --timeout is %v", err, a.timeout)
	}
	if err != nil {
		return err
	}
	return errors.Join(do(db), db.Close())
}

// isTerminal reports whether w is a terminal, and how many columns it has.
func isTerminal(w io.Writer) (columns int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0, false
	}
	columns, _, err := term.GetSize(int(f.Fd()))
	return columns, err == nil
}
