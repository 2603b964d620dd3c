package etcd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Join implements [store.Grouper]. The ask is in the value of the ticket. The caller that has the turn deletes the
// ticket and writes the answer under another key, in the transaction of its commit, which does nothing unless the
// ticket exists. So the deletion of the ticket decides: either its own caller deletes it and leaves, or another caller
// deletes it and answers. A handle gets all its answers through one stream. Through the same stream the handle that had
// the turn before tells it that it has the turn.
//
// An ask or an answer outlives its process by at most 15 seconds. If a process was stopped for 10 seconds while it
// waited, and then finds neither its ticket nor an answer, the error wraps [store.ErrUnknown].
//
// Cost: one round trip, which writes the ticket. A call that finds others in line and is not answered takes another one
// when its turn has come.
func (s *Store) Join(ctx context.Context, key store.Key, ask []byte) (store.GroupTurn, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateJoin(key, ask); err != nil {
		return nil, err
	}
	t := &turn{store: s, done: func() {}, shared: shared{joined: true}}
	err := t.join(ctx, key, ask)
	if err == nil {
		if t.answer != nil {
			t.End()
		}
		return t, nil
	}
	return store.EndJoin(t, s.wrap(ctx, fmt.Sprintf("turn at %v", key), err))
}

// maxAsks is how many asks there are in a turn at most.
const maxAsks = 64

// shared is what a turn of Join has beside that of Turn.
type shared struct {
	joined   bool      // the turn is one of Join
	letter   string    // the key of its letter
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

// Next implements [store.GroupTurn].
func (t *turn) Next() store.GroupTurn {
	if !t.over || len(t.rest) != 1 || len(t.rest[0]) == 0 {
		return nil
	}
	if _, ask, _ := bytes.Cut(t.rest[0][0].Value, []byte("\n")); len(ask) == 0 {
		return nil // the first one wants its turn
	}
	next := &turn{store: t.store, done: func() {}, lines: t.lines, heads: t.heads, rest: t.rest}
	next.joined = true
	next.take(t.rest[0])
	t.rest = nil
	return next
}

// take takes the asks of tickets.
func (t *turn) take(tickets []*mvccpb.KeyValue) {
	for _, kv := range tickets {
		_, ask, _ := bytes.Cut(kv.Value, []byte("\n"))
		if len(ask) == 0 {
			continue
		}
		t.behind, t.asks = append(t.behind, kv), append(t.asks, ask)
	}
	t.answers = make([][]byte, len(t.asks))
}

// Answered implements [store.GroupTurn].
func (t *turn) Answered() ([]byte, int64, error) { return bytes.Clone(t.answer), t.revision, t.unknown }

// join writes the ticket, and waits until it is the first one or answered.
func (t *turn) join(ctx context.Context, key store.Key, ask []byte) error {
	s := t.store
	t.since = time.Now() //nolint:forbidigo // leases run by the servers' clocks, whatever the caller's says
	w := &waiting{store: s, line: s.keys.turns(key), head: s.keys.record(key)}
	name := fmt.Sprintf("%016x", rand.Uint64())
	letters, olds, err := s.letters.expect(ctx, s, name)
	if err != nil {
		return err
	}
	defer s.letters.forget(name)
	w.letters, w.letter = letters, s.letters.key(s, name)
	t.letter, t.value = w.letter, s.letters.handle+"/"+name+"\n"+string(ask)
	response, err := t.enter(ctx, w, olds)
	if err != nil {
		return err
	}
	if w.ahead(response) != "" {
		if response, err = t.waitFor(ctx, w); err != nil || t.answer != nil {
			return err
		}
	}
	head, err := t.headOf(key, response)
	t.heads = []store.Record{head}
	return err
}

// waitFor waits for an answer, or for the turn, and returns what there is then. If nobody tells, the ticket has the
// turn when it has been the first one for as long as a turn may take, or is not there any more.
func (t *turn) waitFor(ctx context.Context, w *waiting) (*clientv3.TxnResponse, error) {
	late := time.NewTicker(w.patience)
	defer late.Stop()
	for {
		select {
		case letter, open := <-w.letters:
			if !open {
				w.letters = nil
				continue
			}
			if t.receive(letter) {
				return nil, nil
			}
		case <-late.C:
			before := w.first
			if err := w.passOver(ctx); err != nil {
				return nil, err
			}
			if w.first != 0 && w.first < w.created || w.first == w.created && before != w.first {
				continue // others are before it, or were until now
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		response, err := w.look(ctx)
		if err != nil {
			return nil, err
		}
		if w.ahead(response) == "" {
			return response, t.meet(w, response)
		}
	}
}

// meet takes from the look of a ticket that is the first one what is asked for behind it, or its answer.
func (t *turn) meet(w *waiting, looked *clientv3.TxnResponse) error {
	if letters := looked.Responses[0].GetResponseRange().Kvs; len(letters) > 0 && t.receive(letters[0]) {
		return nil
	}
	tickets := looked.Responses[1].GetResponseRange().Kvs
	own := slices.IndexFunc(tickets, func(kv *mvccpb.KeyValue) bool { return kv.CreateRevision == w.created })
	if own < 0 {
		return t.overslept()
	}
	t.take(tickets[own+1:])
	return nil
}

// overslept returns an error if the ticket has been gone for so long that there may have been an answer.
func (t *turn) overslept() error {
	const sure = leaseSeconds*time.Second - leaseUse
	if time.Since(t.since) < sure { //nolint:forbidigo // leases run by the servers' clocks
		return nil
	}
	t.unknown = fmt.Errorf("%w: etcd: the ticket has been gone for up to %v", store.ErrUnknown, sure)
	return t.unknown
}

// receive reads a letter. It reports whether that is the answer, which is the end of the turn.
func (t *turn) receive(kv *mvccpb.KeyValue) bool {
	t.store.letters.discard(kv.Key)
	if string(kv.Key) != t.letter {
		return false
	}
	t.answer, t.revision, t.over = kv.Value, kv.ModRevision, true
	return true
}

// withdraw deletes the ticket, if it is there. If it is not, it reads what may have been answered, and makes sure that
// the ticket is not written late.
func (t *turn) withdraw() {
	ctx, cancel := context.WithTimeout(context.Background(), withdrawal)
	defer cancel()
	ticket := t.tickets[0]
	for {
		response, err := t.store.kv.Txn(ctx).If(clientv3.Compare(clientv3.Value(ticket), "=", t.value)).
			Then(append(t.deletes(), restOps(t.lines...)...)...).
			Else(clientv3.OpGet(t.letter), clientv3.OpPut(t.letter+letterTurn, "", clientv3.WithLease(t.lease))).Commit()
		switch {
		case err == nil && response.Succeeded:
			t.rest = restOf(response.Responses)
			return
		case err == nil:
			if letters := response.Responses[0].GetResponseRange().Kvs; len(letters) == 0 || !t.receive(letters[0]) {
				_ = t.overslept()
			}
			return
		case errors.Is(err, rpctypes.ErrLeaseNotFound): // the ticket and the letters had the same lease
			_ = t.overslept()
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

// give adds the answers to the plan of a commit, which is not made if there is an answer to the turn's own ask.
func (t *turn) give(p *plan) {
	if t.letter != "" {
		p.ifs = append(p.ifs, clientv3.Compare(clientv3.CreateRevision(t.letter), "=", 0))
	}
	for i, answer := range t.answers {
		if answer == nil {
			continue
		}
		ticket := t.behind[i]
		p.ifs = append(p.ifs, isThere(ticket))
		p.thens = append(p.thens, clientv3.OpDelete(string(ticket.Key)), t.store.send(ticket, letterAnswer, string(answer)))
	}
}
