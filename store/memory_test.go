package store_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

func ExampleMemory() {
	ctx := context.Background()
	s := store.NewMemory()
	defer s.Close()

	heads, err := s.Commit(ctx, store.Change{Head: store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}})
	if err != nil {
		fmt.Println(err)
		return
	}
	head := heads[0]
	claim := store.Record{
		Key:      store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		State:    "allocated",
		Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.5/32")},
	}
	writes := []store.Write{{Op: store.Create, Record: claim}}
	if _, err = s.Commit(ctx, store.Change{Head: head, Writes: writes}); err != nil {
		fmt.Println(err)
		return
	}
	holder, err := s.Find(ctx, "lab", netip.MustParseAddr("10.0.0.5"))
	fmt.Println(holder.Name, err)

	_, err = s.Commit(ctx, store.Change{Head: head}) // head is not what is stored any more
	fmt.Println(err)
	// Output:
	// vm-1 <nil>
	// conflict: head pool/lab: expected revision 1, found revision 2
}

func TestMemoryHandlesShareRecords(t *testing.T) {
	ctx := t.Context()
	key := store.Key{Kind: store.KindPool, Pool: "lab"}
	one := store.NewMemory()
	two := one.Open()
	written, err := storetest.CommitOne(ctx, one, store.Record{Key: key})
	require.NoError(t, err)
	require.NoError(t, one.Close())

	_, err = one.Get(ctx, key)
	require.ErrorIs(t, err, store.ErrClosed)
	read, err := two.Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, written, read)
	read, err = one.Open().Get(ctx, key)
	require.NoError(t, err)
	require.Equal(t, written, read)
}
