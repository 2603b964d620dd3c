package kubetest_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestExpiredToken has the server forget the snapshot of a list between two pages: each record that is there all the
// time still comes up once.
func TestExpiredToken(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	trouble, config := &tripper{}, server.config(writer)
	config.Wrap(trouble.wrap)
	s := open(t, config, kube.Options{Namespace: namespace, PageSize: 10})
	var writes []store.Write
	for i := range 35 {
		writes = append(writes, store.Write{Op: store.Create,
			Record: record(allocKey(fmt.Sprintf("owner-%02d", i)), "held")})
	}
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), writes...)
	require.NoError(t, err)
	expired := 0
	trouble.once(func(r *http.Request) bool { return r.URL.Query().Get("continue") != "" },
		func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
			expired++
			fresh := map[string]any{}
			text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.URL.Query().Get("continue"), "="))
			require.NoError(t, err)
			require.NoError(t, json.Unmarshal(text, &fresh))
			fresh["rv"] = -1 // how the server says: go on here, with what is there now
			text, err = json.Marshal(fresh)
			require.NoError(t, err)
			body := fmt.Sprintf(
				`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"metadata":{"continue":%q}}`,
				base64.RawURLEncoding.EncodeToString(text),
			)
			return answering(http.StatusGone, body, false)(next, r)
		})
	seen := map[string]int{}
	for r, err := range s.List(t.Context(), store.KindAllocation, "lab") {
		require.NoError(t, err)
		if len(seen) == 0 {
			_, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Delete, Record: writes[34].Record})
			require.NoError(t, err)
		}
		seen[r.Name]++
	}
	require.Equal(t, 1, expired)
	require.Len(t, seen, 34, "the last one was deleted before the list went on")
	for name, n := range seen {
		require.Equal(t, 1, n, name)
	}
}

// TestWatchGoesOn: a watch that the server ends or cannot go on with, or whose version it has forgotten, or whose
// connection is cut, begins anew; one that it refuses is an error.
func TestWatchGoesOn(t *testing.T) {
	server := sharedServer(t)
	isWatch := func(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }
	gone := `{"type":"ERROR","object":` + status(410, "Expired", "too old resource version") + `}`
	isGet := func(r *http.Request) bool { return r.Method == "GET" && !isWatch(r) && r.URL.RawQuery == "" }
	isList := func(r *http.Request) bool { return r.Method == "GET" && !isWatch(r) && r.URL.RawQuery != "" }
	for name, c := range map[string]struct {
		fits  func(*http.Request) bool
		trip  func(http.RoundTripper, *http.Request) (*http.Response, error)
		fails bool
	}{
		"ended":        {isWatch, answering(200, "", false), false},
		"expired":      {isWatch, answering(200, gone, false), false},
		"410":          {isWatch, answering(410, status(410, "Expired", "too old resource version"), false), false},
		"429":          {isWatch, answering(429, status(429, "TooManyRequests", "slow down"), false), false},
		"503":          {isWatch, answering(503, "no healthy upstream", false), false},
		"cut":          {isWatch, lostRequest, false},
		"list, 500":    {isList, answering(500, status(500, "InternalError", "etcdserver: leader changed"), false), false},
		"list, cut":    {isList, lostAnswer, false},
		"get, cut":     {isGet, lostRequest, false},
		"get, 503":     {isGet, answering(503, status(503, "ServiceUnavailable", "starting"), false), false},
		"refused":      {isWatch, answering(403, status(403, "Forbidden", "no"), false), true},
		"get, refused": {isGet, answering(403, status(403, "Forbidden", "no"), false), true},
		"nonsense":     {isWatch, answering(200, "<html>", false), true},
		"error": {
			isWatch, answering(200, `{"type":"ERROR","object":`+status(500, "InternalError", "storage")+`}`, false), false,
		},
		"strange":    {isWatch, answering(200, `{"type":"ERROR","object":1}`, false), true},
		"unfinished": {isWatch, answering(200, `{"type":"MODIFIED","obj`, false), false},
	} {
		t.Run(name, func(t *testing.T) {
			trouble, config := &tripper{}, server.config(writer)
			config.Wrap(trouble.wrap)
			s := open(t, config, kube.Options{Namespace: newNamespace()})
			other := open(t, server.config(writer), kube.Options{Namespace: s.Namespace()})
			head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "old"))
			require.NoError(t, err)
			trouble.once(c.fits, func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				if !c.fails {
					_, err := storetest.CommitOne(t.Context(), other, head,
						store.Write{Op: store.Create, Record: record(allocKey("x"), "new")})
					require.NoError(t, err)
				}
				return c.trip(next, r)
			})
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			got, err := s.Watch(ctx, head.Key, head.Revision)
			if c.fails {
				require.Error(t, err)
				require.NoError(t, ctx.Err())
				return
			}
			require.NoError(t, err)
			require.Greater(t, got.Revision, head.Revision)
		})
	}
}
