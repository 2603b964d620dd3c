package etcd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Turn implements [store.Store]. A waiting call writes a ticket, a key for the head. The turns come in the order in
// which the tickets were created. A turn ends when its ticket is deleted, which its commit does in its own transaction.
// If there are tickets, a commit without a turn gets in line. As a rule only one call of a Store at a time has a ticket
// at each head.
//
// Callers that wait delete a ticket that has been the first for [store.MaxTurn], or for the present time of twenty
// round trips if that is longer. Tickets have a lease, so none outlives its process by more than 15 seconds.
//
// Cost: one round trip, which writes the ticket. If there are others, the call watches the one before its own, and then
// takes another round trip.
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
	lease   clientv3.LeaseID
	lines   []string // what the keys of the tickets at each head begin with
	tickets []string // keys
	slots   []uint32 // their names
	heads   []store.Record
	done    func()
	over    bool                 // the tickets are deleted
	rest    [][]*mvccpb.KeyValue // the tickets that are left in each line, the first ones first
	once    sync.Once
	ended   bool
	shared  // of Join
}

// Heads implements [store.Turn].
func (t *turn) Heads() []store.Record { return t.heads }

// End implements [store.Turn].
func (t *turn) End() {
	t.once.Do(func() {
		t.ended = true
		switch {
		case t.over || len(t.tickets) == 0:
		case t.joined:
			t.withdraw()
		default:
			ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
			defer cancel()
			response, err := t.store.kv.Txn(ctx).Then(append(t.deletes(), restOps(t.lines...)...)...).Commit()
			if err == nil { // else those that wait do it
				t.rest = restOf(response.Responses)
			}
		}
		t.store.tell(t.rest)
		t.store.slots.give(t.slots)
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

// restOps are the operations that read who waits in the lines, the first ones first.
func restOps(lines ...string) []clientv3.Op {
	ops := make([]clientv3.Op, len(lines))
	for i, line := range lines {
		ops[i] = clientv3.OpGet(line, append(clientv3.WithFirstCreate(), clientv3.WithLimit(maxAsks))...)
	}
	return ops
}

// turnOf returns this store's turn among the changes, or nil.
func (s *Store) turnOf(changes []store.Change) *turn {
	for i := range changes {
		if t, ok := changes[i].Turn.(*turn); ok && t.store == s && !t.ended && !t.over {
			return t
		}
	}
	return nil
}

// queue writes a ticket at the key, waits until it is the first one, and returns the head as it is then.
func (t *turn) queue(ctx context.Context, key store.Key) (store.Record, error) {
	w := &waiting{store: t.store, line: t.store.keys.turns(key), head: t.store.keys.record(key)}
	response, err := t.enter(ctx, w, nil)
	if err != nil {
		return store.Record{}, err
	}
	for ahead := w.ahead(response); ahead != ""; ahead = w.ahead(response) {
		if response, err = w.await(ctx, ahead); err != nil {
			return store.Record{}, err
		}
	}
	return t.headOf(key, response)
}

// headOf returns the head that was read with a ticket.
func (t *turn) headOf(key store.Key, response *clientv3.TxnResponse) (store.Record, error) {
	kvs := response.Responses[len(response.Responses)-1].GetResponseRange().Kvs
	if len(kvs) == 0 {
		return store.Record{Key: key}, nil
	}
	return t.store.decode(key, kvs[0])
}

// enter writes the ticket, unless it has been withdrawn, and does more beside. It returns what a look has.
func (t *turn) enter(ctx context.Context, w *waiting, more []clientv3.Op) (*clientv3.TxnResponse, error) {
	s, begin := t.store, time.Now() //nolint:forbidigo // how long a round trip takes is no matter of the caller's clock
	t.lines = append(t.lines, w.line)
	lease, err := s.leases.get(ctx, s.client)
	if err != nil {
		return nil, err
	}
	t.lease = lease
	for {
		slot := s.slots.take()
		w.ticket = fmt.Sprintf("%s%04x", w.line, slot)
		mark := len(t.tickets)
		t.tickets, t.slots = append(t.tickets, w.ticket), append(t.slots, slot)
		ops := slices.Concat(more, []clientv3.Op{
			clientv3.OpPut(w.ticket, t.value, clientv3.WithLease(lease)),
			clientv3.OpGet(w.line, append(clientv3.WithLastCreate(), clientv3.WithLimit(2), clientv3.WithKeysOnly())...),
			clientv3.OpGet(w.head),
		})
		ifs := []clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(w.ticket), "=", 0)}
		if t.letter != "" {
			ifs = append(ifs, clientv3.Compare(clientv3.CreateRevision(t.letter+letterTurn), "=", 0))
		}
		response, err := s.kv.Txn(ctx).If(ifs...).Then(ops...).Commit()
		if err != nil {
			s.leases.drop(lease)
			return nil, err
		}
		if response.Succeeded {
			w.created = response.Header.Revision
			w.patience = max(store.MaxTurn, patientTrips*time.Since(begin)) //nolint:forbidigo // the same
			return response, nil
		}
		t.tickets, t.slots = t.tickets[:mark], t.slots[:mark]
		s.slots.widen()
	}
}

// patientTrips is how many round trips a turn may take in any case, where they take long.
const patientTrips = 20

// waiting is one ticket that is not the first of its line.
type waiting struct {
	store   *Store
	line    string
	head    string
	ticket  string
	created int64                   // the revision of the ticket
	letter  string                  // the key of the letter; empty for a turn of Turn
	letters <-chan *mvccpb.KeyValue // the letter comes here

	patience time.Duration // for the first ticket
	first    int64         // the revision of the first ticket when that was looked at last
}

// look reads the last ticket before this one, and the head. For a turn of Join, it also reads the letter, and the
// tickets of all.
func (w *waiting) look(ctx context.Context) (*clientv3.TxnResponse, error) {
	before := append(clientv3.WithLastCreate(), clientv3.WithMaxCreateRev(w.created-1), clientv3.WithKeysOnly())
	var ops []clientv3.Op
	if w.letter != "" {
		all := append(clientv3.WithFirstCreate(), clientv3.WithLimit(maxAsks))
		ops = append(ops, clientv3.OpGet(w.letter), clientv3.OpGet(w.line, all...))
	}
	ops = append(ops, clientv3.OpGet(w.line, before...), clientv3.OpGet(w.head))
	return w.store.kv.Txn(ctx).Then(ops...).Commit()
}

// ahead returns the ticket before this one, as a look or the writing of the ticket has it; empty if there is none.
func (w *waiting) ahead(response *clientv3.TxnResponse) string {
	for _, kv := range response.Responses[len(response.Responses)-2].GetResponseRange().Kvs {
		if string(kv.Key) != w.ticket {
			return string(kv.Key)
		}
	}
	return ""
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
			if w.ahead(response) != ticket {
				return response, nil
			}
		case <-late.C:
			if err := w.passOver(ctx); err != nil {
				return nil, err
			}
		}
	}
}

// passOver deletes the first ticket if it was that before, which is patience ago, and is not this one. It notes which
// one is the first.
func (w *waiting) passOver(ctx context.Context) error {
	response, err := w.store.kv.Get(ctx, w.line, append(clientv3.WithFirstCreate(), clientv3.WithKeysOnly())...)
	if err != nil {
		return err
	}
	before := w.first
	if w.first = 0; len(response.Kvs) == 0 {
		return nil
	}
	first := response.Kvs[0]
	if w.first = first.CreateRevision; w.first != before || w.first == w.created {
		return nil
	}
	deleted, err := w.store.kv.Txn(ctx).If(isThere(first)).
		Then(clientv3.OpDelete(string(first.Key)), restOps(w.line)[0]).Commit()
	if err == nil && deleted.Succeeded {
		w.store.tell(restOf(deleted.Responses))
	}
	return err
}

// The time that tickets and answers outlive their process, and after which new ones get another lease.
const (
	leaseSeconds = 15
	leaseUse     = 5 * time.Second
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
