// Package store is the contract between a pool and the place where it is kept.
//
// A [Store] keeps [Record] values under [Key] values and changes them in one way only: [Store.Commit]
// replaces one record, the head, if nobody else has replaced it since it was read, together with any
// number of other records, all of them or none. That is one compare-and-swap, which a file, etcd, a SQL
// database and an API server can all do, and it is all that the rest of this library builds on.
//
// Package store knows nothing about pools. People who allocate addresses use package pool with a
// concrete driver (this package's [Memory], store/bolt, …); people who write a driver implement [Store]
// and run the conformance suite in store/storetest against it.
package store

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Kind says what a record is about. Drivers treat kinds alike, but may lay them out differently (a SQL
// driver gives each kind a table, for example). A kind that a driver does not know must be kept too.
type Kind string

// The kinds of records that package pool writes.
const (
	// KindPool is the head of a pool: its specification and its free space.
	KindPool Kind = "pool"
	// KindAllocation is what one owner holds of a pool. [Key.Name] is the owner.
	KindAllocation Kind = "allocation"
	// KindSpace is a piece of a pool's free space, where that is too large for the head.
	// [Key.Name] is the identifier of the piece.
	KindSpace Kind = "space"
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
			return fmt.Errorf("%w: the %s %.20q… of a key is %d bytes long, the most is %d", ErrInvalid, part.name, part.text, len(part.text), MaxNameBytes)
		case !utf8.ValidString(part.text):
			return fmt.Errorf("%w: the %s %q of a key is not valid UTF-8", ErrInvalid, part.name, part.text)
		case strings.ContainsRune(part.text, 0):
			return fmt.Errorf("%w: the %s %q of a key contains NUL", ErrInvalid, part.name, part.text)
		}
	}
	return nil
}

// Record is one record of a store. Its named fields are there for people and for queries: a driver shows
// them in the way that is natural for its backend (columns, printer columns, plain JSON). Everything
// else is in Data.
//
// The zero Record is not valid (it has no key). A Record may be copied, but shares Prefixes and Data with
// its copy; see [Store] for who may change those.
type Record struct {
	Key

	// Revision is set by the store: the revision of the commit that last wrote this record. All records
	// that one commit writes, its head included, get the same revision. It is at least 1 for a record
	// that exists. It is ignored in a [Write].
	Revision int64

	// State says in one word what the record's prefixes are, such as "allocated". May be empty.
	State string

	// Prefixes are the addresses that the record is about, in the order in which they were asked for.
	// They are masked, have no zone and are not 4in6. May be empty.
	Prefixes []netip.Prefix

	// Created and Expires are kept to the microsecond and come back in UTC. The zero time means that
	// there is none, and comes back as the zero time.
	Created, Expires time.Time

	// Data is one JSON value, or empty. A store gives back an equal JSON value, with numbers and strings
	// exactly as they were, but may change white space and the order of an object's members.
	Data json.RawMessage
}

// Validate returns an error that wraps [ErrInvalid] if r breaks a rule in the comments of [Key] and
// [Record]. Stores call it for each record of a commit before they change anything.
func (r Record) Validate() error {
	if err := r.Key.Validate(); err != nil {
		return err
	}
	if len(r.State) > MaxNameBytes || !utf8.ValidString(r.State) || strings.ContainsRune(r.State, 0) {
		return fmt.Errorf("%w: the state %.20q of record %v is not valid UTF-8 of at most %d bytes without NUL", ErrInvalid, r.State, r.Key, MaxNameBytes)
	}
	for _, p := range r.Prefixes {
		switch {
		case !p.IsValid():
			return fmt.Errorf("%w: record %v has a prefix that is not valid", ErrInvalid, r.Key)
		case p != p.Masked():
			return fmt.Errorf("%w: the prefix %v of record %v has host bits set, want %v", ErrInvalid, p, r.Key, p.Masked())
		case p.Addr().Is4In6():
			return fmt.Errorf("%w: the prefix %v of record %v is 4in6", ErrInvalid, p, r.Key)
		}
	}
	if len(r.Data) > 0 && !json.Valid(r.Data) {
		return fmt.Errorf("%w: the data %.40q of record %v is not JSON", ErrInvalid, r.Data, r.Key)
	}
	return nil
}

// Op is what a [Write] does with its record.
type Op uint8

// The operations of a [Write]. The zero Op is not valid.
const (
	// Create writes a record whose key must not exist yet; if it does, the whole commit fails with an
	// [ExistsError].
	Create Op = iota + 1
	// Put writes a record, whether or not its key exists.
	Put
	// Delete removes the record under the key, if there is one. Only the record's key is used.
	Delete
)

// String returns the operation in one word, for messages.
func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Put:
		return "put"
	case Delete:
		return "delete"
	default:
		return fmt.Sprintf("Op(%d)", uint8(o))
	}
}

// Write is one change within a commit, beside its head.
type Write struct {
	Op     Op
	Record Record
}

// Store keeps records. All methods may be called by any number of goroutines at once.
//
// Who owns the bytes: a store keeps no reference to what it is given, and what it returns is the
// caller's; changing either changes nothing in the store.
//
// Errors: each method returns an error that wraps [ErrClosed] after Close. A method whose context has
// already ended returns an error that wraps the context's, and does nothing. Errors are wrapped, never
// flattened: [errors.Is] and [errors.As] find the sentinels and types of this package and, under them, the
// backend's own.
type Store interface {
	// Get returns the record under key, or an error that wraps [ErrNotFound].
	//
	// It sees every commit that returned before Get was called, through whichever handle, in whichever
	// process (it is linearizable). Cost: one round trip to the backend.
	Get(ctx context.Context, key Key) (Record, error)

	// List iterates over the records of one kind: those of one pool, or of all if pool is empty. The
	// order is the store's own.
	//
	// A record that exists during the whole iteration comes up exactly once, one that is created or
	// deleted meanwhile at most once, and each as it was at some moment during the iteration. The body of
	// the loop may call any method of the store, and may stop at any time. An error is the last thing that the
	// iteration yields. Cost: O(records listed); the store need not hold more than a part of them in memory.
	List(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error]

	// Commit replaces head, if the stored one still has head.Revision, and applies writes: all of it or
	// nothing. It is durable when it returns. It returns head with its new revision.
	//
	// A head.Revision of 0 means that no head may exist yet under head.Key. The new revision is greater
	// than every revision that the key has ever had, also before it was deleted and created again. To
	// delete the head, writes contains a [Delete] of head.Key, and the head returned has the revision of
	// the commit.
	//
	// No two of the writes, and none but such a Delete and the head, may be under one key, and every record
	// must be valid: otherwise the error wraps [ErrInvalid], before anything is changed.
	//
	// Commit fails, and has then changed nothing, with
	//   - a [ConflictError] if the head is not at head.Revision (checked before the creates);
	//   - an [ExistsError] if the key of a [Create] exists;
	//   - a [TooLargeError] if the backend cannot take so much in one commit;
	//   - an error that wraps [ErrUnknown] if the connection was lost or the context ended when it was
	//     too late to know whether the commit takes effect: this alone means that it may have, or may yet;
	//   - any other error if the backend refused.
	//
	// Cost: one round trip to the backend, and O(writes), whatever else is stored.
	Commit(ctx context.Context, head Record, writes []Write) (Record, error)

	// Close releases what the handle holds, and is idempotent. Records stay where they are.
	Close() error
}

// Finder is implemented by a [Store] that keeps an index of [Record.Prefixes]. Use it through [Find].
type Finder interface {
	// Find returns the allocation record of pool one of whose prefixes contains addr, or an error that wraps
	// [ErrNotFound]. It is as fresh as [Store.Get].
	Find(ctx context.Context, pool string, addr netip.Addr) (Record, error)
}

// Find returns the record of [KindAllocation] in pool one of whose prefixes contains addr, or an error that
// wraps [ErrNotFound]. A store that implements [Finder] answers from its index; of any other, Find lists the
// pool's allocations, which costs O(allocations).
//
// A 4in6 address is in no prefix; a zone is ignored.
func Find(ctx context.Context, s Store, pool string, addr netip.Addr) (Record, error) {
	addr = addr.WithZone("")
	if finder, ok := s.(Finder); ok {
		return finder.Find(ctx, pool, addr)
	}
	for record, err := range s.List(ctx, KindAllocation, pool) {
		if err != nil {
			return Record{}, err
		}
		for _, p := range record.Prefixes {
			if p.Contains(addr) {
				return record, nil
			}
		}
	}
	return Record{}, fmt.Errorf("%w: no allocation of pool %q contains %v", ErrNotFound, pool, addr)
}
