package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Watch implements [store.Store]. It opens a watch in etcd, and then reads once. All calls of Watch of a handle share
// one stream. If the member that it is connected to loses the cluster's leader, Watch fails, since it would miss
// changes.
func (s *Store) Watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := key.Validate(); err != nil {
		return store.Record{}, err
	}
	for {
		record, err := s.watch(ctx, key, revision)
		if !errors.Is(err, rpctypes.ErrCompacted) { // else what has happened since is forgotten: look again
			return record, err
		}
	}
}

// watch is Watch, of one stream of events. That begins with what happens next: etcd tells of what has happened before
// only ten times a second.
func (s *Store) watch(ctx context.Context, key store.Key, revision int64) (store.Record, error) {
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	at := int64(0) // the revision of the store at which the record was read
	for response := range s.watcher.Watch(clientv3.WithRequireLeader(watching), s.keys.record(key),
		clientv3.WithCreatedNotify()) {
		if err := response.Err(); err != nil {
			return store.Record{}, s.wrap(ctx, fmt.Sprintf("watch %v", key), err)
		}
		if at == 0 {
			record, read, err := s.getSince(ctx, key, max(revision, response.Header.Revision))
			missing := errors.Is(err, store.ErrNotFound)
			if err == nil && record.Revision != revision || err != nil && (!missing || revision != 0) {
				return record, err
			}
			at = read
		}
		event := lastAfter(at, response.Events)
		switch {
		case event == nil:
		case event.Type == clientv3.EventTypePut:
			return s.decode(key, event.Kv)
		case revision != 0:
			return store.Record{}, fmt.Errorf("%w: %v", store.ErrNotFound, key)
		}
	}
	if err := s.usable(ctx); err != nil {
		return store.Record{}, err
	}
	return store.Record{}, fmt.Errorf("etcd: watch %v: %w", key, errStreamEnded)
}

// getSince returns the record as it was at the revision, or is since: as the member knows it that is asked, unless that
// one is behind. It does not wait for a leader, and so is no obstacle to hearing that there is none.
func (s *Store) getSince(ctx context.Context, key store.Key, revision int64) (store.Record, int64, error) {
	response, err := s.kv.Get(ctx, s.keys.record(key), clientv3.WithSerializable())
	switch {
	case err != nil:
		return store.Record{}, 0, s.wrap(ctx, fmt.Sprintf("get %v", key), err)
	case response.Header.Revision < revision:
		return s.get(ctx, key)
	case len(response.Kvs) == 0:
		return store.Record{}, response.Header.Revision, fmt.Errorf("%w: %v", store.ErrNotFound, key)
	}
	record, err := s.decode(key, response.Kvs[0])
	return record, response.Header.Revision, err
}

// lastAfter returns the last event if it is later than the revision, else nil.
func lastAfter(revision int64, events []*clientv3.Event) *clientv3.Event {
	if len(events) == 0 || events[len(events)-1].Kv.ModRevision <= revision {
		return nil
	}
	return events[len(events)-1]
}

// errStreamEnded says that the client ended a watch, of which it does not tell the reason.
var errStreamEnded = errors.New("the stream has ended")
