package postgres_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/postgres"
)

func Example() {
	ctx := context.Background()
	s, err := postgres.Open(ctx, exampleURL(), &postgres.Options{Schema: "example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	claim := store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32")},
	}
	_, err = s.Commit(ctx, store.Change{Head: head, Writes: []store.Write{{Op: store.Create, Record: claim}}})
	fmt.Println("commit:", err)

	holder, err := s.Find(ctx, "lab", netip.MustParseAddr("10.0.0.5"))
	fmt.Println("found:", holder.Name, holder.State, holder.Prefixes, err)
	// Output:
	// commit: <nil>
	// found: vm-1 allocated [10.0.0.5/32] <nil>
}
