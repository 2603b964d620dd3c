package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
	"github.com/ipalloc/ipalloc/pool"
)

// request is what the arguments of assign, repair or show ask for.
type request struct {
	db       string // empty to keep nothing
	dryRun   bool
	output   string
	drain    bool
	anySize  bool
	strategy pool.Strategy
	bits     map[pool.Family]int
	files    []string
}

// newFlags returns flags whose help begins with a text.
func (p *program) newFlags(command, arguments, text string) *flag.FlagSet {
	flags := flag.NewFlagSet("kubeaddr "+command, flag.ContinueOnError)
	flags.SetOutput(p.stdout)
	flags.Usage = func() {
		fmt.Fprintf(p.stdout, "Usage: kubeaddr %s [FLAGS] %s\n\n%s\n\nFlags:\n", command, arguments, text)
		flags.PrintDefaults()
	}
	return flags
}

// parse parses arguments. A wrong one is an error, which says so once.
func (p *program) parse(flags *flag.FlagSet, args []string) error {
	help := flags.Usage
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		flags.SetOutput(p.stdout)
		help()
		return err
	}
	if err != nil {
		return usageError("%v; -h tells what there is", err)
	}
	for _, arg := range flags.Args() {
		if len(arg) > 1 && arg[0] == '-' {
			return usageError("%s is not the first, want flags before all else", arg)
		}
	}
	return nil
}

// addFlags adds the flags of the commands that read a cluster.
func (r *request) addFlags(flags *flag.FlagSet) {
	r.bits = map[pool.Family]int{}
	flags.BoolVar(&r.dryRun, "dry-run", false, "change nothing in the file of -db")
	flags.StringVar(&r.output, "o", "table", "what to print: table, or patch for a stream of YAML that sets what is new")
	flags.BoolVar(&r.drain, "drain", false, "let addresses in use lie outside of changed ranges until they are released")
	flags.BoolVar(&r.anySize, "any-size", false, "allow subnets that are too large for kubeadm")
	flags.Func("strategy", "which free address to give: lowest, next or random (default lowest)", r.setStrategy)
	for _, family := range []pool.Family{pool.IPv4, pool.IPv6} {
		r.addBitsFlag(flags, family)
	}
}

func (r *request) setStrategy(text string) error {
	r.strategy = pool.Strategy(text)
	return pool.Spec{Families: []pool.Family{pool.IPv4}, Strategy: r.strategy}.Validate()
}

func (r *request) addBitsFlag(flags *flag.FlagSet, family pool.Family) {
	name, most, usual := "node-cidr-mask-size-ipv4", 32, 24
	if family == pool.IPv6 {
		name, most, usual = "node-cidr-mask-size-ipv6", 128, 64
	}
	text := fmt.Sprintf("the prefix `length` of a node's %v pod CIDR, if not that of the configuration (default %d)",
		family, usual)
	flags.Func(name, text, func(value string) error {
		n, err := lengthOf(value, most)
		r.bits[family] = n
		return err
	})
}

// addDB adds the flag for the file.
func (r *request) addDB(flags *flag.FlagSet) {
	flags.StringVar(&r.db, "db", "", "the `file` that keeps the addresses; none by default, so that nothing is kept")
}

// parseCluster parses the arguments of a command that reads a cluster.
func (p *program) parseCluster(flags *flag.FlagSet, r *request, args []string) error {
	r.addDB(flags)
	r.addFlags(flags)
	if err := p.parse(flags, args); err != nil {
		return err
	}
	r.files = flags.Args()
	switch {
	case len(r.files) == 0:
		return usageError("there is no file, want the configuration of kubeadm at least, or - for standard input")
	case r.output != "table" && r.output != "patch":
		return usageError("-o %q is not known, want table or patch", r.output)
	}
	return nil
}

// read reads the files.
func (p *program) read(r request) (*cluster.Cluster, error) {
	files := make([]object.File, len(r.files))
	for i, name := range r.files {
		var err error
		files[i].Name = name
		if name == "-" {
			files[i].Name = "standard input"
			files[i].Data, err = io.ReadAll(p.stdin)
		} else {
			files[i].Data, err = os.ReadFile(name)
		}
		if err != nil {
			return nil, err
		}
	}
	return cluster.Read(files, &cluster.Options{NodeBits: r.bits, AnySize: r.anySize})
}
