package storeurl_test

import (
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/storeurl"
	"github.com/ipalloc/ipalloc/store"
)

func TestParameters(t *testing.T) {
	for _, c := range []struct{ query, want string }{
		{"ca=x&key=y", ""},
		{"", ""},
		{"colour=red", `the URL has the unknown parameter "colour", want one of: ca, key`},
		{"ca=x&ca=y", `the URL has the parameter "ca" twice`},
		{"ca=", `the parameter "ca" of the URL is empty`},
		{"ca=%zz", "cannot be parsed"},
	} {
		parameters, err := storeurl.Parameters(&url.URL{RawQuery: c.query}, "ca", "key")
		if c.want == "" {
			require.NoError(t, err, c.query)
			require.Equal(t, c.query, parameters.Encode())
			continue
		}
		require.ErrorIs(t, err, store.ErrInvalid, c.query)
		require.ErrorContains(t, err, c.want, c.query)
	}
	_, err := storeurl.Parameters(&url.URL{RawQuery: "mode=1"})
	require.ErrorContains(t, err, `unknown parameter "mode", want none`)
}
