// Package adopt reads the lease files of other DHCP servers: ISC dhcpd's, dnsmasq's and Kea's.
package adopt

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/examples/dhcp/internal/leases"
)

// ErrInvalid is returned for a file that is not in the format. The message has the line or the lease.
var ErrInvalid = errors.New("lease file")

// Formats are the readers, by the names that the command knows.
var Formats = map[string]func(text []byte) ([]leases.Known, error){"isc": ISC, "dnsmasq": Dnsmasq, "kea": Kea}

// list is leases in the order of the file, of which the last one of an address counts.
type list struct {
	known []leases.Known
	at    map[netip.Prefix]int
}

func (l *list) add(k leases.Known) {
	l.remove(k.Prefix)
	l.at[k.Prefix] = len(l.known)
	l.known = append(l.known, k)
}

func (l *list) remove(p netip.Prefix) {
	if i, ok := l.at[p]; ok {
		l.known[i].Prefix = netip.Prefix{}
	}
	delete(l.at, p)
}

func (l *list) all() []leases.Known {
	return slices.DeleteFunc(l.known, func(k leases.Known) bool { return !k.Prefix.IsValid() })
}

// known4 is a lease of a DHCPv4 client with a hardware address, an identifier or both, the latter in any form of
// digits.
func known4(addr, hardware string, id []byte, hostname string, ends time.Time) (leases.Known, error) {
	ip, err := netip.ParseAddr(addr)
	if err != nil || !ip.Is4() {
		return leases.Known{}, fmt.Errorf("%q is no IPv4 address", addr)
	}
	k := leases.Known{Kind: leases.V4, Prefix: netip.PrefixFrom(ip, 32), Ends: ends}
	k.Client.Hostname = hostname
	if hardware != "" {
		mac, err := net.ParseMAC(hardware)
		if err != nil {
			return k, fmt.Errorf("%q is no hardware address", hardware)
		}
		k.Owner = "hw:" + mac.String()
		k.Client.Hardware, k.Client.Names = k.Owner, []string{k.Owner}
	}
	if len(id) > 0 {
		k.Owner = "id:" + hex.EncodeToString(id)
		k.Client.Names = append(k.Client.Names, k.Owner)
	}
	if k.Owner == "" {
		return k, fmt.Errorf("the lease of %v has no client", ip)
	}
	return k, nil
}

// known6 is a lease of a DHCPv6 client.
func known6(kind leases.Kind, prefix netip.Prefix, duid []byte, iaid uint32, ends time.Time) (leases.Known, error) {
	if !prefix.IsValid() || !prefix.Addr().Is6() || len(duid) == 0 {
		return leases.Known{}, fmt.Errorf("%v is no IPv6 prefix, or has no client", prefix)
	}
	name := "duid:" + hex.EncodeToString(duid)
	return leases.Known{
		Kind: kind, Prefix: prefix, Ends: ends, Client: leases.Client{Names: []string{name}},
		Owner: fmt.Sprintf("%s/%s/%08x", name, kind, iaid),
	}, nil
}

// digits are bytes as hexadecimal digits with colons between them; none for "*" and "".
func digits(text string) ([]byte, error) {
	if text == "*" {
		return nil, nil
	}
	return hex.DecodeString(strings.ReplaceAll(text, ":", ""))
}

// Dnsmasq reads dnsmasq's file: one lease a line, first those of DHCPv4, and those of DHCPv6 after a line with the
// server's DUID.
func Dnsmasq(text []byte) ([]leases.Known, error) {
	l := list{at: map[netip.Prefix]int{}}
	v6 := false
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) == 0:
			continue
		case fields[0] == "duid":
			v6 = true
			continue
		}
		k, err := dnsmasqLine(fields, v6)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, n, err)
		}
		l.add(k)
	}
	return l.all(), lines.Err()
}

func dnsmasqLine(fields []string, v6 bool) (leases.Known, error) {
	if len(fields) != 5 {
		return leases.Known{}, fmt.Errorf("%q has %d fields, want 5", strings.Join(fields, " "), len(fields))
	}
	ends, err := unixTime(fields[0])
	if err != nil {
		return leases.Known{}, err
	}
	id, err := digits(fields[4])
	if err != nil {
		return leases.Known{}, fmt.Errorf("%q is no identifier", fields[4])
	}
	if !v6 {
		hostname := strings.TrimPrefix(fields[3], "*")
		return known4(fields[2], fields[1], id, hostname, ends)
	}
	iaid, err := strconv.ParseUint(strings.TrimPrefix(fields[1], "T"), 10, 32)
	if err != nil {
		return leases.Known{}, fmt.Errorf("%q is no IAID", fields[1])
	}
	addr, err := netip.ParseAddr(fields[2])
	if err != nil {
		return leases.Known{}, fmt.Errorf("%q is no address", fields[2])
	}
	return known6(leases.NA, netip.PrefixFrom(addr, addr.BitLen()), id, uint32(iaid), ends)
}

// unixTime parses seconds since 1970; 0 means never.
func unixTime(text string) (time.Time, error) {
	seconds, err := strconv.ParseInt(text, 10, 64)
	if err != nil || seconds < 0 {
		return time.Time{}, fmt.Errorf("%q is no time in seconds", text)
	}
	if seconds == 0 {
		return time.Time{}, nil
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// Kea reads the file of Kea's memfile backend, of either family: CSV with a line of names, of which the last line of an
// address counts. State 0 is a lease; others are declined or have ended.
func Kea(text []byte) ([]leases.Known, error) {
	reader := csv.NewReader(bytes.NewReader(text))
	reader.FieldsPerRecord = -1
	rows, err := reader.ReadAll()
	if err != nil || len(rows) == 0 {
		return nil, errors.Join(fmt.Errorf("%w: no CSV with a line of names", ErrInvalid), err)
	}
	column := map[string]int{}
	for i, name := range rows[0] {
		column[name] = i
	}
	for _, name := range []string{"address", "valid_lifetime", "expire", "state"} {
		if _, ok := column[name]; !ok {
			return nil, fmt.Errorf("%w: the first line has no column %q", ErrInvalid, name)
		}
	}
	l := list{at: map[netip.Prefix]int{}}
	for i, row := range rows[1:] {
		field := func(name string) string {
			if at, ok := column[name]; ok && at < len(row) {
				return row[at]
			}
			return ""
		}
		k, err := keaRow(field)
		if err != nil {
			return nil, fmt.Errorf("%w: line %d: %w", ErrInvalid, i+2, err)
		}
		if field("state") == "0" && field("valid_lifetime") != "0" {
			l.add(k)
		} else {
			l.remove(k.Prefix)
		}
	}
	return l.all(), nil
}

func keaRow(field func(string) string) (leases.Known, error) {
	ends, err := unixTime(field("expire"))
	if err != nil {
		return leases.Known{}, err
	}
	if field("valid_lifetime") == "4294967295" {
		ends = time.Time{}
	}
	if field("duid") == "" {
		id, err := digits(field("client_id"))
		if err != nil {
			return leases.Known{}, fmt.Errorf("%q is no identifier", field("client_id"))
		}
		return known4(field("address"), field("hwaddr"), id, field("hostname"), ends)
	}
	duid, err := digits(field("duid"))
	if err != nil {
		return leases.Known{}, fmt.Errorf("%q is no DUID", field("duid"))
	}
	iaid, err := strconv.ParseUint(field("iaid"), 10, 32)
	if err != nil {
		return leases.Known{}, fmt.Errorf("%q is no IAID", field("iaid"))
	}
	kind, bits := leases.NA, "128"
	if field("lease_type") == "2" {
		kind, bits = leases.PD, field("prefix_len")
	}
	prefix, err := netip.ParsePrefix(field("address") + "/" + bits)
	if err != nil {
		return leases.Known{}, err
	}
	return known6(kind, prefix, duid, uint32(iaid), ends)
}

var (
	iscLease = regexp.MustCompile(`(?s)(?:^|\n)lease (\S+) \{\n(.*?)\n\}`)
	iscOther = regexp.MustCompile(`(?m)^(ia-na|ia-ta|ia-pd) `)
	iscEnds  = regexp.MustCompile(`(?m)^\s*ends (?:\d (\d+/\d+/\d+ \d+:\d+:\d+)|(never)|epoch (\d+))`)
	iscState = regexp.MustCompile(`(?m)^\s*binding state (\w+);`)
	iscHW    = regexp.MustCompile(`(?m)^\s*hardware ethernet (\S+);`)
	iscUID   = regexp.MustCompile(`(?m)^\s*uid (?:"((?:[^"\\]|\\.)*)"|([0-9a-fA-F:]+));`)
	iscHost  = regexp.MustCompile(`(?m)^\s*client-hostname "([^"]*)";`)
)

// ISC reads ISC dhcpd's file of DHCPv4 leases, of which the last one of an address counts; see dhcpd.leases(5). It
// refuses one of DHCPv6 leases.
func ISC(text []byte) ([]leases.Known, error) {
	if m := iscOther.Find(text); m != nil {
		return nil, fmt.Errorf("%w: it has leases of DHCPv6 (%q), which are not read", ErrInvalid, m)
	}
	l := list{at: map[netip.Prefix]int{}}
	found := iscLease.FindAllSubmatch(text, -1)
	if len(found) == 0 && len(bytes.TrimSpace(text)) > 0 && !bytes.HasPrefix(text, []byte("#")) {
		return nil, fmt.Errorf("%w: no lease is in it", ErrInvalid)
	}
	for _, m := range found {
		k, active, err := iscOne(string(m[1]), string(m[2]))
		if err != nil {
			return nil, fmt.Errorf("%w: lease %s: %w", ErrInvalid, m[1], err)
		}
		if active {
			l.add(k)
		} else if addr, err := netip.ParseAddr(string(m[1])); err == nil {
			l.remove(netip.PrefixFrom(addr, addr.BitLen()))
		}
	}
	return l.all(), nil
}

func iscOne(addr, body string) (k leases.Known, active bool, err error) {
	if state := iscState.FindStringSubmatch(body); len(state) > 1 && state[1] != "active" {
		return k, false, nil
	}
	first := func(re *regexp.Regexp) []string { return append(re.FindStringSubmatch(body), "", "", "", "") }
	var ends time.Time
	switch m := first(iscEnds); {
	case m[1] != "":
		ends, err = time.Parse("2006/01/02 15:04:05", m[1])
	case m[3] != "":
		ends, err = unixTime(m[3])
	case m[2] == "":
		err = errors.New("it has no end")
	}
	if err != nil {
		return k, false, err
	}
	uid := first(iscUID)
	id, err := digits(uid[2])
	if err == nil && uid[1] != "" {
		id, err = unescape(uid[1])
	}
	if err != nil {
		return k, false, err
	}
	k, err = known4(addr, first(iscHW)[1], id, first(iscHost)[1], ends)
	return k, true, err
}

// unescape reads a string in which bytes are written as a backslash and three octal digits, or a backslash and the
// byte.
func unescape(text string) ([]byte, error) {
	var out []byte
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] != '\\':
			out = append(out, text[i])
		case i+3 < len(text) && text[i+1] >= '0' && text[i+1] <= '7':
			n, err := strconv.ParseUint(text[i+1:i+4], 8, 8)
			if err != nil {
				return nil, fmt.Errorf("%q is no byte", text[i:i+4])
			}
			out, i = append(out, byte(n)), i+3
		case i+1 < len(text):
			out, i = append(out, text[i+1]), i+1
		}
	}
	return out, nil
}
