// Package durable puts pools that outlive their process behind one interface: this library on its stores, and the
// stores of other projects. There is one file a backend.
package durable

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/benchmarks/peer"
	"github.com/ipalloc/ipalloc/store"
)

// Kind is a kind of place where a pool is kept.
type Kind struct {
	// Name is short and unique: the heading of a column.
	Name string
	// Module is the path of the module that it comes from.
	Module string
	// Note says what its commits promise, and in what its semantics differ.
	Note string
	// Absent is why it is not measured; empty if it is.
	Absent string
	// Floor marks a backend without a pool on it: what a bare commit costs.
	Floor bool
	// OneAtATime tells that others wait while a process has it open, so that whoever is done must close.
	OneAtATime bool
	// ReleaseFirst tells that an owner who asks again after a crash must release first: a second claim is an error.
	ReleaseFirst bool
	// Grows tells that Fill may be called again, with more owners.
	Grows bool
	// Processes is how many take part in a burst with kills or blocks at most, where more take minutes; 0 for any number.
	Processes int
	// Prepare makes an empty place, in the folder or on one of the servers, and returns its address, by which other
	// processes find it, and what ends it. An error that wraps [ErrNoServer] says which server is missing.
	Prepare func(ctx context.Context, servers *Servers, dir string) (address string, end func() error, err error)
	// Open opens the pool of the prefix at the address, and creates it if there is none.
	Open func(ctx context.Context, address string, prefix netip.Prefix) (Pool, error)
	// Store opens the store at the address that the pool is in. It is nil if the kind is not of this library.
	Store func(ctx context.Context, address string) (store.Store, error)
	// Size returns how many bytes the place at the address takes on disk, or for one on etcd all of the server's data.
	// It is nil if that is not known.
	Size func(ctx context.Context, address string) (int64, error)
	// OpenBlock opens a writer's own part of that pool, which grows by blocks of the length. It is nil
	// if the kind has no such thing.
	OpenBlock func(ctx context.Context, address string, prefix netip.Prefix, writer string, bits int) (Pool, error)
}

// ErrNoServer says that the server that a kind needs is not on this machine.
var ErrNoServer = errors.New("no server")

// Pool is a pool that is kept. It is used by any number of goroutines.
type Pool interface {
	peer.Owners
	// Fill allocates for these owners, in the fastest way that the backend offers.
	Fill(ctx context.Context, owners []string) error
	Close() error
}

// Auditor is a Pool that can tell what it holds, and whether that is consistent.
type Auditor interface {
	// Audit returns the addresses by owner, or an error that says what is inconsistent.
	Audit(ctx context.Context) (map[string]netip.Addr, error)
}

// Counter is a Pool that counts its commits.
type Counter interface {
	// Commits returns how many commits took effect, and how many did not because others got there first.
	Commits() (committed, conflicts int)
	// Bytes returns how many bytes of records they had.
	Bytes() int64
}

// Swapper is a bare Pool that can do what the commits to one head come down to, one after the other.
type Swapper interface {
	// Swap changes a record, the same one each time, if it is still as the Swap before has left it. The first Swap makes
	// the record. It is used by one goroutine at a time, of one Pool at the address.
	Swap(ctx context.Context) error
}

// errSwapped is returned by a Swap that finds another record than it has left.
var errSwapped = errors.New("another one has swapped first")

// swapOwner is whose record a Swap changes.
const swapOwner = "swapped"

// swapValue is what the n-th Swap puts: 200 bytes, as all bare records have.
func swapValue(n int) string { return fmt.Sprintf("%0200d", n) }

// Kinds are all kinds of places, this library first.
func Kinds() []Kind {
	return []Kind{
		ipallocBolt(), bareBolt(), ipallocSQLite(), bareSQLite(), hostLocalDisk(), goIPAMFile(), ipallocEtcd(),
		bareEtcd(), goIPAMEtcd(),
		ipallocPostgres(), barePostgres(), goIPAMPostgres(), ipallocMySQL(), bareMySQL(), ipallocKube(), bareKube(),
	}
}

// Named is the kind of that name.
func Named(name string) (Kind, bool) {
	for _, k := range Kinds() {
		if k.Name == name {
			return k, true
		}
	}
	return Kind{}, false
}

// Find is [Named] with an error for a name that no kind has.
func Find(name string) (Kind, error) {
	k, ok := Named(name)
	if !ok {
		return Kind{}, fmt.Errorf("no kind of pool is called %q", name)
	}
	return k, nil
}

// OnStore are the names of two kinds by the short name of a store: this library's pools there, and the bare store.
var OnStore = map[string]struct{ Ours, Bare string }{
	"bolt":     {"ipalloc on bolt", "bare bbolt"},
	"sqlite":   {"ipalloc on SQLite", "bare SQLite"},
	"etcd":     {"ipalloc on etcd", "bare etcd"},
	"postgres": {"ipalloc on PostgreSQL", "bare PostgreSQL"},
	"mysql":    {"ipalloc on MariaDB", "bare MariaDB"},
	"kube":     {"ipalloc on Kubernetes", "bare Kubernetes"},
}

// inFolder is the Prepare of what is kept in files.
func inFolder(_ context.Context, _ *Servers, dir string) (string, func() error, error) {
	return dir, func() error { return nil }, nil
}
