package storeurl_test

import (
	"encoding/pem"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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

func TestTLS(t *testing.T) {
	require.ErrorContains(t, storeurl.CheckTLS(url.Values{"key": {"x"}}), "only one of the parameters cert and key")
	require.NoError(t, storeurl.CheckTLS(url.Values{"key": {"x"}, "cert": {"y"}}))

	config, err := storeurl.TLS(url.Values{})
	require.NoError(t, err)
	require.Nil(t, config)

	file := filepath.Join(t.TempDir(), "ca.crt")
	_, err = storeurl.TLS(url.Values{"ca": {file}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "parameter ca")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err = storeurl.TLS(url.Values{"ca": {file}})
	require.ErrorContains(t, err, "has no certificate")
	_, err = storeurl.TLS(url.Values{"cert": {file}, "key": {file}})
	require.ErrorContains(t, err, "parameters cert and key")

	server := httptest.NewTLSServer(nil)
	defer server.Close()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, text, 0o600))
	config, err = storeurl.TLS(url.Values{"ca": {file}})
	require.NoError(t, err)
	require.NotNil(t, config.RootCAs)
}
