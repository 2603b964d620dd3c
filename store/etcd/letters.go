package etcd

import (
	"bytes"
	"cmp"
	"context"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// What a letter says, at the end of its key.
const (
	letterTurn   = ".turn" // its reader has the turn
	letterAnswer = ""      // its value is the answer
)

func isThere(ticket *mvccpb.KeyValue) clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(string(ticket.Key)), "=", ticket.CreateRevision)
}

// send sends a letter to whoever has written the ticket.
func (s *Store) send(ticket *mvccpb.KeyValue, kind, text string) clientv3.Op {
	letter, _, _ := strings.Cut(string(ticket.Value), "\n")
	return clientv3.OpPut(s.keys.answers(letter+kind), text, clientv3.WithLease(clientv3.LeaseID(ticket.Lease)))
}

// restOf returns what was read of lines.
func restOf(responses []*pb.ResponseOp) (lines [][]*mvccpb.KeyValue) {
	for _, r := range responses {
		if nested := r.GetResponseTxn(); nested != nil {
			lines = append(lines, restOf(nested.Responses)...)
		}
		if found := r.GetResponseRange(); found != nil {
			lines = append(lines, found.Kvs)
		}
	}
	return lines
}

// tell tells those that are the first of their lines that they have the turn, if they wait to be told.
func (s *Store) tell(lines [][]*mvccpb.KeyValue) {
	for _, line := range lines {
		if len(line) == 0 || len(line[0].Value) == 0 {
			continue
		}
		go func() { // it is nothing for which the caller should wait, and nothing is lost if it fails
			ctx, cancel := context.WithTimeout(context.Background(), store.MaxTurn)
			defer cancel()
			_, _ = s.kv.Txn(ctx).If(isThere(line[0])).Then(s.send(line[0], letterTurn, "")).Commit()
		}()
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
			name, _, _ := strings.Cut(string(event.Kv.Key[bytes.LastIndexByte(event.Kv.Key, '/')+1:]), ".")
			if letter, ok := l.waiting[name]; ok {
				select {
				case <-letter: // an answer comes last
				default:
				}
				letter <- event.Kv
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

// forget is called when no letter is waited for any more.
func (l *letters) forget(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.waiting, name)
}

// discard is called when a letter has been read. Its key is deleted with the next ticket, or with its lease.
func (l *letters) discard(key []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.olds = append(l.olds, clientv3.OpDelete(string(key)))
}
