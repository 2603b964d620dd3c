// Kubeaddr does the addressing of a cluster that kubeadm makes: the pod CIDRs of its nodes and the addresses of its
// Services, from the configuration files of kubeadm and from Nodes and Services as kubectl prints them. It also cuts
// the network of a cloud into subnets.
//
//	go run ./examples/kubeadm assign examples/kubeadm/testdata/init-dual-stack.yaml nodes.yaml services.yaml
//	go run ./examples/kubeadm vpc -zones a,b,c 10.0.0.0/16 public/24 private/19
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `Usage: kubeaddr COMMAND [FLAGS] FILE...

  assign   give each Node its pod CIDRs and each Service its addresses, and print them
  repair   make the kept addresses agree with a list of all Nodes and Services
  show     print what is kept
  vpc      cut the network of a cloud into subnets for nodes

kubeaddr COMMAND -h explains a command. An error is printed on standard error, and the status is then 1, or 2 for wrong
arguments.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	status := p.run(ctx, os.Args[1:])
	stop()
	os.Exit(status)
}

// program is one run of the program, with what it reads and writes.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// errUsage is returned for wrong arguments.
var errUsage = errors.New("wrong arguments")

func usageError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// run runs a command and returns the status.
func (p *program) run(ctx context.Context, args []string) int {
	err := p.command(ctx, args)
	switch {
	case err == nil:
		return 0
	case errors.Is(err, flag.ErrHelp): // printed already
		return 0
	}
	fmt.Fprintf(p.stderr, "kubeaddr: %v\n", err)
	if errors.Is(err, errUsage) {
		return 2
	}
	return 1
}

func (p *program) command(ctx context.Context, args []string) error {
	commands := map[string]func(context.Context, []string) error{
		"assign": p.assign, "repair": p.repair, "show": p.show, "vpc": p.vpc,
	}
	if len(args) == 0 {
		return usageError("there is no command\n%s", usage)
	}
	switch args[0] {
	case "-h", "-help", "--help", "help":
		_, err := io.WriteString(p.stdout, usage)
		return err
	}
	command, ok := commands[args[0]]
	if !ok {
		return usageError("there is no command %q\n%s", args[0], usage)
	}
	return command(ctx, args[1:])
}
