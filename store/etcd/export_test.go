package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// What tests look at inside.
var (
	Escape   = escape
	Unescape = unescape
)

// Overslept returns the error of a turn whose ticket is gone without an answer, so long after it was written.
func Overslept(waited time.Duration) error {
	t := &turn{shared: shared{joined: true, since: time.Now().Add(-waited)}}
	err := t.overslept()
	if _, _, unknown := t.Answered(); err != unknown { //nolint:errorlint // it is the same one
		panic(unknown)
	}
	return err
}

// Wrap is what a store makes of an error of a call with the context.
func Wrap(ctx context.Context, err error) error { return new(Store).wrap(ctx, "get", err) }

// ListKeys lists keys from first to before end as [Store.List] does.
func ListKeys(ctx context.Context, kv clientv3.KV, first, end string) (keys []string, err error) {
	p := &pager{store: &Store{kv: kv}, first: first, end: end, limit: firstListPage, near: true}
	for !p.done {
		kvs, _, err := p.next(ctx)
		if err != nil {
			return nil, err
		}
		for _, kv := range kvs {
			keys = append(keys, string(kv.Key))
		}
	}
	return keys, nil
}
