package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/vpc"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

const vpcHelp = `Cuts the network of a cloud into subnets for nodes, such as public and private ones, each of a
prefix LENGTH of its own. NETWORK is a CIDR, or several with commas in between; in one of both
families a subnet may have two lengths. With -zones there is a subnet of each NAME in each zone.
With -db the subnets are kept in a file: the next run adds more, and what exists stays where it is.

  kubeaddr vpc -zones a,b,c 10.0.0.0/16 public/24 private/19
  kubeaddr vpc 10.0.0.0/16,2001:db8:42::/56 public/24/64`

// vpcRequest is what the arguments of vpc ask for.
type vpcRequest struct {
	request
	cloud   vpc.Cloud
	network []netip.Prefix
	wishes  []vpc.Wish
}

// vpc is the command of that name.
func (p *program) vpc(ctx context.Context, args []string) error {
	r, err := p.parseVPC(args)
	if err != nil {
		return err
	}
	if err := vpc.Check(r.cloud, r.network, r.wishes); err != nil {
		return err // before there is a file
	}
	s, err := openStore(ctx, r.request)
	if err != nil {
		return err
	}
	defer s.Close() // what is committed is on the disk already
	subnets, err := vpc.Cut(ctx, s, r.cloud, r.network, r.wishes)
	if err != nil {
		return err
	}
	return p.printSubnets(ctx, s, subnets)
}

func (p *program) parseVPC(args []string) (vpcRequest, error) {
	var r vpcRequest
	flags := p.newFlags("vpc", "NETWORK NAME/LENGTH...", vpcHelp)
	r.addDB(flags)
	zones := flags.String("zones", "", "comma-separated `zones`, each of which gets all the subnets")
	r.cloud = vpc.Clouds()[0]
	flags.Func("cloud", "the cloud, aws or azure, which keeps some addresses of each subnet (default aws)",
		r.setCloud)
	if err := p.parse(flags, args); err != nil {
		return r, err
	}
	if flags.NArg() < 2 {
		return r, usageError("want a network and at least one subnet, such as 10.0.0.0/16 public/24")
	}
	for text := range strings.SplitSeq(flags.Arg(0), ",") {
		prefix, err := cidr.ParsePrefix(text)
		if err != nil {
			return r, usageError("the network %v", err)
		}
		r.network = append(r.network, prefix)
	}
	return r, r.addWishes(flags.Args()[1:], strings.Split(*zones, ","))
}

// setCloud sets the cloud of that name.
func (r *vpcRequest) setCloud(name string) error {
	i := slices.IndexFunc(vpc.Clouds(), func(c vpc.Cloud) bool { return c.Name == name })
	if i < 0 {
		return errors.New("is not known, want aws or azure")
	}
	r.cloud = vpc.Clouds()[i]
	return nil
}

// addWishes adds a wish for each subnet and zone. Without zones there is one that is empty.
func (r *vpcRequest) addWishes(args, zones []string) error {
	families := pool.Spec{Ranges: rangesOf(r.network)}.AllFamilies()
	for _, arg := range args {
		name, rest, ok := strings.Cut(arg, "/")
		lengths := strings.Split(rest, "/")
		if !ok || name == "" || len(lengths) > len(families) {
			return usageError("the subnet %q is not a name and a length for each family of the network, "+
				"want NAME/LENGTH, such as public/24", arg)
		}
		var prefixes []vpc.Length
		for i, length := range lengths {
			bits, err := lengthOf(length, families[i].Width())
			if err != nil {
				return usageError("the subnet %q: %v", arg, err)
			}
			prefixes = append(prefixes, vpc.Length{Family: families[i], Bits: bits})
		}
		for _, zone := range zones {
			r.wishes = append(r.wishes, vpc.Wish{Name: inZone(name, zone), Prefixes: prefixes})
		}
	}
	return nil
}

func inZone(name, zone string) string {
	if zone == "" {
		return name
	}
	return name + "-" + zone
}

// lengthOf reads a prefix length from 1 to most.
func lengthOf(text string, most int) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, fmt.Errorf("%q is not a prefix length, want 1 to %d", text, most)
	}
	return n, nil
}

// printSubnets prints the subnets, and what is left of the network.
func (p *program) printSubnets(ctx context.Context, s store.Store, subnets []vpc.Subnet) error {
	var lines [][]any
	for _, subnet := range subnets {
		info, err := subnet.Pool.Info(ctx)
		if err != nil {
			return err
		}
		for _, prefix := range subnet.Prefixes {
			lines = append(lines, subnetLine(subnet.Name, prefix, info))
		}
	}
	free, err := freeText(ctx, s)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(p.stdout)
	printTable(w, func(line func(...any)) {
		line("SUBNET", "CIDR", "ADDRESSES", "RESERVED", "FOR NODES", "FIRST", "LAST")
		for _, cells := range lines {
			line(cells...)
		}
	})
	fmt.Fprintf(w, "\nfree: %s\n", free)
	return w.Flush()
}

// subnetLine is one family of a subnet.
func subnetLine(name string, prefix netip.Prefix, info pool.Info) []any {
	family := pool.FamilyOf(prefix.Addr())
	usable := info.Spec.Set(family).Ranges()
	stats := info.StatsOf(family)
	return []any{
		name, prefix, stats.Total, stats.Reserved, stats.Total.Sub(stats.Reserved),
		usable[0].From(), usable[len(usable)-1].To(),
	}
}

// freeText is what is left of the network.
func freeText(ctx context.Context, s store.Store) (string, error) {
	network, err := pool.Open(ctx, s, vpc.Name, nil)
	if err != nil {
		return "", err
	}
	info, err := network.Info(ctx)
	if err != nil {
		return "", err
	}
	var free []netip.Prefix
	for _, family := range info.Spec.AllFamilies() {
		set, err := network.FreeSet(ctx, family)
		if err != nil {
			return "", err
		}
		free = append(free, set.Prefixes()...)
	}
	return cmp.Or(join(free), "nothing"), nil
}
