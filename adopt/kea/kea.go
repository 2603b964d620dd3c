// Package kea reads the leases of Kea's DHCPv4 and DHCPv6 servers.
//
// It reads the files of the memfile backend (kea-leases4.csv, kea-leases6.csv), what kea-admin lease-dump writes of a
// database, which has the same columns, and the answer to the commands lease4-get-all and lease6-get-all in JSON. In
// the CSV the last line of an address counts, as it does for Kea. The formats are those of Kea 2.2; columns are found
// by their names, so that files of other versions are read too.
//
// Leases in the state "default" are taken, and those of Kea 2.6 and later that are only registered are not: the server
// does not hand out their addresses. Declined, reclaimed and released leases are left out.
//
// Owners are id:HEX for a DHCPv4 client with an identifier and else hw:MAC, and duid:HEX/na/IAID, .../ta/IAID or
// .../pd/IAID for DHCPv6. The label subnet-id has Kea's number of the subnet.
package kea

import (
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/client"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/cidr"
)

// Read returns the leases: of CSV those lines that count, and of JSON all, in the order of the source. Cost: O(1) of
// memory for JSON; for CSV about 100 bytes for each address in it, however many lines it has.
func Read(r io.ReadSeeker) adopt.Entries {
	return func(yield func(adopt.Entry, error) bool) {
		isJSON, err := input.Begins(r, "{[")
		if err != nil {
			yield(adopt.Entry{}, err)
			return
		}
		read := readCSV
		if isJSON {
			read = readJSON
		}
		read(r)(yield)
	}
}

// lease is a lease as both formats have it.
type lease struct {
	address, length         string
	hardware, clientID      string // of DHCPv4
	duid, iaid, kind        string // of DHCPv6
	state, hostname, subnet string
	lifetime                int64 // in seconds; 0 says that the lease is gone
	ends                    time.Time
}

// The states of leases that clients have, as CSV and JSON have them and as databases name them.
var inUse = map[string]bool{"0": true, "default": true}

// The kinds of leases of DHCPv6, as CSV and JSON have them.
var kinds = map[string]string{
	"0": client.NA, "1": client.TA, "2": client.PD, "IA_NA": client.NA, "IA_TA": client.TA, "IA_PD": client.PD,
}

// prefix is the address, or the prefix that was delegated.
func (l lease) prefix() (netip.Prefix, error) {
	if kinds[l.kind] == client.PD {
		return cidr.ParsePrefix(l.address + "/" + l.length)
	}
	addr, err := cidr.ParseAddr(l.address)
	return netip.PrefixFrom(addr, addr.BitLen()), err
}

// entry returns the entry of a lease; false if it is not in use.
func (l lease) entry() (e adopt.Entry, ok bool, err error) {
	prefix, err := l.prefix()
	if err != nil || !inUse[l.state] || l.lifetime == 0 {
		return adopt.Entry{}, false, err
	}
	ends := l.ends
	if client.IsForever(l.lifetime) {
		ends = time.Time{}
	}
	if l.duid == "" {
		e, err = l.entry4(prefix, ends)
	} else {
		e, err = l.entry6(prefix, ends)
	}
	if err != nil {
		return adopt.Entry{}, false, err
	}
	if l.subnet != "" {
		e.Labels["subnet-id"] = l.subnet
	}
	return e, true, nil
}

func (l lease) entry4(prefix netip.Prefix, ends time.Time) (adopt.Entry, error) {
	id, err := client.Digits(l.clientID)
	if err != nil {
		return adopt.Entry{}, err
	}
	return client.V4(prefix, l.hardware, id, l.hostname, ends)
}

func (l lease) entry6(prefix netip.Prefix, ends time.Time) (adopt.Entry, error) {
	duid, err := client.Digits(l.duid)
	if err != nil {
		return adopt.Entry{}, err
	}
	iaid, err := client.IAID(l.iaid)
	if err != nil {
		return adopt.Entry{}, err
	}
	kind, ok := kinds[l.kind]
	if !ok {
		return adopt.Entry{}, fmt.Errorf("%s is no type of lease", input.Quote(l.kind))
	}
	return client.V6(prefix, kind, duid, iaid, l.hostname, ends)
}
