package kube_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// hooked calls hook once, after a call that reads or before an update.
type hooked struct {
	*simClient
	hook func()
}

func (h *hooked) fire() {
	if hook := h.hook; hook != nil {
		h.hook = nil
		hook()
	}
}

func (h *hooked) Get(ctx context.Context, r kube.Ref) (*kube.Object, error) {
	defer h.fire()
	return h.simClient.Get(ctx, r)
}

func (h *hooked) Update(ctx context.Context, o *kube.Object) (*kube.Object, error) {
	h.fire()
	return h.simClient.Update(ctx, o)
}

func (h *hooked) List(ctx context.Context, resource, selector, token string) (kube.Page, error) {
	defer h.fire()
	return h.simClient.List(ctx, resource, selector, token)
}

// TestSettledMeanwhile has a commit settled, and dropped from the log, between the reads of the record and of its head.
func TestSettledMeanwhile(t *testing.T) {
	for name, read := range map[string]func(s *kube.Store) (string, error){
		"get": func(s *kube.Store) (string, error) {
			r, err := s.Get(t.Context(), allocKey("x"))
			return r.State, err
		},
		"list": func(s *kube.Store) (string, error) {
			states := ""
			for r, err := range s.List(t.Context(), store.KindAllocation, "lab") {
				if err != nil {
					return "", err
				}
				states += r.State
			}
			return states, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := newSimServer()
			s := simStore(&simClient{server: server}, "writer")
			head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
			require.NoError(t, err)
			reader := &hooked{&simClient{server: server}, func() {
				_, err = storetest.CommitOne(t.Context(), s, head)
				require.NoError(t, err)
			}}
			got, err := read(kube.NewStore(reader, kube.Options{}, counterID("reader"), noPause))
			require.NoError(t, err)
			require.Equal(t, "here", got)
			require.Nil(t, reader.hook)
		})
	}
}

// TestExpiredToken has the server forget the snapshot of a list between two pages: each record that is there all the time still comes up once.
func TestExpiredToken(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	trouble, config := &tripper{}, server.config(writer)
	config.Wrap(trouble.wrap)
	s := open(t, config, kube.Options{Namespace: namespace, PageSize: 10})
	var writes []store.Write
	for i := range 35 {
		writes = append(writes, store.Write{Op: store.Create, Record: record(allocKey(fmt.Sprintf("owner-%02d", i)), "held")})
	}
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), writes...)
	require.NoError(t, err)
	expired := 0
	trouble.once(func(r *http.Request) bool { return r.URL.Query().Get("continue") != "" }, func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
		expired++
		fresh := map[string]any{}
		text, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(r.URL.Query().Get("continue"), "="))
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(text, &fresh))
		fresh["rv"] = -1 // how the server says: go on here, with what is there now
		text, err = json.Marshal(fresh)
		require.NoError(t, err)
		body := fmt.Sprintf(`{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Expired","code":410,"metadata":{"continue":%q}}`, base64.RawURLEncoding.EncodeToString(text))
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

// TestWatchGoesOn: a watch that the server ends, or whose version it has forgotten, begins anew; one that it refuses is an error.
func TestWatchGoesOn(t *testing.T) {
	server := sharedServer(t)
	isWatch := func(r *http.Request) bool { return r.URL.Query().Get("watch") != "" }
	gone := `{"type":"ERROR","object":` + status(410, "Expired", "too old resource version") + `}`
	for name, c := range map[string]struct {
		answer string
		code   int
		fails  bool
	}{
		"ended":      {"", 200, false},
		"expired":    {gone, 200, false},
		"refused":    {status(403, "Forbidden", "no"), 403, true},
		"nonsense":   {"<html>", 200, true},
		"error":      {`{"type":"ERROR","object":` + status(500, "InternalError", "storage") + `}`, 200, true},
		"strange":    {`{"type":"ERROR","object":1}`, 200, true},
		"unfinished": {`{"type":"MODIFIED","obj`, 200, true},
	} {
		t.Run(name, func(t *testing.T) {
			trouble, config := &tripper{}, server.config(writer)
			config.Wrap(trouble.wrap)
			s := open(t, config, kube.Options{Namespace: newNamespace()})
			other := open(t, server.config(writer), kube.Options{Namespace: s.Namespace()})
			head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), "old"))
			require.NoError(t, err)
			trouble.once(isWatch, func(next http.RoundTripper, r *http.Request) (*http.Response, error) {
				if !c.fails {
					_, err := storetest.CommitOne(t.Context(), other, head, store.Write{Op: store.Create, Record: record(allocKey("x"), "new")})
					require.NoError(t, err)
				}
				return answering(c.code, c.answer, false)(next, r)
			})
			got, err := s.Watch(t.Context(), head.Key, head.Revision)
			if c.fails {
				require.Error(t, err)
				return
			}
			require.NoError(t, err)
			require.Greater(t, got.Revision, head.Revision)
		})
	}
}

// TestHeadDeletedAsRecord deletes a head in the commit of another one, while its own log still lists a commit: what that wrote stays.
func TestHeadDeletedAsRecord(t *testing.T) {
	server := newSimServer()
	first, second := simStore(&simClient{server: server}, "first"), simStore(&simClient{server: server}, "second")
	lab, err := storetest.CommitOne(t.Context(), first, record(poolKey("lab"), "head"), store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
	require.NoError(t, err)
	office, err := storetest.CommitOne(t.Context(), second, record(poolKey("office"), "head"), store.Write{Op: store.Delete, Record: record(lab.Key, "")})
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), second, office) // settles the deletion
	require.NoError(t, err)
	third := simStore(&simClient{server: server}, "third")
	for range 2 {
		got, err := third.Get(t.Context(), allocKey("x"))
		require.NoError(t, err)
		require.Equal(t, lab.Revision, got.Revision)
		_, err = third.Get(t.Context(), lab.Key)
		require.ErrorIs(t, err, store.ErrNotFound)
		requireSwept(t, server, third)
	}
}

// TestRefusedLeavesNothing: a commit that fails takes back what it has written, without a sweep.
func TestRefusedLeavesNothing(t *testing.T) {
	server := newSimServer()
	s, other := simStore(&simClient{server: server}, "one"), simStore(&simClient{server: server}, "other")
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""), store.Write{Op: store.Create, Record: record(allocKey("x"), "old")})
	require.NoError(t, err)
	head, err = storetest.CommitOne(t.Context(), s, head)
	require.NoError(t, err)
	_, err = storetest.CommitOne(t.Context(), other, head)
	require.NoError(t, err)
	create := func(name string) store.Write {
		return store.Write{Op: store.Create, Record: record(allocKey(name), "new")}
	}
	put := store.Write{Op: store.Put, Record: record(allocKey("x"), "new")}
	_, err = storetest.CommitOne(t.Context(), s, head, create("y"), put)
	require.ErrorIs(t, err, store.ErrConflict)
	_, err = storetest.CommitOne(t.Context(), s, record(poolKey("office"), ""), create("y"), create("x"))
	require.ErrorIs(t, err, store.ErrExists)
	require.Len(t, server.objects, 2)
	for r, o := range server.objects {
		require.NotContains(t, o.Labels(), kube.Group+"/pending", "%v", r)
	}
}

// TestSweepBesideCommit sweeps between the steps of a commit, which then comes about all the same.
func TestSweepBesideCommit(t *testing.T) {
	server := newSimServer()
	client := &hooked{simClient: &simClient{server: server}}
	s := kube.NewStore(client, kube.Options{}, counterID("writer"), noPause)
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""))
	require.NoError(t, err)
	client.hook = func() {
		_, err := simStore(&simClient{server: server}, "sweeper").Sweep(t.Context())
		require.NoError(t, err)
	}
	head, err = storetest.CommitOne(t.Context(), s, head, store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
	require.NoError(t, err)
	require.Nil(t, client.hook)
	got, err := s.Get(t.Context(), allocKey("x"))
	require.NoError(t, err)
	require.Equal(t, head.Revision, got.Revision)
}
