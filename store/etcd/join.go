package etcd

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Join implements [store.Grouper]. The ask is in the value of the ticket. Whoever has the turn deletes the ticket and
// writes the answer under a key of its own, in the transaction of its commit, which does nothing unless the ticket is
// there. So whoever deletes the ticket has decided: its caller, who leaves, or another one, who answers. A handle hears
// of all its answers through one stream.
//
// An ask outlives its process for 15 seconds at most, and so does an answer. If a process was stopped for 10 seconds
// while it waited, and finds neither its ticket nor an answer, the error wraps [store.ErrUnknown].
//
// Cost: one round trip, which writes the ticket. If others have theirs, it watches the one before it, and then has its
// answer or makes another round trip.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateJoin(key, ask); err != nil {
		return nil, err
	}
	t := &turn{store: s, done: func() {}}
	err := t.join(ctx, key, ask)
	if err == nil {
		return t, nil
	}
	t.End()
	switch answer, _, unknown := t.Answered(); {
	case unknown != nil:
		return nil, unknown
	case answer != nil:
		return t, nil
	}
	return nil, s.wrap(ctx, fmt.Sprintf("turn at %v", key), err)
}

// maxAsks is how many asks there are in a turn at most.
const maxAsks = 64

// shared is what a turn of Join has beside that of Turn.
type shared struct {
	letter   string    // the key of its answer; empty if it asks for nothing
	value    string    // of its ticket, which no other ticket has
	since    time.Time // when its ticket was written, or before
	answer   []byte
	revision int64
	unknown  error

	behind  []*mvccpb.KeyValue // the tickets of the asks
	asks    [][]byte
	answers [][]byte
}

// Asks implements [store.GroupTurn].
func (t *turn) Asks() [][]byte { return t.asks }

// Answer implements [store.GroupTurn].
func (t *turn) Answer(i int, answer []byte) { t.answers[i] = slices.Clone(answer) }

// Answered implements [store.GroupTurn].
func (t *turn) Answered() ([]byte, int64, error) { return t.answer, t.revision, t.unknown }

// join writes the ticket, and waits until it is the first one or answered.
func (t *turn) join(ctx context.Context, key store.Key, ask []byte) error {
	s := t.store
	t.since = time.Now() //nolint:forbidigo // leases run by the servers' clocks, whatever the caller's says
	w := &waiting{store: s, line: s.keys.turns(key), head: s.keys.record(key)}
	var olds []clientv3.Op
	if len(ask) > 0 {
		name := fmt.Sprintf("%016x", rand.Uint64())
		var err error
		if w.letters, olds, err = s.letters.expect(ctx, s, name); err != nil {
			return err
		}
		defer s.letters.forget(name)
		w.answer = s.letters.key(s, name)
		t.letter, t.value = w.answer, s.letters.handle+"/"+name+"\n"+string(ask)
	}
	response, err := t.enter(ctx, w, t.value, olds)
	if err != nil {
		return err
	}
	for ahead := w.ahead(response); ahead != ""; ahead = w.ahead(response) {
		looked, letter, err := w.await(ctx, ahead)
		switch {
		case err != nil:
			return err
		case letter != nil:
			t.receive(letter)
			return nil
		}
		if response = looked; w.ahead(response) == "" {
			if err := t.meet(w, response); err != nil || t.answer != nil {
				return err
			}
		}
	}
	head, err := t.headOf(key, response)
	t.heads = []store.Record{head}
	return err
}

// meet takes from the look of a ticket that is the first one what is asked for behind it, or its answer.
func (t *turn) meet(w *waiting, looked *clientv3.TxnResponse) error {
	if t.letter == "" {
		return nil
	}
	if answers := looked.Responses[0].GetResponseRange().Kvs; len(answers) > 0 {
		t.receive(answers[0])
		return nil
	}
	there := false
	for _, kv := range looked.Responses[1].GetResponseRange().Kvs {
		there = there || string(kv.Key) == w.ticket
		if _, ask, ok := bytes.Cut(kv.Value, []byte("\n")); ok && kv.CreateRevision > w.created {
			t.behind, t.asks = append(t.behind, kv), append(t.asks, ask)
		}
	}
	t.answers = make([][]byte, len(t.asks))
	if !there {
		return t.overslept()
	}
	return nil
}

// overslept returns an error if the ticket has been gone for so long that there may have been an answer.
func (t *turn) overslept() error {
	const sure = leaseSeconds*time.Second - leaseUse
	if t.letter == "" || time.Since(t.since) < sure { //nolint:forbidigo // leases run by the servers' clocks
		return nil
	}
	t.unknown = fmt.Errorf("%w: etcd: the ticket has been gone for up to %v", store.ErrUnknown, sure)
	return t.unknown
}

// receive takes the answer. It is the end of the turn.
func (t *turn) receive(kv *mvccpb.KeyValue) {
	t.answer, t.revision, t.over = kv.Value, kv.ModRevision, true
	t.store.letters.read(string(kv.Key))
}

// withdraw deletes the ticket, if it is there. If it is not, it reads what may have been answered.
func (t *turn) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawal)
	defer cancel()
	ticket := t.tickets[0]
	for {
		response, err := t.store.kv.Txn(ctx).If(clientv3.Compare(clientv3.Value(ticket), "=", t.value)).
			Then(clientv3.OpDelete(ticket)).Else(clientv3.OpGet(t.letter)).Commit()
		switch {
		case err == nil && response.Succeeded:
			return
		case err == nil:
			if answers := response.Responses[0].GetResponseRange().Kvs; len(answers) > 0 {
				t.receive(answers[0])
			} else {
				_ = t.overslept()
			}
			return
		}
		select {
		case <-time.After(store.MaxTurn / 10):
		case <-ctx.Done():
			t.unknown = fmt.Errorf("%w: etcd: withdraw a ticket: %w", store.ErrUnknown, err)
			return
		}
	}
}

// withdrawal is how long it is tried to withdraw an ask.
const withdrawal = 5 * time.Second

// gives reports whether a commit in the turn answers asks. A nil turn does not.
func (t *turn) gives() bool {
	return t != nil && slices.ContainsFunc(t.answers, func(answer []byte) bool { return answer != nil })
}

// give adds the answers to the plan of a commit.
func (t *turn) give(p *plan) {
	for i, answer := range t.answers {
		if answer == nil {
			continue
		}
		ticket := t.behind[i]
		letter, _, _ := strings.Cut(string(ticket.Value), "\n")
		p.ifs = append(p.ifs,
			clientv3.Compare(clientv3.CreateRevision(string(ticket.Key)), "=", ticket.CreateRevision))
		p.thens = append(p.thens, clientv3.OpDelete(string(ticket.Key)),
			clientv3.OpPut(t.store.keys.answers(letter), string(answer), clientv3.WithLease(clientv3.LeaseID(ticket.Lease))))
	}
}

// letters are the answers that a handle waits for.
type letters struct {
	starting sync.Mutex
	mu       sync.Mutex
	handle   string // what their keys have in common
	open     bool   // the stream is
	waiting  map[string]chan *mvccpb.KeyValue
	olds     []clientv3.Op // delete those that have been read
}

// key returns the key of an answer.
func (l *letters) key(s *Store, name string) string { return s.keys.answers(l.handle + "/" + name) }

// expect returns the channel through which the answer comes, which is closed if the stream ends before. It also returns
// what deletes earlier answers.
func (l *letters) expect(ctx context.Context, s *Store, name string) (<-chan *mvccpb.KeyValue, []clientv3.Op, error) {
	l.starting.Lock()
	defer l.starting.Unlock()
	if err := l.listen(ctx, s); err != nil {
		return nil, nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	letter, olds := make(chan *mvccpb.KeyValue, 1), l.olds
	if !l.open {
		close(letter)
		return letter, nil, nil
	}
	l.waiting[name], l.olds = letter, nil
	return letter, olds, nil
}

// listen opens the stream unless it is open.
func (l *letters) listen(ctx context.Context, s *Store) error {
	l.mu.Lock()
	open := l.open
	l.mu.Unlock()
	if open {
		return nil
	}
	l.handle = fmt.Sprintf("%016x", rand.Uint64())
	listening, cancel := context.WithCancel(context.Background())
	events := s.watcher.Watch(clientv3.WithRequireLeader(listening), l.key(s, ""), clientv3.WithPrefix(),
		clientv3.WithFilterDelete(), clientv3.WithCreatedNotify())
	select {
	case response, ok := <-events:
		if err := cmp.Or(response.Err(), streamEnd(ok)); err != nil {
			cancel()
			return err
		}
	case <-ctx.Done():
		cancel()
		return ctx.Err()
	}
	l.mu.Lock()
	l.open, l.waiting = true, map[string]chan *mvccpb.KeyValue{}
	l.mu.Unlock()
	go l.deliver(events, cancel)
	return nil
}

// streamEnd returns an error unless the stream is open.
func streamEnd(open bool) error {
	if open {
		return nil
	}
	return errStreamEnded
}

// deliver passes on what comes through the stream, until it ends.
func (l *letters) deliver(events clientv3.WatchChan, cancel context.CancelFunc) {
	defer cancel()
	for response := range events {
		if response.Err() != nil {
			break
		}
		l.mu.Lock()
		for _, event := range response.Events {
			name := string(event.Kv.Key[bytes.LastIndexByte(event.Kv.Key, '/')+1:])
			if letter, ok := l.waiting[name]; ok {
				letter <- event.Kv
				delete(l.waiting, name)
			}
		}
		l.mu.Unlock()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = false
	for _, letter := range l.waiting {
		close(letter)
	}
	l.waiting = nil
}

// forget is called when the answer is not waited for any more.
func (l *letters) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, name)
}

// read notes the key of an answer that has been read.
func (l *letters) read(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.olds = append(l.olds, clientv3.OpDelete(key))
}
