package store

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind says what a record is about. Drivers treat all kinds alike, but may lay them out differently: a SQL driver may
// give each kind a table, for example. A driver must also keep kinds that it does not know.
type Kind string

// The kinds of records that package pool writes.
const (
	// KindPool is the head of a pool: its specification and its free space.
	KindPool Kind = "pool"
	// KindAllocation is what one owner holds in a pool, or has released and can get back while it cools down.
	// [Key.Name] is the owner. It is also what several owners share, under a name that no owner has.
	KindAllocation Kind = "allocation"
	// KindCooling is what was released and cools down while its last owner holds something else. [Key.Name] is the
	// first prefix.
	KindCooling Kind = "cooling"
	// KindSpace is a piece of a pool's free space that is too large for the head. [Key.Name] identifies the piece.
	KindSpace Kind = "space"
	// KindHistory is what an owner has held, until some time. [Key.Name] is a number, which rises within the pool.
	KindHistory Kind = "history"
	// KindNetwork is a network: the ranges of its pools, which must not overlap. [Key.Pool] is the network's name.
	KindNetwork Kind = "network"
)

// IsLabelled reports whether records of the kind are found by label; see [ByLabel].
func (k Kind) IsLabelled() bool { return k == KindAllocation || k == KindHistory }

// MaxNameBytes is the largest length in bytes of each part of a [Key].
const MaxNameBytes = 1024

// Key names a record. Two keys are equal if their fields are.
//
// Kind and Pool are never empty. Name is empty if a pool has only one record of the kind, such as its head. Every field
// is valid UTF-8 without NUL, at most [MaxNameBytes] bytes long. Any other character may occur in any field (slashes,
// quotes, line breaks), and a store keeps it as it is.
type Key struct {
	Kind Kind
	Pool string
	Name string
}

// String returns the key as kind/pool or kind/pool/name, for messages. A part that is not plain text is quoted, so
// different keys have different texts.
func (k Key) String() string {
	text := plainOrQuoted(string(k.Kind)) + "/" + plainOrQuoted(k.Pool)
	if k.Name != "" {
		text += "/" + plainOrQuoted(k.Name)
	}
	return text
}

func plainOrQuoted(s string) string {
	quoted := fmt.Sprintf("%q", s)
	if s == "" || strings.ContainsAny(s, "/ ") || quoted[1:len(quoted)-1] != s {
		return quoted
	}
	return s
}

// Compare returns -1, 0 or 1: it orders keys by kind, then by pool, then by name, byte by byte.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Kind, other.Kind), cmp.Compare(k.Pool, other.Pool), cmp.Compare(k.Name, other.Name))
}

// Validate returns an error that wraps [ErrInvalid] if k breaks a rule in the comment of [Key].
func (k Key) Validate() error {
	for _, part := range []struct {
		name, text string
		required   bool
	}{{"kind", string(k.Kind), true}, {"pool", k.Pool, true}, {"name", k.Name, false}} {
		switch {
		case part.text == "" && part.required:
			return fmt.Errorf("%w: the %s of key %v is empty", ErrInvalid, part.name, k)
		case len(part.text) > MaxNameBytes:
			return fmt.Errorf("%w: the %s %.20q… of a key is %d bytes long, the most is %d",
				ErrInvalid, part.name, part.text, len(part.text), MaxNameBytes)
		case !utf8.ValidString(part.text):
			return fmt.Errorf("%w: the %s %q of a key is not valid UTF-8", ErrInvalid, part.name, part.text)
		case strings.ContainsRune(part.text, 0):
			return fmt.Errorf("%w: the %s %q of a key contains NUL", ErrInvalid, part.name, part.text)
		}
	}
	return nil
}

// ValidateList returns an error that wraps [ErrInvalid] unless [Store.List] takes kind and pool: both must follow the
// rules of [Key], except that pool may be empty.
func ValidateList(kind Kind, pool string) error {
	key := Key{Kind: kind, Pool: pool}
	if pool == "" {
		key.Pool = "all"
	}
	return key.Validate()
}
