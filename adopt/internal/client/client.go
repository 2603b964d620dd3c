// Package client makes entries of the leases of DHCP clients, with the same owners whatever server they come from.
package client

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// The kinds of identity associations of DHCPv6 (RFC 8415, section 4.2).
const (
	NA = "na"
	TA = "ta"
	PD = "pd"
)

// forever is the lifetime that never ends (RFC 2131, section 3.3, and RFC 8415, section 7.7), in seconds.
const forever = 1<<32 - 1

// V4 returns the entry of a DHCPv4 client with a hardware address, an identifier or both. If there is an identifier, it
// names the owner (RFC 2131, section 4.2).
func V4(prefix netip.Prefix, hardware string, id []byte, hostname string, ends time.Time) (adopt.Entry, error) {
	if !prefix.Addr().Is4() {
		return adopt.Entry{}, fmt.Errorf("%v is no IPv4 address", prefix.Addr())
	}
	e := adopt.Entry{Prefixes: []netip.Prefix{prefix}, Ends: ends, Labels: map[string]string{}}
	if hardware != "" {
		mac, err := net.ParseMAC(hardware)
		if err != nil {
			return adopt.Entry{}, fmt.Errorf("%s is no hardware address", input.Quote(hardware))
		}
		e.Owner = "hw:" + mac.String()
		e.Labels["hardware"] = mac.String()
	}
	if len(id) > 0 {
		text := hex.EncodeToString(id)
		e.Owner = "id:" + text
		e.Labels["client-id"] = text
	}
	if e.Owner == "" {
		return adopt.Entry{}, fmt.Errorf("the lease of %v has no client", prefix.Addr())
	}
	setHostname(e, hostname)
	return e, nil
}

// V6 returns the entry of an identity association of a DHCPv6 client. The owner is the association.
func V6(prefix netip.Prefix, kind string, duid []byte, iaid uint32, hostname string, ends time.Time,
) (adopt.Entry, error) {
	if !prefix.Addr().Is6() {
		return adopt.Entry{}, fmt.Errorf("%v is no IPv6 prefix", prefix)
	}
	if len(duid) == 0 {
		return adopt.Entry{}, fmt.Errorf("the lease of %v has no client", prefix)
	}
	text, number := hex.EncodeToString(duid), fmt.Sprintf("%08x", iaid)
	e := adopt.Entry{
		Owner: "duid:" + text + "/" + kind + "/" + number, Prefixes: []netip.Prefix{prefix}, Ends: ends,
		Labels: map[string]string{"duid": text, "ia": kind, "iaid": number},
	}
	setHostname(e, hostname)
	return e, nil
}

func setHostname(e adopt.Entry, name string) {
	if name != "" && name != "*" {
		e.Labels["hostname"] = name
	}
}

// Digits are bytes as hexadecimal digits, with or without colons between them; none for "*" and "".
func Digits(text string) ([]byte, error) {
	if text == "*" {
		return nil, nil
	}
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return nil, fmt.Errorf("%s is not hexadecimal digits", input.Quote(text))
	}
	return b, nil
}

// IAID parses the number of an identity association.
func IAID(text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%s is no IAID, want 0 to 4294967295", input.Quote(text))
	}
	return uint32(n), nil
}

// maxSeconds is the last second of the year 9999, after which times cannot be written as text.
const maxSeconds int64 = 253402300799

// Ends parses the end of a lease, in seconds since 1970.
func Ends(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("%s is no time in seconds since 1970", input.Quote(text))
	}
	return At(seconds)
}

// At is a time in seconds since 1970.
func At(seconds int64) (time.Time, error) {
	if seconds < 0 || seconds > maxSeconds {
		return time.Time{}, fmt.Errorf("%d is no time in seconds since 1970, want 0 to %d", seconds, maxSeconds)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// IsForever reports whether a lifetime in seconds never ends.
func IsForever(lifetime int64) bool { return lifetime == forever }

// ErrNoEnd is returned for a lease that does not say when it ends.
var ErrNoEnd = errors.New("it has no end")
