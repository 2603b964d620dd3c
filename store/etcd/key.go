package etcd

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/ipalloc/ipalloc/store"
)

// keyspace is the prefix of all keys of a store. The keys:
//
//	records/KIND/POOL/NAME          the record
//	prefixes/POOL/PREFIX/NAME       for Find: a record of KindAllocation with that prefix
//	labels/KIND/POOL/LABEL/VALUE/NAME for ByLabel: a record with that label, of a kind that is found by label
//	expiry/KIND/POOL/TIME/NAME      for ByExpiry: a record that expires then
//	turns/KIND/POOL/NAME/TICKET     of a process that waits for its turn at a head
//	answers/HANDLE/NUMBER           to what a process asked for that waits
//	revision                        written by a commit that would write nothing else
//
// KIND, POOL, NAME, LABEL and VALUE are escaped, so that they contain no slash.
type keyspace string

func (k keyspace) marker() string { return string(k) + "revision" }

func (k keyspace) record(key store.Key) string {
	return k.records(key.Kind, key.Pool) + escape(key.Name)
}

// turns returns what the keys of the tickets at a head begin with.
func (k keyspace) turns(key store.Key) string {
	return string(k) + "turns/" + escape(string(key.Kind)) + "/" + escape(key.Pool) + "/" + escape(key.Name) + "/"
}

// answers returns the key of an answer: the handle's name, a slash and a number.
func (k keyspace) answers(letter string) string { return string(k) + "answers/" + letter }

// records returns what the keys of all records of the kind begin with, of those in pool if it is not empty.
func (k keyspace) records(kind store.Kind, pool string) string {
	text := string(k) + "records/" + escape(string(kind)) + "/"
	if pool != "" {
		text += escape(pool) + "/"
	}
	return text
}

func (k keyspace) parseRecord(text []byte) (store.Key, error) {
	rest, ours := strings.CutPrefix(string(text), string(k)+"records/")
	parts := strings.Split(rest, "/")
	if !ours || len(parts) != 3 {
		return store.Key{}, fmt.Errorf("%w: the key %.200q is none of a record", ErrCorrupt, text)
	}
	for i := range parts {
		var err error
		if parts[i], err = unescape(parts[i]); err != nil {
			return store.Key{}, fmt.Errorf("%w: the key %.200q: %w", ErrCorrupt, text, err)
		}
	}
	return store.Key{Kind: store.Kind(parts[0]), Pool: parts[1], Name: parts[2]}, nil
}

// holders returns what the keys of the index by prefix begin with for the allocations of pool with the prefix.
func (k keyspace) holders(pool string, prefix netip.Prefix) string {
	return string(k) + "prefixes/" + escape(pool) + "/" + prefix.String() + "/"
}

// labelled returns what the keys of the index by label begin with for the records of the kind in pool with the label.
func (k keyspace) labelled(kind store.Kind, pool, name, value string) string {
	return string(k) + "labels/" + escape(string(kind)) + "/" + escape(pool) + "/" + escape(name) + "/" +
		escape(value) + "/"
}

// expiring returns what the keys of the index by expiry begin with for the records of the kind in pool.
func (k keyspace) expiring(kind store.Kind, pool string) string {
	return string(k) + "expiry/" + escape(string(kind)) + "/" + escape(pool) + "/"
}

// timeLayout has as many characters for each time in the years 1 to 9999, so that the order of the texts is that of the
// times.
const timeLayout = "2006-01-02T15:04:05.000000Z"

func (k keyspace) expiry(key store.Key, expires time.Time) string {
	return k.expiring(key.Kind, key.Pool) + expires.Format(timeLayout) + "/" + escape(key.Name)
}

// lastName returns the name at the end of a key of an index.
func lastName(text []byte) (string, error) {
	name, err := unescape(string(text[strings.LastIndexByte(string(text), '/')+1:]))
	if err != nil {
		return "", fmt.Errorf("%w: the key %.200q: %w", ErrCorrupt, text, err)
	}
	return name, nil
}

const upperHex = "0123456789ABCDEF"

// escape returns a part of a key without slashes and without what does not show on a terminal, or changes how the rest
// shows: each byte of such a character, and of a percent sign, becomes a percent sign and two hexadecimal digits, as in
// a URL.
func escape(part string) string {
	var text strings.Builder
	for i, r := range part {
		size := utf8.RuneLen(r)
		if !escaped(r) {
			text.WriteString(part[i : i+size])
			continue
		}
		for _, b := range []byte(part[i : i+size]) {
			text.Write([]byte{'%', upperHex[b>>4], upperHex[b&15]})
		}
	}
	return text.String()
}

// escaped must never change, because the same part must have the same text for all versions of this package. So it does
// not ask package unicode, which changes with each version of Unicode.
func escaped(r rune) bool {
	switch {
	case r <= ' ', r == '%', r == '/', 0x7f <= r && r <= 0xa0: // control characters and spaces
		return true
	case 0x2000 <= r && r <= 0x200f, 0x2028 <= r && r <= 0x202f, 0x205f <= r && r <= 0x206f:
		return true // spaces, separators, directions
	default:
		return r == 0xfeff
	}
}

func unescape(text string) (string, error) {
	var part strings.Builder
	for {
		plain, rest, found := strings.Cut(text, "%")
		part.WriteString(plain)
		if !found {
			break
		}
		if len(rest) < 2 {
			return "", fmt.Errorf("%q ends in the middle of an escape", text)
		}
		b, err := hex.DecodeString(rest[:2])
		if err != nil {
			return "", err
		}
		part.Write(b)
		text = rest[2:]
	}
	return part.String(), nil
}
