package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/addressing"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/cluster"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const assignHelp = `Gives each Node a pod CIDR of each family of networking.podSubnet, and each Service the addresses
that its ipFamilyPolicy, ipFamilies and clusterIPs ask for. What an object has already, it keeps.
With -db the addresses are kept in a file, and the next run goes on from there. FILEs are
configurations of kubeadm, of which one has the ClusterConfiguration, and Nodes, Services and
ServiceCIDRs in YAML or JSON, as kubectl prints them; - is standard input.`

const repairHelp = `Makes the addresses in the file of -db agree with the Nodes and Services in FILEs, which must be all
that the cluster has: what is gone is released, and what they have is taken over. A kind that is not
in FILEs is left alone.`

const showHelp = `Prints the ranges in the file of -db, and who has what.`

// assign is the command of that name.
func (p *program) assign(ctx context.Context, args []string) error {
	var r request
	flags := p.newFlags("assign", "FILE...", assignHelp)
	if err := p.parseCluster(flags, &r, args); err != nil {
		return err
	}
	return p.change(ctx, r, pool.Update, (*addressing.Pools).Assign)
}

// repair is the command of that name.
func (p *program) repair(ctx context.Context, args []string) error {
	var r request
	flags := p.newFlags("repair", "FILE...", repairHelp)
	if err := p.parseCluster(flags, &r, args); err != nil {
		return err
	}
	if r.db == "" {
		return usageError("there is no -db, want the file to repair")
	}
	return p.change(ctx, r, pool.Drain, (*addressing.Pools).Repair)
}

// change reads a cluster, changes what is kept, and prints what was done.
func (p *program) change(
	ctx context.Context, r request, drift pool.Drift,
	do func(*addressing.Pools, context.Context) ([]addressing.Row, error),
) error {
	begin := time.Now()
	c, err := p.read(r)
	if err != nil {
		return err
	}
	read := time.Now()
	if r.drain {
		drift = pool.Drain
	}
	options := addressing.Options{Strategy: r.strategy, Drift: drift}
	if _, err := os.Stat(r.db); err != nil { // so that there is no new file if anything is wrong
		if _, err := addressing.Prepare(ctx, store.NewMemory(), c, options); err != nil {
			return err
		}
	}
	s, err := openStore(ctx, r)
	if err != nil {
		return err
	}
	defer s.Close() // what is committed is on the disk already
	pools, err := addressing.Prepare(ctx, s, c, options)
	if err != nil {
		return err
	}
	rows, err := do(pools, ctx)
	if err != nil {
		return err
	}
	p.note(c, read.Sub(begin), time.Since(read))
	if err := p.print(ctx, s, r.output, rows); err != nil {
		return err
	}
	return failures(rows)
}

// note says on standard error what was read, and how long it took.
func (p *program) note(c *cluster.Cluster, read, done time.Duration) {
	fmt.Fprintf(p.stderr, "%d Nodes and %d Services: read in %v, done in %v\n", len(c.Nodes), len(c.Services),
		read.Round(time.Millisecond), done.Round(time.Millisecond))
	if len(c.Skipped) == 0 {
		return
	}
	var kinds []string
	for kind, n := range c.Skipped {
		kinds = append(kinds, fmt.Sprintf("%s (%d)", kind, n))
	}
	slices.Sort(kinds)
	fmt.Fprintf(p.stderr, "not read: %s\n", strings.Join(kinds, ", "))
}

// failures joins what is wrong with single objects; nil if nothing is.
func failures(rows []addressing.Row) error {
	var wrong []error
	for _, row := range rows {
		if row.Err != nil {
			wrong = append(wrong, fmt.Errorf("%s %s: %w", row.Kind, row.FullName(), row.Err))
		}
	}
	return errors.Join(wrong...)
}

// show is the command of that name.
func (p *program) show(ctx context.Context, args []string) error {
	var r request
	flags := p.newFlags("show", "", showHelp)
	r.addDB(flags)
	if err := p.parse(flags, args); err != nil {
		return err
	}
	switch {
	case r.db == "":
		return usageError("there is no -db, want the file to show")
	case flags.NArg() > 0:
		return usageError("%q is not a flag", flags.Arg(0))
	}
	s, err := openExisting(ctx, r.db)
	if err != nil {
		return err
	}
	defer s.Close() // nothing was written
	return p.printStore(ctx, s)
}
