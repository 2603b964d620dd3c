package store_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
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
	other := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "office"}}
	var many []store.Write
	for i := range 100 {
		many = append(many, store.Write{Op: store.Create, Record: claim(fmt.Sprint(i))})
	}
	deletion := store.Write{Op: store.Delete, Record: store.Record{Key: head.Key, Data: json.RawMessage("{")}}
	with := func(head store.Record, writes ...store.Write) store.Change {
		return store.Change{Head: head, Writes: writes}
	}
	require.NoError(t, store.ValidateCommit(with(head)))
	require.NoError(t, store.ValidateCommit(with(head, append(many, deletion)...)))
	require.NoError(t, store.ValidateCommit(with(head, many[:50]...), with(other, many[50:]...)))
	require.NoError(t, store.ValidateCommit(with(head, deletion, many[0]), with(other, many[1])))
	require.True(t, with(head, append(many, deletion)...).DeletesHead())
	require.False(t, with(head, many...).DeletesHead())
	require.False(t, with(head, store.Write{Op: store.Put, Record: head}).DeletesHead())

	negative := head
	negative.Revision = -1
	writeHead := store.Write{Op: store.Put, Record: head}
	unknown := store.Write{Op: 9, Record: claim("0")}
	for _, c := range []struct {
		message string
		changes []store.Change
	}{
		{"the commit has no change", nil},
		{"the revision -1 of head pool/lab is negative", []store.Change{with(negative)}},
		{"the revision -1 of head pool/lab is negative", []store.Change{with(other), with(negative)}},
		{"the kind of key \"\"/\"\" is empty", []store.Change{with(store.Record{})}},
		{"a put of pool/lab, which is its head", []store.Change{with(head, writeHead)}},
		{"unknown operation Op(9) on record allocation/lab/0", []store.Change{with(head, unknown)}},
		{
			"the key allocation/lab/0 occurs twice among the heads and writes",
			[]store.Change{with(head, many[0], many[1], many[0])},
		},
		{"the key allocation/lab/7 occurs twice", []store.Change{with(head, append(many[:20:20], many[7])...)}},
		{"the key allocation/lab/8 occurs twice", []store.Change{with(head, many[:20]...), with(other, many[8])}},
		{"the key pool/lab occurs twice", []store.Change{with(head, deletion, deletion)}},
		{"the key pool/lab occurs twice", []store.Change{with(head), with(head)}},
		{"the key pool/lab occurs twice", []store.Change{with(head), with(other, writeHead)}},
		{"the key pool/lab occurs twice", []store.Change{with(head), with(other, deletion)}},
		{"the key pool/lab occurs twice", []store.Change{with(head, many...), with(other, deletion)}},
		{"the key pool/lab occurs twice", []store.Change{with(head, deletion), with(other, deletion)}},
	} {
		err := store.ValidateCommit(c.changes...)
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, c.message)
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
		"conflict: head pool/lab: expected revision 3, found no such record": &store.ConflictError{
			Expected: 3, Current: head,
		},
		"already exists: allocation/lab/x, allocation/lab/y": &store.ExistsError{
			Records: []store.Record{claim("x"), claim("y")},
		},
		"too large: commit in bytes: 2000, the most is 1000": &store.TooLargeError{
			What: "commit in bytes", Size: 2000, Limit: 1000,
		},
		"too large: commit": &store.TooLargeError{What: "commit"},
		"damaged: 4: a; a; a; …": &store.DamagedError{
			Damaged: slices.Repeat([]error{errors.New("a")}, 4),
		},
	} {
		require.EqualError(t, err, want)
	}
	require.ErrorIs(t, &store.ConflictError{}, store.ErrConflict)
	require.ErrorIs(t, &store.ExistsError{}, store.ErrExists)
	require.ErrorIs(t, &store.TooLargeError{}, store.ErrTooLarge)
	require.ErrorIs(t, &store.DamagedError{Damaged: []error{store.ErrExists}}, store.ErrDamaged)
	require.ErrorIs(t, &store.DamagedError{Damaged: []error{store.ErrExists}}, store.ErrExists)
	require.NotErrorIs(t, &store.TooLargeError{}, store.ErrConflict)
}
