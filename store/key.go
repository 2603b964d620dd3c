package store

import (
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Kind says what a record is about. Drivers treat kinds alike, but may lay them out differently (a SQL
// driver gives each kind a table, for example). A kind that a driver does not know must be kept too.
type Kind string

// The kinds of records that package pool writes.
const (
	// KindPool is the head of a pool: its specification and its free space.
	KindPool Kind = "pool"
	// KindAllocation is what one owner holds of a pool, or has released and may have back while it cools down.
	// [Key.Name] is the owner.
	KindAllocation Kind = "allocation"
	// KindCooling is what was released and cools down, when its owner holds something else. [Key.Name] is the first
	// prefix.
	KindCooling Kind = "cooling"
	// KindSpace is a piece of a pool's free space, where that is too large for the head.
	// [Key.Name] is the identifier of the piece.
	KindSpace Kind = "space"
	// KindNetwork is a network: the ranges of its pools, which must not overlap. [Key.Pool] is the network's name.
	KindNetwork Kind = "network"
)

// MaxNameBytes is the largest length in bytes of each part of a [Key].
const MaxNameBytes = 1024

// Key names a record. Two keys are equal if their three fields are.
//
// Kind and Pool are never empty; Name is empty for records of which a pool has only one, such as its
// head. Every field is valid UTF-8 without NUL, and at most [MaxNameBytes] long; apart from that, any
// character may occur in any field (slashes, quotes, line breaks), and a store keeps it as it is.
type Key struct {
	Kind Kind
	Pool string
	Name string
}

// String returns the key as kind/pool or kind/pool/name, with each part quoted where it is not plain.
// It is for messages: different keys have different texts.
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

// ValidateList returns an error that wraps [ErrInvalid] if kind and pool are none that [Store.List] takes: each
// follows the rules of [Key], except that pool may be empty.
func ValidateList(kind Kind, pool string) error {
	key := Key{Kind: kind, Pool: pool}
	if pool == "" {
		key.Pool = "all"
	}
	return key.Validate()
}
