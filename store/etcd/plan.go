package etcd

import (
	"net/netip"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/ipalloc/ipalloc/store"
)

// role is what a guarded key is in a commit.
type role int

const (
	roleHead   role = iota
	roleCreate      // must not exist
	roleChange      // is replaced or deleted
)

// guard is a record that must be at a revision, 0 if it must not exist.
type guard struct {
	key      store.Key
	revision int64
	role     role
}

// plan is a commit as a transaction. If the guards do not hold, it reads the keys of the heads, and of all guards if
// they are few: what a transaction may read makes it larger whether it does or not. The first guard is that of a head.
type plan struct {
	guards     []guard
	written    []store.Record
	deleted    []store.Key
	operations int // before they were nested

	ifs   []clientv3.Cmp
	thens []clientv3.Op
}

// fewGuards is how many guards a plan reads all of.
const fewGuards = 8

// elses returns the guards that the transaction reads if one does not hold.
func (p *plan) elses() []guard {
	if len(p.guards) <= fewGuards {
		return p.guards
	}
	return slices.DeleteFunc(slices.Clone(p.guards), func(g guard) bool { return g.role != roleHead })
}

func (s *Store) gets(guards []guard) []clientv3.Op {
	gets := make([]clientv3.Op, len(guards))
	for i, g := range guards {
		gets[i] = clientv3.OpGet(s.keys.record(g.key))
	}
	return gets
}

// plan makes the transaction for the commit, with what is known of the records.
func (s *Store) plan(c *commit) (*plan, error) {
	changes, seen := c.changes, c.seen
	p := &plan{}
	alters := false
	for i := range changes {
		head, writes := changes[i].Head, changes[i].Writes
		old := indexed{}
		if head.Revision != 0 {
			old = s.recall(head.Key, seen)
		}
		deletes := changes[i].DeletesHead()
		alters = alters || !deletes || old.revision != 0
		op := store.Put
		if deletes {
			op = store.Delete
		}
		if err := s.planWrite(p, store.Write{Op: op, Record: head}, roleHead, old); err != nil {
			return nil, err
		}
		for j := range writes {
			if writes[j].Record.Key == head.Key {
				continue
			}
			role, old := roleCreate, indexed{}
			if writes[j].Op != store.Create {
				role, old = roleChange, s.recall(writes[j].Record.Key, seen)
			}
			alters = alters || writes[j].Op != store.Delete || old.revision != 0
			if err := s.planWrite(p, writes[j], role, old); err != nil {
				return nil, err
			}
		}
	}
	if !alters {
		// A commit that only deletes what does not exist has a revision of its own too.
		p.thens = append(p.thens, clientv3.OpPut(s.keys.marker(), ""))
	}
	switch {
	case c.turn != nil:
		p.thens = append(p.thens, c.turn.deletes()...)
		c.turn.give(p)
		p.thens = append(p.thens, restOps(c.turn.lines...)...)
	case !c.hurries && len(p.ifs)+len(changes) <= s.options.MaxTxnOps:
		for i := range changes {
			tickets := clientv3.CreateRevision(s.keys.turns(changes[i].Head.Key))
			p.ifs = append(p.ifs, clientv3.Compare(tickets, "=", 0).WithPrefix())
		}
	default: // nothing may be answered any more that was asked for before
		for i := range changes {
			p.thens = append(p.thens, clientv3.OpDelete(s.keys.turns(changes[i].Head.Key), clientv3.WithPrefix()))
		}
	}
	return p, p.fit(s.options.MaxTxnOps)
}

// planWrite adds a write of a record of which the indexes have old.
func (s *Store) planWrite(p *plan, w store.Write, role role, old indexed) error {
	key := w.Record.Key
	at := s.keys.record(key)
	p.guards = append(p.guards, guard{key, old.revision, role})
	p.ifs = append(p.ifs, clientv3.Compare(clientv3.ModRevision(at), "=", old.revision))
	entries := map[string]string{}
	if w.Op == store.Delete {
		p.deleted = append(p.deleted, key)
		if old.revision != 0 {
			p.thens = append(p.thens, clientv3.OpDelete(at))
		}
	} else {
		r := w.Record.Canonical()
		value, err := encodeRecord(r)
		if err != nil {
			return err
		}
		p.written = append(p.written, r)
		p.thens = append(p.thens, clientv3.OpPut(at, value))
		entries = s.keys.entries(key, indexedOf(r), value)
	}
	for entry := range s.keys.entries(key, old, "") {
		if _, stays := entries[entry]; !stays {
			p.thens = append(p.thens, clientv3.OpDelete(entry))
		}
	}
	for entry, value := range entries {
		p.thens = append(p.thens, clientv3.OpPut(entry, value))
	}
	var labels map[string]string
	if w.Op != store.Delete && key.Kind.IsLabelled() {
		labels = w.Record.Labels
	}
	s.planLabels(p, key, old.labels, labels)
	return nil
}

// planLabels adds the writes by which the index by label has a record with other labels. Entries of those that stay are
// not written again: what they say is in their keys, and the record alone has its revision.
func (s *Store) planLabels(p *plan, key store.Key, before, after map[string]string) {
	name := escape(key.Name)
	for label, value := range before {
		if now, ok := after[label]; !ok || now != value {
			p.thens = append(p.thens, clientv3.OpDelete(s.keys.labelled(key.Kind, key.Pool, label, value)+name))
		}
	}
	for label, value := range after {
		if had, ok := before[label]; !ok || had != value {
			p.thens = append(p.thens, clientv3.OpPut(s.keys.labelled(key.Kind, key.Pool, label, value)+name, ""))
		}
	}
}

// entries returns what the indexes by prefix and expiry have of a record: the keys, and under those by expiry a copy of
// the record, since who finds one wants the records of a whole page.
func (k keyspace) entries(key store.Key, r indexed, value string) map[string]string {
	entries := make(map[string]string, len(r.prefixes)+1)
	for _, p := range r.prefixes {
		entries[k.holder(key, p)] = ""
	}
	if !r.expires.IsZero() {
		entries[k.expiry(key, r.expires)] = value
	}
	return entries
}

func (k keyspace) holder(key store.Key, prefix netip.Prefix) string {
	return k.holders(key.Pool, prefix) + escape(key.Name)
}

// fit nests the operations, if there are more than limit, so that the servers take them: they count the comparisons and
// operations of a transaction, whichever are more, and admit to each transaction nested in it, as one of its
// operations, as many as are then left to the limit. All are applied together, at one revision.
func (p *plan) fit(limit int) error {
	p.operations = len(p.thens)
	if len(p.ifs) > limit {
		return &store.TooLargeError{What: "heads and writes of a commit", Size: int64(len(p.ifs)), Limit: int64(limit)}
	}
	if len(p.thens) <= limit {
		return nil
	}
	most := limit
	for nested := 2; nested <= limit; nested++ {
		room := limit - max(nested, len(p.ifs))
		most = max(most, nested*room)
		if nested*room >= len(p.thens) {
			p.thens = nest(p.thens, room)
			return nil
		}
	}
	return &store.TooLargeError{What: "operations of a commit", Size: int64(len(p.thens)), Limit: int64(most)}
}

// nest returns transactions of at most size operations each, which have no comparisons and so always succeed.
func nest(ops []clientv3.Op, size int) []clientv3.Op {
	var nested []clientv3.Op
	for part := range slices.Chunk(ops, size) {
		nested = append(nested, clientv3.OpTxn(nil, part, nil))
	}
	return nested
}
