// Package dnsmasq reads dnsmasq's file of leases.
//
// The file, dnsmasq.leases, has one lease a line: when it ends in seconds since 1970 (0 for never), the hardware
// address or IAID, the address, the hostname and the client's identifier. After a line with the server's DUID come the
// leases of DHCPv6. The format is that of lease.c in dnsmasq 2.90.
//
// Owners are id:HEX for a DHCPv4 client with an identifier and else hw:MAC, and duid:HEX/na/IAID or duid:HEX/ta/IAID
// for DHCPv6.
package dnsmasq

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/client"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
	"github.com/ipalloc/ipalloc/cidr"
)

// Read returns the leases of the file, in its order. Cost: O(1) of memory.
func Read(r io.ReadSeeker) adopt.Entries {
	return input.Stream(func(yield func(adopt.Entry) error) error {
		v6 := false
		return input.Lines(r, func(n int, line string) error {
			fields := strings.Fields(line)
			if len(fields) == 0 {
				return nil
			}
			if fields[0] == "duid" {
				v6 = true
				return nil
			}
			e, err := readLine(fields, v6)
			if err != nil {
				return input.Invalid(input.AtLine(n), "%w", err)
			}
			e.At = input.AtLine(n)
			return yield(e)
		})
	})
}

// fieldsOfLease is how many fields a lease has.
const fieldsOfLease = 5

func readLine(fields []string, v6 bool) (adopt.Entry, error) {
	if len(fields) != fieldsOfLease {
		return adopt.Entry{}, fmt.Errorf("%s has %d fields, want %d", input.Quote(strings.Join(fields, " ")), len(fields),
			fieldsOfLease)
	}
	ends, err := client.Ends(fields[0])
	if err != nil {
		return adopt.Entry{}, err
	}
	if ends.Unix() == 0 {
		ends = time.Time{}
	}
	addr, err := cidr.ParseAddr(fields[2])
	if err != nil {
		return adopt.Entry{}, err
	}
	id, err := client.Digits(fields[4])
	if err != nil {
		return adopt.Entry{}, err
	}
	prefix := netip.PrefixFrom(addr, addr.BitLen())
	if !v6 {
		return client.V4(prefix, hardware(fields[1]), id, fields[3], ends)
	}
	number, temporary := strings.CutPrefix(fields[1], "T")
	iaid, err := client.IAID(number)
	if err != nil {
		return adopt.Entry{}, err
	}
	kind := client.NA
	if temporary {
		kind = client.TA
	}
	return client.V6(prefix, kind, id, iaid, fields[3], ends)
}

// hardware is the hardware address of a field, which begins with the type of the hardware, as in 06-02:00:00:00:00:01,
// if it is not Ethernet; empty if the client has none.
func hardware(field string) string {
	if _, address, ok := strings.Cut(field, "-"); ok {
		return address
	}
	return field
}
