// Command ipallocctl frees what containers hold that are gone, adopts what other plugins have given to containers, and
// changes what a pool has.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/ipalloc/ipalloc/examples/cni/internal/control"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/etcd"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/file"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/kube"
	"github.com/ipalloc/ipalloc/examples/cni/internal/driver/postgres"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	c := &control.Control{
		Drivers: driver.Set{file.Driver(), etcd.Driver(), postgres.Driver(), kube.Driver(false)},
		Stdin:   os.Stdin, Stdout: os.Stdout, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
		Now: time.Now, After: time.After,
	}
	err := c.Run(ctx, os.Args[1:])
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, control.ErrUsage):
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}
