// Quickstart hands out addresses from a pool that is kept in a file.
//
//	go run ./examples/quickstart alice bob
//	go run ./examples/quickstart -pool examples/quickstart/testdata/inclusterippool-v1alpha2.yaml node-1 node-2
//	go run ./examples/quickstart -release alice
//
// Each owner gets one address of each family that the pool has, and gets the same ones whenever it asks again. A
// command is carried out for all the owners that it names, or is refused before it changes anything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run is the program: it returns 0, or 1 after one line on stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := runCommand(ctx, args, stdout)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "quickstart: %s\n", oneLine(err.Error()))
	return 1
}

func runCommand(ctx context.Context, args []string, stdout io.Writer) error {
	c, err := parseCommand(args)
	if errors.Is(err, flag.ErrHelp) {
		_, err = io.WriteString(stdout, usage)
		return err
	}
	if err != nil {
		return err
	}
	output, err := c.execute(ctx)
	if err != nil {
		return err
	}
	_, err = io.WriteString(stdout, output)
	return err
}

// oneLine is text with its line breaks, as a file's name may have, written out.
func oneLine(text string) string {
	return strings.NewReplacer("\n", `\n`, "\r", `\r`).Replace(text)
}
