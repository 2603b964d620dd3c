// Command burst has many processes claim addresses at once from one pool, and checks that each owner has an address
// of its own and that nothing else is taken.
//
//	go run ./benchmarks/burst [-on KIND] [-processes N] [-claims N] [-kill N] [-apart | -blocks] [-seed N]
//
// It prints how long the burst and the slowest claim took, and how many commits there were and how many of them met
// a conflict. It fails if anything is wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"

	"github.com/ipalloc/ipalloc/benchmarks/durable"
	"github.com/ipalloc/ipalloc/benchmarks/processes"
)

func main() {
	if processes.RunJob() {
		return
	}
	on := flag.String("on", durable.Kinds()[0].Name, "the kind of pool, by its name in the benchmarks' table")
	b := processes.Burst{Prefix: netip.MustParsePrefix("10.0.0.0/16")}
	flag.IntVar(&b.Processes, "processes", 128, "how many processes there are")
	flag.IntVar(&b.Claims, "claims", 16, "how many claims each makes, at once")
	flag.IntVar(&b.Kill, "kill", 0, "how many processes are killed at random; their owners are tried again")
	flag.BoolVar(&b.Apart, "apart", false,
		"open and close the pool for each claim, one after the other, as a CNI plugin does")
	flag.BoolVar(&b.Blocks, "blocks", false, "give each process a block of its own to allocate from")
	flag.Uint64Var(&b.Seed, "seed", 1, "chooses who is killed, and when")
	flag.Parse()
	if err := run(context.Background(), *on, b); err != nil {
		fmt.Fprintln(os.Stderr, "burst:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, on string, b processes.Burst) (err error) {
	kind, err := durable.Find(on)
	if err != nil {
		return err
	}
	b.Kind = kind
	dir, err := os.MkdirTemp("", "ipalloc-burst-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	servers := durable.NewServers(dir)
	defer func() { err = errors.Join(err, servers.Close()) }()
	address, end, err := kind.Prepare(ctx, servers, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end()) }()
	outcome, err := b.Run(ctx, address)
	if err != nil {
		return err
	}
	fmt.Println(outcome)
	if !outcome.OK() {
		return fmt.Errorf("%d claims failed, %d things are wrong", outcome.Failed, len(outcome.Wrong))
	}
	return nil
}
