package storetest_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/storetest"
)

// fileStore is a whole driver: it keeps all records in a folder, in one JSON file a commit, and reads them all at the
// beginning. A commit is there when its file is, whole or not at all; the file's number is the commit's revision. It
// shows what a driver has to do, and grows without bounds.
//
// One process may have the folder open at a time, with one handle.
type fileStore struct {
	folder string
	turns  store.Turns

	mu       sync.RWMutex
	closed   bool
	revision int64
	records  map[store.Key]store.Record
}

// fileCommit is what a file holds.
type fileCommit struct {
	Written []fileRecord `json:"written"`
	Deleted []store.Key  `json:"deleted,omitempty"`
}

// fileRecord is a record with its data as text, so that no data and the JSON value null stay apart.
type fileRecord struct {
	store.Record
	Data string
}

// openFileStore opens the store in a folder that exists.
func openFileStore(ctx context.Context, folder string) (store.Store, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open %s: %w", folder, err)
	}
	s := &fileStore{folder: folder, records: make(map[store.Key]store.Record)}
	for {
		text, err := os.ReadFile(s.path(s.revision + 1))
		if errors.Is(err, fs.ErrNotExist) {
			return s, nil
		}
		var c fileCommit
		if err == nil {
			err = json.Unmarshal(text, &c)
		}
		if err != nil {
			return nil, fmt.Errorf("open %s: commit %d: %w", folder, s.revision+1, err)
		}
		s.apply(c)
	}
}

func (s *fileStore) path(revision int64) string {
	return filepath.Join(s.folder, fmt.Sprintf("%012d.json", revision))
}

// apply makes the next commit's changes in memory.
func (s *fileStore) apply(c fileCommit) {
	s.revision++
	for _, f := range c.Written {
		r := f.Record
		r.Revision, r.Data = s.revision, json.RawMessage(f.Data)
		s.records[r.Key] = r.Canonical()
	}
	for _, key := range c.Deleted {
		delete(s.records, key)
	}
}

// usable returns why no method may do anything. The lock is held.
func (s *fileStore) usable(ctx context.Context) error {
	if s.closed {
		return fmt.Errorf("%s: %w", s.folder, store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", s.folder, err)
	}
	return nil
}

func (s *fileStore) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	r, ok := s.records[key]
	if !ok {
		return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	return r.Canonical(), nil
}

func (s *fileStore) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		records, err := s.list(ctx, kind, pool)
		if err != nil {
			yield(store.Record{}, err)
			return
		}
		for _, r := range records { // without the lock: the body of the loop may call any method
			if !yield(r, nil) {
				return
			}
		}
	}
}

func (s *fileStore) list(ctx context.Context, kind store.Kind, pool string) (found []store.Record, err error) {
	if err := store.ValidateList(kind, pool); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for key, r := range s.records {
		if key.Kind == kind && (pool == "" || key.Pool == pool) {
			found = append(found, r.Canonical())
		}
	}
	return found, s.usable(ctx)
}

// The backend has no index, and tells nobody of changes.

func (s *fileStore) ByExpiry(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return store.ByExpiryFromList(ctx, s.List, kind, pool)
}

func (s *fileStore) Find(ctx context.Context, pool string, addr netip.Addr) (store.Record, error) {
	return store.FindByList(ctx, s.List, pool, addr)
}

func (s *fileStore) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	return store.WatchByPolling(ctx, s.Get, key, revision, 10*time.Millisecond)
}

func (s *fileStore) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	return s.turns.Turn(ctx, s.Get, keys...)
}

// Join makes the driver a [store.Grouper], which is optional. It takes this and the calls of Answers and given.
func (s *fileStore) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	return s.turns.Join(ctx, s.Get, key, ask)
}

func (s *fileStore) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	defer store.EndTurns(changes)
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	given, err := s.turns.Answers(ctx, changes)
	if err != nil {
		return nil, err
	}
	heads, err := s.commit(ctx, changes)
	given(heads, err)
	return heads, err
}

func (s *fileStore) commit(ctx context.Context, changes []store.Change) ([]store.Record, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := cmp.Or(s.usable(ctx), s.admit(changes)); err != nil {
		return nil, err
	}
	c := fileCommit{}
	for _, change := range changes {
		for _, w := range change.Writes {
			if w.Op == store.Delete {
				c.Deleted = append(c.Deleted, w.Record.Key)
			} else {
				c.Written = append(c.Written, fileRecord{w.Record, string(w.Record.Data)})
			}
		}
		if !change.DeletesHead() {
			c.Written = append(c.Written, fileRecord{change.Head, string(change.Head.Data)})
		}
	}
	if err := s.write(c); err != nil {
		return nil, fmt.Errorf("%s: commit of %v: %w", s.folder, changes[0].Head.Key, err)
	}
	s.apply(c)
	heads := make([]store.Record, len(changes))
	for i, change := range changes {
		heads[i] = change.Head.Canonical()
		heads[i].Revision = s.revision
	}
	return heads, nil
}

// admit returns why a commit must not happen. Conflicts come first.
func (s *fileStore) admit(changes []store.Change) error {
	for _, c := range changes {
		current, ok := s.records[c.Head.Key]
		if !ok {
			current.Key = c.Head.Key
		}
		if current.Revision != c.Head.Revision {
			return &store.ConflictError{Expected: c.Head.Revision, Current: current.Canonical()}
		}
	}
	var standing []store.Record
	for _, c := range changes {
		for _, w := range c.Writes {
			if r, ok := s.records[w.Record.Key]; ok && w.Op == store.Create {
				standing = append(standing, r.Canonical())
			}
		}
	}
	if standing != nil {
		return &store.ExistsError{Records: standing}
	}
	return nil
}

// write makes the file of the next commit durable: it is written whole under another name, and then gets its own. From
// then on the outcome is unknown if anything fails, and so is all that would follow, which is why the store is closed.
func (s *fileStore) write(c fileCommit) error {
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	draft := filepath.Join(s.folder, "draft")
	if err := writeSynced(draft, text); err != nil {
		return err
	}
	if err := cmp.Or(os.Rename(draft, s.path(s.revision+1)), syncFolder(s.folder)); err != nil {
		s.closed = true
		return fmt.Errorf("%w: %w", store.ErrUnknown, err)
	}
	return nil
}

func writeSynced(path string, text []byte) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncFolder(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

func (s *fileStore) Close() error {
	s.mu.Lock() // waits for the commit that runs
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// TestExampleConforms is all that the driver needs for a test.
func TestExampleConforms(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Backend {
		folder := t.TempDir()
		return storetest.Backend{
			OneHandle: true,
			Open:      func(ctx context.Context) (store.Store, error) { return openFileStore(ctx, folder) },
		}
	})
}

// A whole driver, which keeps a JSON file a commit. Its test, TestExampleConforms, is in the same file.
func Example_driver() {
	folder, err := os.MkdirTemp("", "ipalloc")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(folder)
	ctx := context.Background()
	s, err := openFileStore(ctx, folder)
	if err != nil {
		fmt.Println(err)
		return
	}
	lease := store.Record{
		Key:     store.Key{Kind: store.KindAllocation, Pool: "lab", Name: "vm-1"},
		Expires: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	lab := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "lab"}}
	office := store.Record{Key: store.Key{Kind: store.KindPool, Pool: "office"}}
	heads, err := s.Commit(ctx, store.Change{Head: lab, Writes: []store.Write{{Op: store.Create, Record: lease}}},
		store.Change{Head: office})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, head := range heads {
		fmt.Println(head.Key, head.Revision)
	}
	for r, err := range s.ByExpiry(ctx, store.KindAllocation, "lab") {
		fmt.Println(r.Key, r.Expires.Year(), err)
	}
	fmt.Println(s.Close())
	// Output:
	// pool/lab 1
	// pool/office 1
	// allocation/lab/vm-1 2030 <nil>
	// <nil>
}
