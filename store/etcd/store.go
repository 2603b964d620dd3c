package etcd

import (
	"context"
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Options configure a [Store]. The zero Options, and a nil pointer to it, mean the defaults.
type Options struct {
	// Prefix is the prefix of all keys of the store. Stores with different prefixes are independent, provided that
	// neither prefix is the beginning of the other. A slash is added if it does not end in one. Default: "/ipalloc/".
	Prefix string

	// MaxTxnOps is the etcd servers' --max-txn-ops, and MaxRequestBytes their --max-request-bytes: the largest number
	// of operations in a transaction, and of bytes in a request. A larger commit fails with [store.ErrTooLarge] without
	// a request. MaxTxnOps is at least 8. Defaults: those of etcd, 128 and 1,572,864 (1.5 MiB).
	MaxTxnOps, MaxRequestBytes int

	// Remembered is the approximate number of records whose times and prefixes the handle remembers, at roughly 300
	// bytes each. Replacing or deleting a remembered record takes one round trip; any other record takes two. Default:
	// 65,536.
	Remembered int
}

// The defaults of [Options].
const (
	defaultPrefix          = "/ipalloc/"
	defaultMaxTxnOps       = 128
	defaultMaxRequestBytes = 3 << 19
	defaultRemembered      = 1 << 16

	leastMaxTxnOps = 8

	keepAliveTime    = 10 * time.Second
	keepAliveTimeout = 5 * time.Second
)

func (o *Options) withDefaults() (Options, error) {
	var all Options
	if o != nil {
		all = *o
	}
	if all.Prefix == "" {
		all.Prefix = defaultPrefix
	}
	if !strings.HasSuffix(all.Prefix, "/") {
		all.Prefix += "/"
	}
	for _, number := range []struct {
		name             string
		value            *int
		least, otherwise int
	}{
		{"MaxTxnOps", &all.MaxTxnOps, leastMaxTxnOps, defaultMaxTxnOps},
		{"MaxRequestBytes", &all.MaxRequestBytes, 1, defaultMaxRequestBytes},
		{"Remembered", &all.Remembered, 1, defaultRemembered},
	} {
		if *number.value == 0 {
			*number.value = number.otherwise
		}
		if *number.value < number.least {
			return Options{}, fmt.Errorf("%w: the option %s is %d, the least is %d",
				store.ErrInvalid, number.name, *number.value, number.least)
		}
	}
	return all, nil
}

// Store is a [store.Store] in etcd. The package comment says what it guarantees.
//
// The zero Store is not usable, see [New] and [Open]. A Store must not be copied. All methods may be called by any
// number of goroutines at once.
type Store struct {
	options Options
	keys    keyspace
	client  *clientv3.Client
	owned   bool // the client is closed with the store
	remote  pb.KVClient
	kv      clientv3.KV // on remote, for reads
	watcher clientv3.Watcher
	known   *memory
	ahead   hints
	turns   store.Turns
	leases  leases
	letters letters
	slots   slots
	closed  atomic.Bool
}

var (
	_ store.Store    = (*Store)(nil)
	_ store.Grouper  = (*Store)(nil)
	_ store.Reader   = (*Store)(nil)
	_ store.Labeller = (*Store)(nil)
)

// New returns a store that uses client, which stays the caller's: it must stay open as long as the store is used, and
// Close does not close it. The store uses the client's connection with its credentials and call options. It does not
// use the client's fields KV and Watcher, so package clientv3/namespace has no effect on it; use [Options.Prefix]
// instead.
//
// Errors: [store.ErrInvalid] if an option is out of bounds. It sends nothing to the servers.
func New(client *clientv3.Client, options *Options) (*Store, error) {
	if client == nil {
		return nil, fmt.Errorf("%w: etcd.New without a client", store.ErrInvalid)
	}
	all, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	remote := clientv3.RetryKVClient(client)
	return &Store{
		options: all,
		keys:    keyspace(all.Prefix),
		client:  client,
		remote:  remote,
		kv:      clientv3.NewKVFromKVClient(remote, client),
		watcher: clientv3.NewWatcher(client),
		known:   newMemory(all.Remembered),
		letters: letters{handle: fmt.Sprintf("%016x", rand.Uint64())},
	}, nil
}

// Open returns a store with a client of its own, which Close closes. It reads once from the servers, so that a wrong
// address or password is found at once. It fails if ctx ends before they answer; give ctx a deadline.
//
// If they are zero in config, DialKeepAliveTime and DialKeepAliveTimeout become 10 and 5 seconds. Without them, a
// client takes minutes to notice a dead connection that was not closed.
func Open(ctx context.Context, config clientv3.Config, options *Options) (*Store, error) {
	if config.DialKeepAliveTime == 0 {
		config.DialKeepAliveTime = keepAliveTime
	}
	if config.DialKeepAliveTimeout == 0 {
		config.DialKeepAliveTimeout = keepAliveTimeout
	}
	client, err := clientv3.New(config)
	if err != nil {
		return nil, fmt.Errorf("etcd: open a client for %q: %w", config.Endpoints, err)
	}
	s, err := New(client, options)
	if err == nil {
		s.owned = true
		_, err = s.kv.Get(ctx, s.keys.marker(), clientv3.WithKeysOnly())
		err = s.wrap(ctx, fmt.Sprintf("open %q", config.Endpoints), err)
	}
	if err != nil {
		_ = client.Close()
		return nil, err
	}
	return s, nil
}

// Get implements [store.Store]. It is one linearizable read.
func (s *Store) Get(ctx context.Context, key store.Key) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	record, _, err := s.get(ctx, key)
	return record, err
}

// get returns the record under key, and the revision of the store at which it was read, also if there is no record.
func (s *Store) get(ctx context.Context, key store.Key) (record store.Record, at int64, err error) {
	if err := s.usable(ctx); err != nil {
		return store.Record{}, 0, err
	}
	response, err := s.kv.Get(ctx, s.keys.record(key))
	if err != nil {
		return store.Record{}, 0, s.wrap(ctx, fmt.Sprintf("get %v", key), err)
	}
	if len(response.Kvs) == 0 {
		s.known.forget(key)
		return store.Record{}, response.Header.Revision, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	record, err = s.decode(key, response.Kvs[0])
	return record, response.Header.Revision, err
}

// GetAll implements [store.Reader]. It takes one linearizable read for each [Options.MaxTxnOps] records.
func (s *Store) GetAll(ctx context.Context, keys ...store.Key) ([]store.Record, error) {
	if err := store.ValidateKeys(keys...); err != nil {
		return nil, err
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	records := make([]store.Record, 0, len(keys))
	for part := range slices.Chunk(keys, s.options.MaxTxnOps) {
		gets := make([]clientv3.Op, len(part))
		for i, key := range part {
			gets[i] = clientv3.OpGet(s.keys.record(key))
		}
		response, err := s.kv.Txn(ctx).Then(gets...).Commit()
		if err != nil {
			return nil, s.wrap(ctx, fmt.Sprintf("get %v", part[0]), err)
		}
		for i, key := range part {
			record := store.Record{Key: key}
			if kvs := response.Responses[i].GetResponseRange().Kvs; len(kvs) == 0 {
				s.known.forget(key)
			} else if record, err = s.decode(key, kvs[0]); err != nil {
				return nil, err
			}
			records = append(records, record)
		}
	}
	return records, nil
}

// List implements [store.Store]. It yields the records in the order of their keys in etcd, and holds about a mebibyte
// of them in memory. Each page is a linearizable read of its own, so an iteration may take any time.
func (s *Store) List(ctx context.Context, kind store.Kind, pool string) iter.Seq2[store.Record, error] {
	return func(yield func(store.Record, error) bool) {
		if err := store.ValidateList(kind, pool); err != nil {
			yield(store.Record{}, err)
			return
		}
		first := s.keys.records(kind, pool)
		p := &pager{
			store: s, what: fmt.Sprintf("list %s of pool %q", kind, pool), first: first, end: clientv3.GetPrefixRangeEnd(first),
			limit: firstListPage, near: true,
		}
		for !p.done {
			kvs, _, err := p.next(ctx)
			if err != nil {
				yield(store.Record{}, err)
				return
			}
			if !s.yieldRecords(ctx, kvs, yield) {
				return
			}
		}
	}
}

// yieldRecords yields the records of a page, and reports whether to go on.
func (s *Store) yieldRecords(ctx context.Context, kvs []*mvccpb.KeyValue, yield func(store.Record, error) bool) bool {
	for _, kv := range kvs {
		key, err := s.keys.parseRecord(kv.Key)
		var record store.Record
		if err == nil {
			record, err = s.decode(key, kv)
		}
		if usable := s.usable(ctx); usable != nil {
			err = usable
		}
		if err != nil {
			yield(store.Record{}, err)
			return false
		}
		if !yield(record, nil) {
			return false
		}
	}
	return true
}

// Close implements [store.Store]. It ends calls of Watch. If [Open] made the store, it also closes the client: calls
// that are running then fail, a commit with [store.ErrUnknown].
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	err := s.watcher.Close()
	if s.owned {
		err = s.client.Close()
	}
	if err != nil {
		return fmt.Errorf("etcd: close: %w", err)
	}
	return nil
}

// usable returns why no call may begin, or nil.
func (s *Store) usable(ctx context.Context) error {
	if s.closed.Load() {
		return fmt.Errorf("etcd: %w", store.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return nil
}

// Version implements [store.Versioned]. If the cluster has users, this one may have to be a root.
func (s *Store) Version(ctx context.Context) (string, error) {
	if err := s.usable(ctx); err != nil {
		return "", err
	}
	response, err := s.client.Status(ctx, s.client.Endpoints()[0])
	if err != nil {
		return "", s.wrap(ctx, "version", err)
	}
	return "etcd " + response.Version, nil
}
