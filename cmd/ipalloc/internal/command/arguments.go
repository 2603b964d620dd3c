package command

import (
	"context"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// arguments checks how many arguments a command has; most below 0 means any number.
func arguments(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) < least || most >= 0 && len(args) > most {
			return usagef("the arguments are %q, want: %s", args, c.UseLine())
		}
		return nil
	}
}

// parseAddr parses an address in an argument or a flag.
func parseAddr(text string) (netip.Addr, error) {
	addr, err := cidr.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, usagef("%v", err)
	}
	return addr, nil
}

// parsePrefix parses an address or a prefix without host bits.
func parsePrefix(text string) (netip.Prefix, error) {
	if !strings.Contains(text, "/") {
		addr, err := parseAddr(text)
		if err != nil {
			return netip.Prefix{}, err
		}
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := cidr.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, usagef("%v", err)
	}
	return prefix, nil
}

// parseLabels parses name=value.
func parseLabels(texts []string) (map[string]string, error) {
	var labels map[string]string
	for _, text := range texts {
		name, value, ok := strings.Cut(text, "=")
		if !ok {
			return nil, usagef("the label %q has no =, want NAME=VALUE", text)
		}
		if _, twice := labels[name]; twice {
			return nil, usagef("the label %q is there twice", name)
		}
		if labels == nil {
			labels = map[string]string{}
		}
		labels[name] = value
	}
	return labels, nil
}

// readFile reads a file that a flag names; - is the standard input.
func (a *app) readFile(name string) ([]byte, error) {
	switch name {
	case "":
		return nil, usagef("the flag --file is missing, want a file, or - for the standard input")
	case "-":
		return io.ReadAll(a.stdin)
	}
	return os.ReadFile(name)
}

func rangeTexts(ranges []netipx.IPRange) []string {
	texts := []string{}
	for _, r := range ranges {
		texts = append(texts, cidr.FormatRange(r))
	}
	return texts
}

// completionTime is how long the completion of names may take.
const completionTime = 2 * time.Second

// completePool completes the first argument, the name of a pool.
func (a *app) completePool(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completePools(c, args, "")
}

// completePools completes any number of names of pools.
func (a *app) completePools(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	a.timeout = completionTime
	ctx, cancel := context.WithTimeout(c.Context(), completionTime)
	defer cancel()
	var names []string
	err := a.withStore(ctx, false, func(db store.Store) error {
		for i, err := range pool.List(ctx, db) {
			if err != nil {
				return err
			}
			names = append(names, i.Name)
		}
		return nil
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
