package kube_test

import (
	"context"
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
			head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""),
				store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
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

// TestHeadDeletedAsRecord deletes a head in the commit of another one, while its own log still lists a commit: what
// that wrote stays.
func TestHeadDeletedAsRecord(t *testing.T) {
	server := newSimServer()
	first, second := simStore(&simClient{server: server}, "first"), simStore(&simClient{server: server}, "second")
	lab, err := storetest.CommitOne(t.Context(), first, record(poolKey("lab"), "head"),
		store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
	require.NoError(t, err)
	office, err := storetest.CommitOne(t.Context(), second, record(poolKey("office"), "head"),
		store.Write{Op: store.Delete, Record: record(lab.Key, "")})
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
	head, err := storetest.CommitOne(t.Context(), s, record(poolKey("lab"), ""),
		store.Write{Op: store.Create, Record: record(allocKey("x"), "old")})
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
	head, err = storetest.CommitOne(t.Context(), s, head,
		store.Write{Op: store.Create, Record: record(allocKey("x"), "here")})
	require.NoError(t, err)
	require.Nil(t, client.hook)
	got, err := s.Get(t.Context(), allocKey("x"))
	require.NoError(t, err)
	require.Equal(t, head.Revision, got.Revision)
}
