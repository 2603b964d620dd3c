// Command ipalloc shows and mends the pools in a store. docs/command.md in the repository has its help.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/ipalloc/ipalloc/cmd/ipalloc/internal/command"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := command.Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
