package kube_test

import (
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

func TestCheckURL(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"kube:production", ""},
		{"kube:arn:aws:eks:eu-1:7:cluster/blue?namespace=ipalloc&kubeconfig=x", ""},
		{"kube:admin@c", ""},
		{"kube://ipalloc", ""},
		{"kube://ipalloc?kubeconfig=x&context=admin", ""},
		{"kube:", "want kube:CONTEXT"},
		{"kube:///ipalloc", "want kube:CONTEXT"},
		{"kube://ipalloc/pods", "want kube:CONTEXT"},
		{"http://ipalloc", "want kube:CONTEXT"},
		{"kube://u@ipalloc", "want kube:CONTEXT"},
		{"kube:%zz", `context "%zz"`},
		{"kube://ipalloc#x", `fragment "x"`},
		{"kube:blue?context=green", `unknown parameter "context", want one of: kubeconfig, namespace`},
		{"kube://ipalloc?namespace=x", `unknown parameter "namespace", want one of: kubeconfig, context`},
		{"kube://Ip_alloc", `the namespace "Ip_alloc" is not valid`},
	} {
		u, err := url.Parse(c.text)
		require.NoError(t, err, c.text)
		err = kube.CheckURL(u)
		if c.want == "" {
			require.NoError(t, err, c.text)
			continue
		}
		require.ErrorIs(t, err, store.ErrInvalid, c.text)
		require.ErrorContains(t, err, c.want, c.text)
		_, err = kube.OpenURL(t.Context(), u, nil)
		require.ErrorContains(t, err, c.want, c.text)
	}
}

// A store is found by the context, and its namespace is that of the context unless the URL names one. Nothing listens
// where it is, which is no error of opening.
func TestOpenURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config")
	require.NoError(t, os.WriteFile(file, []byte(`{"apiVersion": "v1", "kind": "Config", "current-context": "blue",
		"clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:1"}}], "users": [{"name": "u", "user": {}}],
		"contexts": [{"name": "blue", "context": {"cluster": "c", "user": "u"}},
			{"name": "green", "context": {"cluster": "c", "user": "u", "namespace": "trees"}}]}`), 0o600))
	t.Setenv("KUBECONFIG", file)
	for text, namespace := range map[string]string{
		"kube:blue":                  "default",
		"kube:green":                 "trees",
		"kube:green?namespace=grass": "grass",
		"kube://sky?kubeconfig=" + url.QueryEscape(file): "sky",
		"kube://sky?context=green":                       "sky",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		s, err := kube.OpenURL(t.Context(), u, nil)
		require.NoError(t, err, text)
		require.Equal(t, namespace, s.Namespace(), text)
		require.NoError(t, s.Close())
	}
	for text, want := range map[string]string{
		"kube:red":                   `context "red"`,
		"kube://x?kubeconfig=/no/ne": "/no/ne",
		"kube://x":                   "neither kubeconfig nor context",
	} {
		u, err := url.Parse(text)
		require.NoError(t, err)
		_, err = kube.OpenURL(t.Context(), u, nil)
		require.ErrorContains(t, err, want)
	}
	u, err := url.Parse("kube://x")
	require.NoError(t, err)
	_, err = kube.OpenURL(t.Context(), u, &kube.Options{Namespace: "y"})
	require.ErrorIs(t, err, store.ErrInvalid)
	require.ErrorContains(t, err, `the namespace "y"`)
}
