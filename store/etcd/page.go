package etcd

import (
	"cmp"
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

	// If near, pages after a large one stay near it, as far as before stop: all keys that begin with within. It is empty
	// for as far as the end.
	near         bool
	within, stop string
	widened      int // how often since a page was full
}

// nearPage is how many keys a page has behind which it is worth a few more requests to stay near it.
const nearPage = 512

// next returns the next page, and the revision of the store at which it was read. Each is linearizable. A page may be
// empty.
func (p *pager) next(ctx context.Context) (kvs []*mvccpb.KeyValue, at int64, err error) {
	if err := p.store.usable(ctx); err != nil {
		return nil, 0, err
	}
	stop := cmp.Or(p.stop, p.end)
	response, err := p.store.kv.Get(ctx, p.first, clientv3.WithRange(stop), clientv3.WithLimit(p.limit))
	if err != nil {
		return nil, 0, p.store.wrap(ctx, p.what, err)
	}
	kvs = response.Kvs
	switch {
	case response.More && len(kvs) > 0:
		p.first = string(kvs[len(kvs)-1].Key) + "\x00"
		p.adapt(kvs)
		p.narrow(kvs)
	case p.stop == "":
		p.done = true
	default:
		p.first = stop
		p.widen()
	}
	return kvs, response.Header.Revision, nil
}

// adapt chooses how many keys the next page has at most.
func (p *pager) adapt(page []*mvccpb.KeyValue) {
	size := 0
	for _, kv := range page {
		size += len(kv.Key) + len(kv.Value)
	}
	fits := int64(targetPageBytes / (size/len(page) + 1))
	p.limit = max(1, min(p.limit*growth, fits, mostPage))
}

// narrow has the next page stay near this one. For each request etcd counts all keys of its range, however few it
// returns, so pages of all that is left would take a time that grows with the square of it.
func (p *pager) narrow(page []*mvccpb.KeyValue) {
	if !p.near || len(page) < nearPage {
		return
	}
	first, last := page[0].Key, page[len(page)-1].Key
	same := 0
	for same < len(first) && first[same] == last[same] { // the last one is longer, or differs
		same++
	}
	p.widened = 0
	p.bound(string(last[:same+1]))
}

// widen has the next page go farther, where there is nothing more as far as before stop: by a letter, as far as a
// number that is carried goes, and then by twice as many each time.
func (p *pager) widen() {
	letters := 1 << max(0, p.widened-carried)
	p.widened++
	p.bound(p.within[:max(0, len(p.within)-letters)])
}

// carried is how many digits mostly change when a number is carried.
const carried = 3

// bound has the next page go as far as keys begin with within, or with less of it if nothing is to be read there.
func (p *pager) bound(within string) {
	for {
		p.within, p.stop = within, clientv3.GetPrefixRangeEnd(within)
		if within == "" || p.stop >= p.end {
			p.stop = ""
			return
		}
		if p.stop > p.first {
			return
		}
		within = within[:len(within)-1]
	}
}
