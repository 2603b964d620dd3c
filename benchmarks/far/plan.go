package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/benchmarks/choice"
)

// runNames are the names of [runs], in their order.
var runNames = []string{"owners", "pools", "simulated", "writers"}

// storeNames are the stores that can be measured.
var storeNames = []string{"memory", "bolt", "postgres", "etcd"}

// plan is what is to be measured.
type plan struct {
	runs, stores          []string
	ownerCount, poolCount int
	writerCount           int
	crews                 []crew
	length, every         time.Duration
	roundTrip, commit     time.Duration
	page                  string
}

// crew is so many processes with so many writers each.
type crew struct{ processes, writers int }

func (c crew) String() string { return fmt.Sprintf("%d × %d", c.processes, c.writers) }

// define defines the flags, whose values go to the plan.
func (p *plan) define(flags *flag.FlagSet) {
	p.runs, p.stores = slices.Clone(runNames), slices.Clone(storeNames)
	p.crews = []crew{{1, 1000}, {10, 1000}, {200, 1}}
	flags.Func("run", "what to measure: "+strings.Join(runNames, ", ")+" (default all)", choice.List(&p.runs, runNames...))
	flags.Func("store", "the stores of owners and pools: "+strings.Join(storeNames, ", ")+" (default all)",
		choice.List(&p.stores, storeNames...))
	flags.IntVar(&p.ownerCount, "owners", 10_000_000, "how many owners one pool has at most; at most 16,000,000. "+
		"On etcd and in memory it is a tenth")
	flags.IntVar(&p.poolCount, "pools", 1000, "how many pools one store has")
	flags.IntVar(&p.writerCount, "writers", 10_000, "how many writers the simulation has")
	flags.Func("processes", "processes x writers in each, on etcd (default 1x1000,10x1000,200x1)",
		func(text string) (err error) {
			p.crews, err = parseCrews(text)
			return err
		})
	flags.DurationVar(&p.length, "for", 15*time.Second, "how long writers claim")
	flags.DurationVar(&p.every, "every", 10*time.Second, "how often a writer claims that is not in a hurry")
	flags.DurationVar(&p.roundTrip, "rtt", time.Millisecond, "the round trip of the simulation")
	flags.DurationVar(&p.commit, "commit", 100*time.Microsecond,
		"how long a commit occupies the server of the simulation")
	flags.StringVar(&p.page, "o", "", "the `page` whose tables are replaced (default none)")
}

func parseCrews(text string) (all []crew, err error) {
	pairs, err := choice.Pairs(text, "processes", "writers")
	for _, p := range pairs {
		all = append(all, crew{p[0], p[1]})
	}
	return all, err
}

// The least and the most that can be measured. A pool of a /8 is not to be filled, nor its blocks to run out.
const (
	leastOwners = 1000
	mostOwners  = 16_000_000
	mostWriters = 100_000
)

// check refuses what cannot be measured.
func (p *plan) check() error {
	switch {
	case p.ownerCount < leastOwners || p.ownerCount > mostOwners:
		return fmt.Errorf("-owners %d is not from %d to %d", p.ownerCount, leastOwners, mostOwners)
	case p.poolCount < 1 || p.poolCount > 1<<16:
		return fmt.Errorf("-pools %d is not from 1 to 65536", p.poolCount)
	case p.writerCount < 1 || p.writerCount > mostWriters:
		return fmt.Errorf("-writers %d is not from 1 to %d", p.writerCount, mostWriters)
	case min(p.length, p.every, p.roundTrip, p.commit) <= 0:
		return errors.New("-for, -every, -rtt and -commit are lengths of time above 0")
	}
	for _, c := range p.crews {
		if c.processes*c.writers > mostWriters {
			return fmt.Errorf("-processes: %v are more than %d writers", c, mostWriters)
		}
	}
	return nil
}
