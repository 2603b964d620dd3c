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

// How handles run.
const (
	inGoroutines = "goroutines" // all in this process
	inProcesses  = "processes"  // each in a process of its own
)

// writers are so many goroutines on each of so many handles.
type writers struct{ handles, goroutines int }

func (w writers) String() string { return fmt.Sprintf("%dx%d", w.handles, w.goroutines) }

// all is how many goroutines there are.
func (w writers) all() int { return w.handles * w.goroutines }

// plan is what is to be measured.
type plan struct {
	stores, as   []string
	writers      []writers
	length, held time.Duration
	kill, stop   float64 // shares of the handles
	wait, apart  bool
	addresses    int
	seed         uint64
}

// What is measured if no flag says so.
const (
	usualLength    = time.Minute
	usualAddresses = 1<<16 - 2
	waitHeld       = 20 * time.Millisecond
	waitAddresses  = 14
)

var (
	usualWriters = []writers{{1, 1}, {1, 4}, {1, 16}, {1, 64}, {4, 1}, {16, 1}, {64, 1}, {4, 4}, {16, 4}}
	waitWriters  = []writers{{1, 50}, {4, 10}}
)

// define defines the flags, whose values go to the plan.
func (p *plan) define(flags *flag.FlagSet) {
	p.stores, p.as = slices.Clone(storeNames), []string{inGoroutines}
	flags.Func("store", "the stores: "+strings.Join(storeNames, ", ")+" (default all)",
		choice.List(&p.stores, storeNames...))
	flags.Func("as", "where handles run: goroutines of this process, processes, or both (default goroutines)",
		choice.List(&p.as, inGoroutines, inProcesses))
	flags.Func("writers", "handles x goroutines on each, as in 1x16,16x1 (default a list)", func(text string) (err error) {
		p.writers, err = parseWriters(text)
		return err
	})
	flags.DurationVar(&p.length, "for", usualLength, "how long each row is measured")
	flags.DurationVar(&p.held, "held", 0, "how long an address is held (default 0, with -wait 20ms)")
	flags.Float64Var(&p.kill, "kill", 0, "the `share` of the handles that are killed and started again; of processes only")
	flags.Float64Var(&p.stop, "stop", 0, "the `share` of the handles that are stopped for a while; of processes only")
	flags.BoolVar(&p.wait, "wait", false, "have writers wait for one of few addresses, with AllocateWait")
	flags.BoolVar(&p.apart, "apart", false,
		"give each handle a pool of its own: what so many handles can do that do not contend")
	flags.IntVar(&p.addresses, "addresses", 0, "how many addresses the pool has (default 65534, with -wait 14)")
	flags.Uint64Var(&p.seed, "seed", 1, "chooses who is killed and stopped, and when")
}

func parseWriters(text string) (all []writers, err error) {
	pairs, err := choice.Pairs(text, "handles", "goroutines")
	for _, p := range pairs {
		all = append(all, writers{p[0], p[1]})
	}
	return all, err
}

// check fills in what depends on other flags, and refuses what cannot be measured.
func (p *plan) check() error {
	writers, addresses, held := usualWriters, usualAddresses, p.held
	if p.wait {
		writers, addresses = waitWriters, waitAddresses
		if held == 0 {
			held = waitHeld
		}
	}
	p.held = held
	if p.writers == nil {
		p.writers = writers
	}
	if p.addresses == 0 {
		p.addresses = addresses
	}
	switch {
	case p.kill+p.stop > 0 && slices.Contains(p.as, inGoroutines):
		return errors.New("-kill and -stop need -as processes")
	case min(p.kill, p.stop) < 0 || p.kill+p.stop > 1:
		return errors.New("-kill and -stop are shares: no less than 0, and no more than 1 together")
	case p.length <= 0 || p.held < 0:
		return errors.New("-for and -held are lengths of time")
	case p.addresses < 1 || p.addresses > usualAddresses:
		return fmt.Errorf("-addresses is no number from 1 to %d", usualAddresses)
	}
	for _, w := range p.writers {
		if !p.wait && w.all() > p.addresses {
			return fmt.Errorf("%v writers would find a pool of %d addresses full", w, p.addresses)
		}
	}
	return nil
}
