package bolt_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/bolt"
)

func Example() {
	folder, err := os.MkdirTemp("", "ipalloc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	ctx, path := context.Background(), filepath.Join(folder, "ipalloc.db")

	s, err := bolt.Open(ctx, path, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	claim := store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32")},
	}
	_, err = s.Commit(ctx, store.Change{Head: head, Writes: []store.Write{{Op: store.Create, Record: claim}}})
	fmt.Println("commit:", err)

	_, err = bolt.Open(ctx, path, nil)
	fmt.Println("locked:", errors.Is(err, bolt.ErrLocked))
	fmt.Println("close:", s.Close())

	s, err = bolt.Open(ctx, path, &bolt.Options{MustExist: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer s.Close()
	holder, err := s.Find(ctx, "lab", netip.MustParseAddr("10.0.0.5"))
	fmt.Println("found:", holder.Name, holder.State, holder.Prefixes, err)
	// Output:
	// commit: <nil>
	// locked: true
	// close: <nil>
	// found: vm-1 allocated [10.0.0.5/32] <nil>
}
