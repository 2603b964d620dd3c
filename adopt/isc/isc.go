// Package isc reads the files of leases of ISC dhcpd: dhcpd.leases and dhcpd6.leases.
//
// The format is that of dhcpd.leases(5) of ISC DHCP 4.4. The last lease of an address counts, as it does for dhcpd.
// Only leases in the binding state "active" are taken. Those that are free, expired, released, abandoned, reset or on
// backup are left out, and so are declarations of hosts and the state of failover.
//
// Owners are id:HEX for a DHCPv4 client with an identifier (uid) and else hw:MAC, and duid:HEX/na/IAID, .../ta/IAID or
// .../pd/IAID for DHCPv6.
package isc

import (
	"encoding/binary"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/adopt"
	"github.com/ipalloc/ipalloc/adopt/internal/client"
	"github.com/ipalloc/ipalloc/adopt/internal/input"
)

// Read returns the leases in use, each where the last record of its address stands. Cost: about 100 bytes of memory for
// each address in the file, however many records it has.
func Read(r io.ReadSeeker) adopt.Entries {
	walk := func(yield func(netip.Prefix, lease) error) error {
		s, err := newScanner(r)
		if err != nil {
			return err
		}
		f := file{scanner: s, yield: yield, order: binary.LittleEndian}
		return f.read()
	}
	return input.Last(walk, func(_ netip.Prefix, l lease) (adopt.Entry, bool, error) {
		if l.state != "active" {
			return adopt.Entry{}, false, nil
		}
		e, err := l.entry()
		if err != nil {
			return adopt.Entry{}, false, input.Invalid(input.AtLine(l.line), "%w", err)
		}
		e.At = input.AtLine(l.line)
		return e, true, nil
	})
}

// lease is a record of an address or a prefix.
type lease struct {
	line     int
	prefix   netip.Prefix
	state    string
	ends     []word // of the statement
	hardware string
	uid      []byte
	hostname string
	kind     string // of DHCPv6; empty for DHCPv4
	ia       []byte // the IAID and the DUID
	iaid     uint32
}

// entry makes an entry of a lease.
func (l lease) entry() (adopt.Entry, error) {
	ends, err := endsOf(l.ends)
	if err != nil {
		return adopt.Entry{}, err
	}
	if l.kind == "" {
		return client.V4(l.prefix, l.hardware, l.uid, l.hostname, ends)
	}
	return client.V6(l.prefix, l.kind, l.ia[iaidBytes:], l.iaid, "", ends)
}

// endsOf parses the words behind "ends": a weekday, a date and a time in UTC, or never, or epoch and seconds.
func endsOf(words []word) (time.Time, error) {
	var texts []string
	for _, w := range words {
		texts = append(texts, w.text)
	}
	switch {
	case len(texts) == 1 && texts[0] == "never":
		return time.Time{}, nil
	case len(texts) == 2 && texts[0] == "epoch":
		return client.Ends(texts[1])
	case len(texts) == 3:
		at, err := time.Parse("2006/01/02 15:04:05", texts[1]+" "+texts[2])
		if err == nil {
			return at, nil
		}
	case len(texts) == 0:
		return time.Time{}, client.ErrNoEnd
	}
	return time.Time{}, errors.New(input.Quote(strings.Join(texts, " ")) +
		` is no end of a lease, want one such as "0 2026/11/22 20:36:05"`)
}

// iaidBytes is the length of an IAID.
const iaidBytes = 4

// file is a file that is read.
type file struct {
	*scanner
	yield func(netip.Prefix, lease) error
	order binary.ByteOrder // of an IAID
}

// The blocks of identity associations.
var associations = map[string]string{"ia-na": client.NA, "ia-ta": client.TA, "ia-pd": client.PD}

func (f *file) read() error {
	for {
		s, err := f.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := f.top(s); err != nil {
			return err
		}
	}
}

// top reads what a statement outside of all blocks begins.
func (f *file) top(s statement) error {
	kind, isAssociation := associations[s.word(0)]
	switch {
	case s.end == '{' && s.is("lease") && len(s.words) == 2:
		return f.lease(s)
	case s.end == '{' && isAssociation && len(s.words) == 2:
		return f.association(s, kind)
	case s.end == '{' && (s.is("failover") || s.is("host") || s.is("group") || s.is("class") || s.is("subclass")):
		return f.skip(s)
	case s.is("authoring-byte-order", "big-endian"):
		f.order = binary.BigEndian
	case s.is("authoring-byte-order"), s.is("server-duid"), s.is("class"), s.is("subclass"):
	default:
		return s.invalid("%s does not stand in a file of leases of dhcpd", input.Quote(s.word(0)))
	}
	return nil
}

// block reads the statements of a block up to its end. Blocks within it are given to inner.
func (f *file) block(of statement, each, inner func(statement) error) error {
	for {
		s, err := f.next()
		if errors.Is(err, io.EOF) {
			return of.invalid("the block of %s has no end", input.Quote(of.word(0)))
		}
		if err != nil {
			return err
		}
		switch s.end {
		case '}':
			return nil
		case '{':
			err = inner(s)
		default:
			err = each(s)
		}
		if err != nil {
			return err
		}
	}
}

// maxDepth is how deeply blocks may stand in one another.
const maxDepth = 100

// skip reads a block that says nothing about leases.
func (f *file) skip(s statement) error { return f.skipAt(s, 0) }

func (f *file) skipAt(s statement, depth int) error {
	if depth > maxDepth {
		return s.invalid("blocks are in more than %d blocks", maxDepth)
	}
	return f.block(s, func(statement) error { return nil }, func(inner statement) error {
		return f.skipAt(inner, depth+1)
	})
}

// lease reads the block of a DHCPv4 lease.
func (f *file) lease(s statement) error {
	l := lease{line: s.line, state: "active"}
	prefix, err := input.Prefix(s.word(1))
	if err != nil || !prefix.Addr().Is4() || !prefix.IsSingleIP() {
		return s.invalid("%s is no IPv4 address", input.Quote(s.word(1)))
	}
	l.prefix = prefix
	if err := f.block(s, l.set, f.skip); err != nil {
		return err
	}
	return f.yield(prefix, l)
}

// set reads a statement in the block of a lease.
func (l *lease) set(s statement) error {
	switch {
	case s.is("binding", "state"):
		l.state = s.word(2)
	case s.is("ends"):
		l.ends = s.words[1:]
	case s.is("hardware", "ethernet"):
		l.hardware = s.word(2)
	case s.is("client-hostname"):
		l.hostname = s.word(1)
	case s.is("abandoned"):
		l.state = "abandoned"
	case s.is("uid") && len(s.words) == 2:
		uid, err := bytesOf(s.words[1])
		if err != nil {
			return s.invalid("uid: %w", err)
		}
		l.uid = uid
	}
	return nil
}

// bytesOf are the bytes of a string, or of hexadecimal digits.
func bytesOf(w word) ([]byte, error) {
	if w.quoted {
		return []byte(w.text), nil
	}
	// A leading zero may be missing, as in 0:3:0:1.
	var all []byte
	for part := range strings.SplitSeq(w.text, ":") {
		b, err := strconv.ParseUint(part, 16, 8)
		if err != nil {
			return nil, errors.New(input.Quote(w.text) + " is neither a string nor bytes in hexadecimal digits")
		}
		all = append(all, byte(b))
	}
	return all, nil
}

// association reads the block of an identity association, which has a block for each of its addresses or prefixes.
func (f *file) association(s statement, kind string) error {
	ia, err := bytesOf(s.words[1])
	if err != nil || len(ia) <= iaidBytes {
		return s.invalid("%s is no IAID with a DUID", input.Quote(s.word(1)))
	}
	common := lease{kind: kind, ia: ia, iaid: f.order.Uint32(ia)}
	return f.block(s, func(statement) error { return nil }, func(inner statement) error {
		if !inner.is("iaaddr") && !inner.is("iaprefix") {
			return f.skip(inner)
		}
		l := common
		l.line = inner.line
		prefix, err := input.Prefix(inner.word(1))
		if err != nil || !prefix.Addr().Is6() {
			return inner.invalid("%s is no IPv6 address or prefix", input.Quote(inner.word(1)))
		}
		l.prefix = prefix
		if err := f.block(inner, l.set, f.skip); err != nil {
			return err
		}
		return f.yield(prefix, l)
	})
}
