package etcd

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. Whoever waits writes a ticket, a key beside the head. The turns come in the order of
// the tickets' creation, and end when the ticket is deleted, by the commit of the turn in its own transaction. A
// commit without a turn gets in line where there are tickets. As a rule only one call of a Store at a time has a
// ticket at each head.
//
// A ticket that has been the first one for [store.MaxTurn], or for as long as twenty round trips take at present, is
// deleted by those that wait. Tickets have a lease, so that
// none outlives its process for more than a minute.
//
// Cost: one round trip, which writes the ticket. If others have theirs, it watches the one before it, and then makes
// another round trip.
func (s *Store) Turn(ctx context.Context, keys ...store.Key) (store.Turn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	done, err := s.turns.Wait(ctx, keys...)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	return s.takeTurn(ctx, done, keys)
}

// takeTurn waits for the turn at the keys. None of this Store waits there beside it; done lets others do so.
func (s *Store) takeTurn(ctx context.Context, done func(), keys []store.Key) (store.Turn, error) {
	t := &turn{store: s, done: done}
	heads := make(map[store.Key]store.Record, len(keys))
	for _, key := range slices.SortedFunc(slices.Values(keys), store.Key.Compare) {
		head, err := t.queue(ctx, key)
		if err != nil {
			t.End()
			return nil, s.wrap(ctx, fmt.Sprintf("turn at %v", key), err)
		}
		heads[key] = head
	}
	for _, key := range keys {
		t.heads = append(t.heads, heads[key])
	}
	return t, nil
}

// turn is a turn at heads.
type turn struct {
	store   *Store
	tickets []string // keys
	heads   []store.Record
	done    func()
	over    bool // the tickets are deleted
	once    sync.Once
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// End implements [store.Turn].
func (t *turn) End() {
	t.once.Do(func() {
		if !t.over && len(t.tickets) > 0 {
			ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
			defer cancel()
			_, _ = t.store.kv.Txn(ctx).Then(t.deletes()...).Commit() // what stays, those that wait delete
		}
		t.done()
	})
}

// deletes are the operations that end the turn.
func (t *turn) deletes() []clientv3.Op {
	ops := make([]clientv3.Op, len(t.tickets))
	for i, ticket := range t.tickets {
		ops[i] = clientv3.OpDelete(ticket)
	}
	return ops
}

// turnOf returns this store's turn among the changes, or nil.
func (s *Store) turnOf(changes []store.Change) *turn {
	for i := range changes {
		if t, ok := changes[i].Turn.(*turn); ok && t.store == s {
			return t
		}
	}
	return nil
}

// queue writes a ticket at the key, waits until it is the first one, and returns the head as it is then.
func (t *turn) queue(ctx context.Context, key store.Key) (store.Record, error) {
	s := t.store
	begin := time.Now() //nolint:forbidigo // how long a round trip takes is no matter of the caller's clock
	lease, err := s.leases.get(ctx, s.client)
	if err != nil {
		return store.Record{}, err
	}
	line := s.keys.turns(key)
	ticket := fmt.Sprintf("%s%016x", line, rand.Uint64())
	t.tickets = append(t.tickets, ticket)
	response, err := s.kv.Txn(ctx).Then(
		clientv3.OpPut(ticket, "", clientv3.WithLease(lease)),
		clientv3.OpGet(line, append(clientv3.WithLastCreate(), clientv3.WithLimit(2), clientv3.WithKeysOnly())...),
		clientv3.OpGet(s.keys.record(key)),
	).Commit()
	if err != nil {
		s.leases.drop(lease)
		return store.Record{}, err
	}
	w := waiting{store: s, line: line, created: response.Header.Revision, head: s.keys.record(key)}
	w.patience = max(store.MaxTurn, patientTrips*time.Since(begin)) //nolint:forbidigo // the same
	ahead := response.Responses[1].GetResponseRange().Kvs
	ahead = slices.DeleteFunc(ahead, func(kv *mvccpb.KeyValue) bool { return string(kv.Key) == ticket })
	for len(ahead) > 0 {
		if response, err = w.await(ctx, string(ahead[0].Key)); err != nil {
			return store.Record{}, err
		}
		ahead = response.Responses[0].GetResponseRange().Kvs
	}
	head := response.Responses[len(response.Responses)-1].GetResponseRange().Kvs
	if len(head) == 0 {
		return store.Record{Key: key}, nil
	}
	return s.decode(key, head[0])
}

// patientTrips is how many round trips a turn may take in any case, where they take long.
const patientTrips = 20

// waiting is one ticket that is not the first of its line.
type waiting struct {
	store   *Store
	line    string
	head    string
	created int64 // the revision of the ticket

	patience time.Duration // for the first ticket
	first    string        // the first ticket when that was looked at last
}

// look reads the last ticket before this one, and the head.
func (w *waiting) look(ctx context.Context) (*clientv3.TxnResponse, error) {
	before := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(w.created-1), clientv3.WithKeysOnly())
	return w.store.kv.Txn(ctx).Then(clientv3.OpGet(w.line, before...), clientv3.OpGet(w.head)).Commit()
}

// await looks again when the ticket has been deleted that was the last before this one. Meanwhile it looks after the
// first one.
//
// It does not watch from a revision: of what has happened, etcd tells ten times a second only.
func (w *waiting) await(ctx context.Context, ticket string) (*clientv3.TxnResponse, error) {
	watching, cancel := context.WithCancel(ctx)
	defer cancel()
	events := w.store.watcher.Watch(clientv3.WithRequireLeader(watching), ticket, clientv3.WithFilterPut(),
		clientv3.WithCreatedNotify())
	late := time.NewTicker(w.patience)
	defer late.Stop()
	for {
		select {
		case event, open := <-events:
			switch {
			case ctx.Err() != nil:
				return nil, ctx.Err()
			case !open:
				return nil, errStreamEnded
			case event.Err() != nil:
				return nil, event.Err()
			}
			response, err := w.look(ctx)
			if err != nil {
				return nil, err
			}
			ahead := response.Responses[0].GetResponseRange().Kvs
			if len(ahead) == 0 || string(ahead[0].Key) != ticket {
				return response, nil
			}
		case <-late.C:
			if err := w.passOver(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// passOver deletes the first ticket if it was that before, which is patience ago.
func (w *waiting) passOver(ctx context.Context) error {
	response, err := w.store.kv.Get(ctx, w.line, append(clientv3.WithFirstCreate(), clientv3.WithKeysOnly())...)
	if err != nil || len(response.Kvs) == 0 {
		return err
	}
	first := string(response.Kvs[0].Key)
	if first == w.first {
		_, err = w.store.kv.Delete(ctx, first)
	}
	w.first = first
	return err
}

// The time that tickets outlive their process, and after which new ones get another lease.
const (
	leaseSeconds = 60
	leaseUse     = 20 * time.Second
)

// leases keeps the lease of the tickets.
type leases struct {
	mu      sync.Mutex
	id      clientv3.LeaseID
	granted time.Time
}

// get returns a lease that lasts for a while yet.
func (l *leases) get(ctx context.Context, client *clientv3.Client) (clientv3.LeaseID, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	begin := time.Now() //nolint:forbidigo // leases run by the servers' clocks, whatever the caller's says
	if l.id != clientv3.NoLease && begin.Sub(l.granted) < leaseUse {
		return l.id, nil
	}
	response, err := client.Grant(ctx, leaseSeconds)
	if err != nil {
		return clientv3.NoLease, err
	}
	l.id, l.granted = response.ID, begin
	return l.id, nil
}

// drop forgets a lease, which may be gone.
func (l *leases) drop(id clientv3.LeaseID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.id == id {
		l.id = clientv3.NoLease
	}
}
