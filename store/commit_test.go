package store_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

func claim(name string) store.Record {
	return store.Record{Key: store.Key{Kind: store.KindAllocation, Pool: "lab", Name: name}}
}

func TestValidateCommit(t *testing.T) {
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	var many []store.Write
	for i := range 100 {
		many = append(many, store.Write{Op: store.Create, Record: claim(fmt.Sprint(i))})
	}
	deletion := store.Write{Op: store.Delete, Record: store.Record{Key: head.Key, Data: json.RawMessage("{")}}
	require.NoError(t, store.ValidateCommit(head, nil))
	require.NoError(t, store.ValidateCommit(head, append(many, deletion)))
	require.True(t, store.DeletesHead(head.Key, append(many, deletion)))
	require.False(t, store.DeletesHead(head.Key, many))
	require.False(t, store.DeletesHead(head.Key, []store.Write{{Op: store.Put, Record: head}}))

	negative := head
	negative.Revision = -1
	for message, c := range map[string]struct {
		head   store.Record
		writes []store.Write
	}{
		"the revision -1 of head pool/lab is negative":                {negative, nil},
		"the kind of key \"\"/\"\" is empty":                          {store.Record{}, nil},
		"a put of pool/lab, which is the commit's head":               {head, []store.Write{{Op: store.Put, Record: head}}},
		"unknown operation Op(9) on record allocation/lab/0":          {head, []store.Write{{Op: 9, Record: claim("0")}}},
		"two writes of one commit are under the key allocation/lab/0": {head, []store.Write{many[0], many[1], many[0]}},
		"two writes of one commit are under the key allocation/lab/7": {head, append(many[:20:20], many[7])},
		"two writes of one commit are under the key pool/lab":         {head, []store.Write{deletion, deletion}},
	} {
		err := store.ValidateCommit(c.head, c.writes)
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, message)
	}
}

func TestCanonical(t *testing.T) {
	r := claim("x")
	r.Created = time.Date(2024, 1, 2, 3, 4, 5, 678_999, time.FixedZone("", 3600))
	r.Prefixes = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	r.Data = json.RawMessage(`{}`)
	got := r.Canonical()
	require.Equal(t, time.Date(2024, 1, 2, 2, 4, 5, 678_000, time.UTC), got.Created)
	require.Equal(t, time.Time{}, got.Expires)
	require.Equal(t, got, got.Canonical())
	r.Prefixes[0], r.Data[0] = netip.Prefix{}, 'x'
	require.Equal(t, "10.0.0.1/32", got.Prefixes[0].String())
	require.Equal(t, `{}`, string(got.Data))

	r.Prefixes, r.Data = []netip.Prefix{}, json.RawMessage{}
	require.Nil(t, r.Canonical().Prefixes)
	require.Nil(t, r.Canonical().Data)
}

func TestErrorTexts(t *testing.T) {
	head := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	for want, err := range map[string]error{
		"conflict: head pool/lab: expected revision 3, found no such record": &store.ConflictError{Expected: 3, Current: head},
		"already exists: allocation/lab/x, allocation/lab/y":                 &store.ExistsError{Records: []store.Record{claim("x"), claim("y")}},
		"too large: commit in bytes: 2000, the most is 1000":                 &store.TooLargeError{What: "commit in bytes", Size: 2000, Limit: 1000},
		"too large: commit": &store.TooLargeError{What: "commit"},
	} {
		require.EqualError(t, err, want)
	}
	require.ErrorIs(t, &store.ConflictError{}, store.ErrConflict)
	require.ErrorIs(t, &store.ExistsError{}, store.ErrExists)
	require.ErrorIs(t, &store.TooLargeError{}, store.ErrTooLarge)
	require.NotErrorIs(t, &store.TooLargeError{}, store.ErrConflict)
}
