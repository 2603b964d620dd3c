package etcd

import (
	"context"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// How much is read at once: at first few records, since heads may be large and who looks for what has expired takes
// few; then as many as make up about targetPageBytes, going by those before.
const (
	firstListPage   = 16
	firstExpiryPage = 64
	firstLabelPage  = 64
	growth          = 8
	mostPage        = 2000
	targetPageBytes = 1 << 20
)

// pager reads the keys from first to before end, page by page.
type pager struct {
	store      *Store
	what       string
	first, end string
	limit      int64
	done       bool
}

// next returns the next page, and the revision of the store at which it was read. Each is linearizable.
func (p *pager) next(ctx context.Context) (kvs []*mvccpb.KeyValue, at int64, err error) {
	if err := p.store.usable(ctx); err != nil {
		return nil, 0, err
	}
	response, err := p.store.kv.Get(ctx, p.first, clientv3.WithRange(p.end), clientv3.WithLimit(p.limit))
	if err != nil {
		return nil, 0, p.store.wrap(ctx, p.what, err)
	}
	kvs = response.Kvs
	if p.done = !response.More || len(kvs) == 0; p.done {
		return kvs, response.Header.Revision, nil
	}
	p.first = string(kvs[len(kvs)-1].Key) + "\x00"
	size := 0
	for _, kv := range kvs {
		size += len(kv.Key) + len(kv.Value)
	}
	fits := int64(targetPageBytes / (size/len(kvs) + 1))
	p.limit = max(1, min(p.limit*growth, fits, mostPage))
	return kvs, response.Header.Revision, nil
}
