package etcd_test

import (
	"io/fs"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/etcd"
)

func TestCheckURL(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"etcd://10.0.0.1:2379", ""},
		{"etcd://[::1]:2379", ""},
		{"etcd://u:p@10.0.0.1:2379,10.0.0.2:2379/blue?ca=a&cert=b&key=c", ""},
		{"etcd://10.0.0.1", "want etcd://HOST:PORT"},
		{"etcd:///prefix", "want etcd://HOST:PORT"},
		{"http://10.0.0.1:2379", "want etcd://HOST:PORT"},
		{"etcd://10.0.0.1:2379#x", `fragment "x"`},
		{"etcd://10.0.0.1:2379?tls=1", `unknown parameter "tls", want one of: ca, cert, key`},
		{"etcd://10.0.0.1:2379?cert=b", "only one of the parameters cert and key"},
	} {
		u, err := url.Parse(c.text)
		require.NoError(t, err)
		err = etcd.CheckURL(u)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorIs(t, err, store.ErrInvalid, c.text)
		require.ErrorContains(t, err, c.want, c.text)
		_, err = etcd.OpenURL(t.Context(), u)
		require.ErrorContains(t, err, c.want, c.text)
	}
	_, err := etcd.OpenURL(t.Context(), &url.URL{Scheme: "etcd", Host: "10.0.0.1:2379", RawQuery: "ca=/nowhere/ca.crt"})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "parameter ca")
}
