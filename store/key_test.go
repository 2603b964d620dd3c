package store_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
)

func TestKeyString(t *testing.T) {
	for want, key := range map[string]store.Key{
		`pool/lab`:                    {Kind: store.KindPool, Pool: "lab"},
		`allocation/lab/vm-1`:         {Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		`allocation/"a/b"/"x y"`:      {Kind: store.KindAllocation, Pool: "a/b", Name: "x y"},
		`allocation/lab/"line\n"`:     {Kind: store.KindAllocation, Pool: "lab", Name: "line\n"},
		`allocation/""`:               {Kind: store.KindAllocation},
		`allocation/lab/"\"quoted\""`: {Kind: store.KindAllocation, Pool: "lab", Name: `"quoted"`},
	} {
		require.Equal(t, want, key.String())
	}
}

// FuzzKeyString looks for two keys with one text.
func FuzzKeyString(f *testing.F) {
	f.Add("a", "b", "c", "a", "b/c", "")
	f.Add("a", `"b"`, "c", "a", "b", "c")
	f.Add("a", "b", "\n", "a", "b", `\n`)
	f.Add("a/b", "c", "", "a", "b", "c")
	f.Fuzz(func(t *testing.T, kind1, pool1, name1, kind2, pool2, name2 string) {
		one := store.Key{Kind: store.Kind(kind1), Pool: pool1, Name: name1}
		two := store.Key{Kind: store.Kind(kind2), Pool: pool2, Name: name2}
		if one.Validate() == nil && two.Validate() == nil {
			require.Equal(t, one == two, one.String() == two.String())
		}
	})
}

func TestKeyValidate(t *testing.T) {
	long := strings.Repeat("n", store.MaxNameBytes)
	require.NoError(t, store.Key{Kind: "k", Pool: long, Name: long}.Validate())
	for part, key := range map[string]store.Key{
		"kind": {Pool: "p"},
		"pool": {Kind: "k", Name: "n"},
		"name": {Kind: "k", Pool: "p", Name: long + "n"},
	} {
		err := key.Validate()
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, part)
	}
	require.NoError(t, store.ValidateList("k", ""))
	require.ErrorIs(t, store.ValidateList("", "p"), store.ErrInvalid)
	require.ErrorIs(t, store.ValidateList("k", "\x00"), store.ErrInvalid)
}
