// Package goipam reads the JSON of github.com/metal-stack/go-ipam.
//
// It reads what Ipamer.Dump returns (a list of prefixes), the file of its storage in a local file (prefixes by
// namespace), and one prefix, as its databases keep it. The format is that of version 1.14.
//
// Its prefixes that were made from others (child prefixes) are in use in these, and its addresses are in use in the
// prefix that has them. The first address of a prefix, and the last one of an IPv4 prefix, which it takes for itself,
// are left out, and so are prefixes without a parent: these are the pools.
//
// It knows no owners, so the owner is the address, or the child prefix. The label kind is "prefix" or "address", the
// label prefix has the prefix that has it, and the label namespace that of a local file.
//
// An address in a child prefix cannot be in one pool with that prefix. Make a pool of the child prefix with
// pool.Delegate, whose claim has the child prefix as its owner and as its exact request, and take over into both.
package goipam

import (
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"slices"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/cidr"
)

// prefix is a prefix of go-ipam.
type prefix struct {
	CIDR   string          `json:"Cidr"`
	Parent string          `json:"ParentCidr"`
	IPs    map[string]bool `json:"IPs"`
}

// fields are the names of the members of a prefix, by which it is told from namespaces.
var fields = []string{
	"Cidr", "ParentCidr", "Namespace", "AvailableChildPrefixes", "ChildPrefixLength", "IsParent", "IPs", "Version",
}

// The values of the label kind.
const (
	kindPrefix  = "prefix"
	kindAddress = "address"
)

// Read returns what is in use, prefix by prefix in the order of the text. Cost: the memory of one prefix.
func Read(r io.ReadSeeker) adopt.Entries {
	return input.Stream(func(yield func(adopt.Entry) error) error {
		return input.OneOrList(r, func(j *input.JSON, inList bool) error {
			d := dump{j, yield}
			if inList {
				return d.next("")
			}
			return d.object()
		})
	})
}

// dump is a text that is read.
type dump struct {
	*input.JSON
	yield func(adopt.Entry) error
}

// object reads an object of namespaces, or a prefix.
func (d dump) object() error {
	members := map[string]json.RawMessage{}
	err := d.Object(func(name string) error {
		if slices.Contains(fields, name) {
			var value json.RawMessage
			err := d.Value(&value)
			members[name] = value
			return err
		}
		return d.Object(func(string) error { return d.next(name) })
	})
	if err != nil || len(members) == 0 {
		return err
	}
	text, err := json.Marshal(members)
	if err != nil {
		return err
	}
	var p prefix
	if err := json.Unmarshal(text, &p); err != nil {
		return input.Invalid("prefix", "%w", err)
	}
	return d.entries(p, "")
}

// next reads a prefix.
func (d dump) next(namespace string) error {
	var p prefix
	if err := d.Value(&p); err != nil {
		return err
	}
	return d.entries(p, namespace)
}

// entries yields what is in use of a prefix.
func (d dump) entries(p prefix, namespace string) error {
	at := fmt.Sprintf("prefix %.80q", p.CIDR)
	network, err := cidr.ParsePrefix(p.CIDR)
	if err != nil {
		return input.Invalid(at, "%w", err)
	}
	var taken []netip.Addr
	for text, inUse := range p.IPs {
		addr, err := cidr.ParseAddr(text)
		if err != nil {
			return input.Invalid(at, "%w", err)
		}
		if !network.Contains(addr) {
			return input.Invalid(at, "%v is not in it", addr)
		}
		if inUse && !itsOwn(network, addr) {
			taken = append(taken, addr)
		}
	}
	if p.Parent != "" {
		parent, err := cidr.ParsePrefix(p.Parent)
		if err != nil {
			return input.Invalid(at, "its parent: %w", err)
		}
		if err := d.yield(entry(network, parent, kindPrefix, namespace, at)); err != nil {
			return err
		}
	}
	slices.SortFunc(taken, netip.Addr.Compare)
	for _, addr := range taken {
		single := netip.PrefixFrom(addr, addr.BitLen())
		if err := d.yield(entry(single, network, kindAddress, namespace, at)); err != nil {
			return err
		}
	}
	return nil
}

// itsOwn reports whether go-ipam takes the address for itself when it makes the prefix.
func itsOwn(network netip.Prefix, addr netip.Addr) bool {
	return addr == network.Addr() || addr.Is4() && !network.Contains(addr.Next())
}

func entry(p, within netip.Prefix, kind, namespace, at string) adopt.Entry {
	labels := map[string]string{"kind": kind, "prefix": within.String()}
	if namespace != "" {
		labels["namespace"] = namespace
	}
	owner := p.String()
	if p.IsSingleIP() {
		owner = p.Addr().String()
	}
	return adopt.Entry{Owner: owner, Prefixes: []netip.Prefix{p}, Labels: labels, At: at}
}
