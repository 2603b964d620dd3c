package servertest

import (
	"net/netip"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// Head is the head of a pool.
func Head(pool string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindPool, Pool: pool}}
}

// Holding is a record that holds prefixes, which are separated by spaces.
func Holding(kind store.Kind, pool, name, prefixes string) store.Record {
	r := store.Record{Key: store.Key{Kind: kind, Pool: pool, Name: name}, State: "allocated"}
	for text := range strings.FieldsSeq(prefixes) {
		r.Prefixes = append(r.Prefixes, netip.MustParsePrefix(text))
	}
	return r
}

// Allocation is an allocation that holds prefixes, which are separated by spaces.
func Allocation(pool, name, prefixes string) store.Record {
	return Holding(store.KindAllocation, pool, name, prefixes)
}

// Create creates a record.
func Create(r store.Record) store.Write { return store.Write{Op: store.Create, Record: r} }

// Put creates or replaces a record.
func Put(r store.Record) store.Write { return store.Write{Op: store.Put, Record: r} }

// Remove deletes a record.
func Remove(r store.Record) store.Write {
	return store.Write{Op: store.Delete, Record: store.Record{Key: r.Key}}
}
