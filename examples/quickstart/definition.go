package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"go4.org/netipx"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/clusterapi"
	"github.com/ipalloc/ipalloc/pool"
)

// builtInName is the name of the built-in pool. It has a character that no pool of Cluster API can have in its name.
const builtInName = "built-in:dual-stack"

// definition is a pool as it should be.
type definition struct {
	name string // in the store
	spec pool.Spec
}

func readDefinition(poolFile string) (definition, error) {
	if poolFile == "" {
		return builtIn(), nil
	}
	pools, err := clusterapi.ReadFile(poolFile)
	if err != nil {
		return definition{}, joined(err)
	}
	if len(pools) > 1 {
		return definition{}, fmt.Errorf("%s has %d pools, want one", poolFile, len(pools))
	}
	return definition{name: pools[0].StoreName(), spec: pools[0].Spec}, nil
}

// joined is an error with all that is wrong with a pool's file on one line.
func joined(err error) error {
	all := config.FieldErrors(err)
	if len(all) < 2 {
		return err
	}
	texts := make([]string, len(all))
	for i, wrong := range all {
		texts[i] = wrong.Error()
	}
	return errors.New(strings.Join(texts, "; "))
}

// builtIn is a pool of both families, with addresses that are set aside for documentation (RFC 5737, RFC 3849).
func builtIn() definition {
	subnets := []pool.Subnet{
		{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("192.0.2.1")},
		{Prefix: netip.MustParsePrefix("2001:db8::/64"), Gateway: netip.MustParseAddr("2001:db8::1")},
	}
	spec := pool.Spec{Subnets: subnets}
	for _, subnet := range subnets {
		spec.Ranges = append(spec.Ranges, netipx.RangeOfPrefix(subnet.Prefix))
	}
	return definition{name: builtInName, spec: spec}
}

// checkSize refuses more owners than the pool could serve if it were empty, before there is a file.
func (d definition) checkSize(owners int) error {
	for _, family := range d.spec.AllFamilies() {
		if size := cidr.Size(d.spec.Set(family)); size.Cmp(cidr.CountOf(uint64(owners))) < 0 {
			return fmt.Errorf("the pool %q is too small: %d owners need an %v address each, and it has %v; "+
				"nothing was allocated", d.name, owners, family, size)
		}
	}
	return nil
}
