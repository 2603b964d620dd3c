package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store]. It reads once, and then etcd tells. All calls of Watch of a handle share one stream.
// If the member that it is connected to loses the cluster's leader, it fails rather than waits for what it cannot see.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	for {
		record, at, err := s.get(ctx, key)
		missing := errors.Is(err, store.ErrNotFound)
		if err == nil && record.Revision != revision || err != nil && (!missing || revision != 0) {
			return record, err
		}
		kv, err := s.await(ctx, key, at, revision)
		switch {
		case errors.Is(err, rpctypes.ErrCompacted): // what has happened since is forgotten: look again
			continue
		case err != nil:
			return store.Record{}, err
		case kv == nil:
			return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
		default:
			return s.decode(key, kv)
		}
	}
}

// await waits until the record, which was at revision when the store was at the revision at, is no longer, and returns
// what it is then, nil if it was deleted.
func (s *Store) await(ctx context.Context, key store.Key, at, revision int64) (*mvccpb.KeyValue, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	what := fmt.Sprintf("watch %v", key)
	responses := s.watcher.Watch(clientv3.WithRequireLeader(watching), s.keys.record(key), clientv3.WithRev(at+1))
	for response := range responses {
		if err := response.Err(); err != nil {
			return nil, s.wrap(ctx, what, err)
		}
		if len(response.Events) == 0 {
			continue
		}
		last := response.Events[len(response.Events)-1]
		if last.Type == clientv3.EventTypePut {
			return last.Kv, nil
		}
		if revision != 0 {
			return nil, nil
		}
	}
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("etcd: %s: %w", what, errStreamEnded)
}

// errStreamEnded says that the client ended a watch, of which it does not tell the reason.
var errStreamEnded = errors.New("the stream has ended")
