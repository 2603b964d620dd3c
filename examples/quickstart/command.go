package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

const usage = `Usage: quickstart [-db FILE] [-pool POOL.yaml] [-release] [OWNER...]

Gives each OWNER one address of each family that the pool has, and prints who holds what and how much is left.
An owner that holds addresses already keeps them. With no OWNER it only prints.

  -db FILE         the file that keeps the pools (default ipalloc.db); created if there is none
  -pool POOL.yaml  a pool of the Cluster API in-cluster IPAM provider: an InClusterIPPool or GlobalInClusterIPPool,
                   v1alpha1 or v1alpha2; created in FILE if it is not there yet, and changed there if POOL.yaml
                   has changed, unless that would leave out addresses that are held
                   (default: a built-in one of 192.0.2.0/24 and 2001:db8::/64)
  -release         release what each OWNER holds
  -h               print this

Examples:

  quickstart alice bob
  quickstart -pool pool.yaml node-1
  quickstart -release alice

A command does its work for all the owners that it names, or says why not in one line on standard error, ends with
status 1, and changes nothing that anybody holds. It waits a second for another one that uses FILE.
`

// command is what the command line asks for.
type command struct {
	db       string
	poolFile string // empty for the built-in pool
	release  bool
	owners   []string // without duplicates
}

func parseCommand(args []string) (command, error) {
	var c command
	poolGiven := false
	flags := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints errors and usage
	flags.StringVar(&c.db, "db", "ipalloc.db", "")
	flags.StringVar(&c.poolFile, "pool", "", "")
	flags.BoolVar(&c.release, "release", false, "")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return c, err
		}
		return c, fmt.Errorf("%w; -h tells what there is", err)
	}
	if c.db == "" {
		return c, errors.New("-db is empty, want the name of a file")
	}
	flags.Visit(func(f *flag.Flag) { poolGiven = poolGiven || f.Name == "pool" })
	if poolGiven && c.poolFile == "" {
		return c, errors.New("-pool is empty, want the name of a file")
	}
	var err error
	if c.owners, err = parseOwners(flags.Args()); err != nil {
		return c, err
	}
	if c.release && len(c.owners) == 0 {
		return c, errors.New("-release names no owner, want at least one")
	}
	return c, nil
}

// parseOwners checks the owners and drops those that came before.
func parseOwners(args []string) ([]string, error) {
	var owners []string
	seen := map[string]bool{}
	for _, owner := range args {
		if err := checkOwner(owner); err != nil {
			return nil, err
		}
		if !seen[owner] {
			owners = append(owners, owner)
		}
		seen[owner] = true
	}
	return owners, nil
}

// checkOwner refuses an owner before anything is done for those that come before it.
func checkOwner(owner string) error {
	if owner == "" {
		return errors.New(`the owner "" is empty, want a name`)
	}
	if strings.HasPrefix(owner, "-") {
		return fmt.Errorf("the owner %q looks like a flag, want flags before the first owner", owner)
	}
	key := store.Key{Kind: store.KindAllocation, Pool: builtInName, Name: owner}
	if err := key.Validate(); err != nil {
		return fmt.Errorf("the owner %.40q cannot be one: %w", owner, err)
	}
	return nil
}
