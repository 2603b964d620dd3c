package storetls_test

import (
	"encoding/pem"
	"io/fs"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/storetls"
)

func TestConfig(t *testing.T) {
	require.ErrorContains(t, storetls.Check(url.Values{"key": {"x"}}), "only one of the parameters cert and key")
	require.NoError(t, storetls.Check(url.Values{"key": {"x"}, "cert": {"y"}}))

	config, err := storetls.Config(url.Values{})
	require.NoError(t, err)
	require.Nil(t, config)

	file := filepath.Join(t.TempDir(), "ca.crt")
	_, err = storetls.Config(url.Values{"ca": {file}})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "parameter ca")
	require.NoError(t, os.WriteFile(file, []byte("x"), 0o600))
	_, err = storetls.Config(url.Values{"ca": {file}})
	require.ErrorContains(t, err, "has no certificate")
	_, err = storetls.Config(url.Values{"cert": {file}, "key": {file}})
	require.ErrorContains(t, err, "parameters cert and key")

	server := httptest.NewTLSServer(nil)
	defer server.Close()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	require.NoError(t, os.WriteFile(file, text, 0o600))
	config, err = storetls.Config(url.Values{"ca": {file}})
	require.NoError(t, err)
	require.NotNil(t, config.RootCAs)
}
