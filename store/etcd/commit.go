package etcd

import (
	"context"
	"errors"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// Commit implements [store.Store]. It is one etcd transaction. It first takes one more round trip for each head that
// the handle has not seen at its revision. It takes another one (two for more than eight records) after each attempt
// that finds a record to be replaced or deleted changed since the handle last saw it.
//
// The commit must remove the index entries of records that are replaced or deleted, and a transaction cannot look these
// up. So it is planned from what the handle remembers of each record, and guarded by the revision of each. If a
// revision differs, the transaction only reads the records, and is planned again with these. So the indexes are exact
// at every revision.
func (s *Store) Commit(ctx context.Context, changes ...store.Change) ([]store.Record, error) {
	shares := false
	defer func() {
		if !shares { // else there may be a next one
			store.EndTurns(changes)
		}
	}()
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	if err := store.ValidateCommit(changes...); err != nil {
		return nil, err
	}
	done, err := s.turns.Yield(ctx, changes)
	if err != nil {
		return nil, fmt.Errorf("etcd: %w", err)
	}
	defer done()
	c := &commit{changes: changes, seen: make(sightings), turn: s.turnOf(changes)}
	if c.turn == nil {
		defer func() { c.endTurn() }()
	}
	if err := s.learnHeads(ctx, changes, c.seen); err != nil {
		return nil, err
	}
	for {
		heads, err := s.try(ctx, c)
		if err != nil || heads != nil {
			shares = err == nil && c.turn != nil && c.turn.joined
			return heads, err
		}
	}
}

// commit is a commit on its way.
type commit struct {
	changes []store.Change
	seen    sightings
	turn    *turn // nil if it has none
	hurries bool  // it has no turn, and does not wait for those that have
}

func (c *commit) endTurn() {
	if c.turn != nil {
		c.turn.End()
	}
}

// try sends the transaction once. It returns nothing if there has to be another one.
func (s *Store) try(ctx context.Context, c *commit) ([]store.Record, error) {
	p, err := s.plan(c)
	if err != nil {
		return nil, err
	}
	a := &attempt{KVClient: s.remote, limit: s.options.MaxRequestBytes}
	reads := p.elses()
	response, err := clientv3.NewKVFromKVClient(a, s.client).Txn(ctx).If(p.ifs...).Then(p.thens...).
		Else(s.gets(reads)...).Commit()
	if err != nil {
		return nil, s.explain(ctx, a, p, err)
	}
	if response.Succeeded {
		heads := s.succeeded(c.changes, p, response.Header.Revision)
		if c.turn != nil {
			c.turn.over, c.turn.rest, c.turn.heads = true, restOf(response.Responses), heads
		}
		return heads, nil
	}
	same, err := s.failed(reads, response.Responses, c.seen)
	if err != nil {
		return nil, err
	}
	if len(reads) < len(p.guards) {
		if response, err = s.kv.Txn(ctx).Then(s.gets(p.guards)...).Commit(); err != nil {
			return nil, s.wrap(ctx, fmt.Sprintf("commit %v", p.guards[0].key), err)
		}
		if same, err = s.failed(p.guards, response.Responses, c.seen); err != nil {
			return nil, err
		}
	}
	if same && c.turn != nil && c.turn.joined {
		return nil, s.left(ctx, c)
	}
	if !same || c.turn != nil || c.hurries {
		return nil, nil
	}
	// All is as it should be, so others have tickets. If no turn is to be had, the commit is made without.
	keys := make([]store.Key, len(c.changes))
	for i := range c.changes {
		keys[i] = c.changes[i].Head.Key
	}
	t, err := s.takeTurn(ctx, func() {}, keys)
	if err != nil {
		c.hurries = true
		return nil, ctx.Err()
	}
	c.turn = t.(*turn)
	return nil, nil
}

// left returns the error of a commit of which an asker has left, or whose own ask another commit has answered. All of
// its heads are as they should be.
func (s *Store) left(ctx context.Context, c *commit) error {
	head := c.changes[0].Head
	for i := range c.changes {
		if c.changes[i].Turn == store.Turn(c.turn) {
			head = c.changes[i].Head
			break
		}
	}
	current, err := s.getOrNone(ctx, head.Key)
	if err != nil {
		return err
	}
	return &store.ConflictError{Expected: head.Revision, Current: current}
}

// getOrNone returns the record under key, or one of revision 0 that has nothing but the key if there is none.
func (s *Store) getOrNone(ctx context.Context, key store.Key) (store.Record, error) {
	record, _, err := s.get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{Key: key}, nil
	}
	return record, err
}

// sightings are what one commit has found out. The handle's memory is shared, and may have forgotten it before it is
// used.
type sightings map[store.Key]indexed

// recall returns what is known of a record, at revision 0 if it is nothing.
func (s *Store) recall(key store.Key, seen sightings) indexed {
	if known, ok := seen[key]; ok {
		return known
	}
	return s.known.recall(key)
}

// learnHeads reads the heads of which the handle does not remember what the indexes have of them.
func (s *Store) learnHeads(ctx context.Context, changes []store.Change, seen sightings) error {
	for i := range changes {
		head := changes[i].Head
		if head.Revision == 0 {
			continue
		}
		if seen[head.Key] = s.known.recall(head.Key); seen[head.Key].revision == head.Revision {
			continue
		}
		current, err := s.getOrNone(ctx, head.Key)
		if err != nil {
			return err
		}
		if current.Revision != head.Revision {
			return &store.ConflictError{Expected: head.Revision, Current: current}
		}
		seen[head.Key] = indexedOf(current)
	}
	return nil
}

// succeeded remembers what was written, and returns the heads.
func (s *Store) succeeded(changes []store.Change, p *plan, revision int64) []store.Record {
	for _, r := range p.written {
		r.Revision = revision
		s.known.note(r)
	}
	for _, key := range p.deleted {
		s.known.forget(key)
	}
	heads := make([]store.Record, len(changes))
	for i := range changes {
		heads[i] = changes[i].Head.Canonical()
		heads[i].Revision = revision
	}
	return heads
}

// failed returns why a transaction did nothing, or nil if the guards do not say or it is to be planned again. The
// responses tell what there is under the key of each guard. It reports whether that is the same as was expected.
func (s *Store) failed(guards []guard, responses []*pb.ResponseOp, seen sightings) (same bool, err error) {
	same = true
	current := make([]store.Record, len(guards))
	for i, g := range guards {
		current[i].Key = g.key
		kvs := responses[i].GetResponseRange().Kvs
		if len(kvs) == 0 {
			s.known.forget(g.key)
			seen[g.key] = indexed{}
			continue
		}
		if current[i], err = s.decode(g.key, kvs[0]); err != nil {
			return false, err
		}
		seen[g.key] = indexedOf(current[i])
	}
	for i, g := range guards {
		same = same && current[i].Revision == g.revision
		if g.role == roleHead && current[i].Revision != g.revision {
			return false, &store.ConflictError{Expected: g.revision, Current: current[i]}
		}
	}
	var standing []store.Record
	for i, g := range guards {
		if g.role == roleCreate && current[i].Revision != 0 {
			standing = append(standing, current[i])
		}
	}
	if standing != nil {
		return false, &store.ExistsError{Records: standing}
	}
	return same, nil
}

// explain returns the error of a commit whose transaction ended with err.
func (s *Store) explain(ctx context.Context, a *attempt, p *plan, err error) error {
	wrapped := s.wrap(ctx, fmt.Sprintf("commit %v", p.guards[0].key), err)
	switch a.outcome(err) {
	case refused:
		return wrapped
	case tooLarge:
		return p.tooLarge(a, err)
	case noSpace:
		return s.explainNoSpace(ctx, p, wrapped)
	default:
		return fmt.Errorf("%w: %w", store.ErrUnknown, wrapped)
	}
}

// explainNoSpace finds out whether a transaction was applied although the server said that there is no space left,
// which is rare, or was refused; reading is possible without space. It was decided before the server answered, so that
// it is known if the head is where it was. (A new head that is not there might have been deleted by others since, in
// which case nobody is told of it any more.)
func (s *Store) explainNoSpace(ctx context.Context, p *plan, err error) error {
	head := p.guards[0]
	current, _, readErr := s.get(ctx, head.key)
	switch {
	case errors.Is(readErr, store.ErrNotFound) && head.revision == 0:
		return err
	case readErr == nil && current.Revision == head.revision:
		return err
	default:
		return fmt.Errorf("%w: %w", store.ErrUnknown, errors.Join(err, readErr))
	}
}

// tooLarge returns the error of a commit that is larger than err says that it may be.
func (p *plan) tooLarge(a *attempt, err error) error {
	var ours *store.TooLargeError
	if errors.As(err, &ours) {
		return ours
	}
	what := &store.TooLargeError{What: "commit in bytes", Size: int64(a.size)}
	if errors.Is(err, rpctypes.ErrTooManyOps) {
		what = &store.TooLargeError{What: "operations of a commit", Size: int64(p.operations)}
	}
	return fmt.Errorf("etcd: %w: %w", what, err)
}
