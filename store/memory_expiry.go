package store

import (
	"cmp"
	"context"
	"iter"
)

// ByExpiry implements [Store]. It yields the records as they were when the iteration began, without any lock.
func (m *Memory) ByExpiry(ctx context.Context, kind Kind, pool string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := (Key{Kind: kind, Pool: pool}).Validate(); err != nil {
			yield(Record{}, err)
			return
		}
		if err := m.usable(ctx); err != nil {
			yield(Record{}, err)
			return
		}
		tree, root := m.shared.freezeExpiry(kind, pool)
		if root == nil {
			return
		}
		defer m.shared.thawExpiry(tree, root)
		for r := range root.all() {
			if err := m.usable(ctx); err != nil {
				yield(Record{}, err)
				return
			}
			if !yield(r.Canonical(), nil) {
				return
			}
		}
	}
}

func (s *records) freezeExpiry(kind Kind, pool string) (*expiryTree, *expiryNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t := s.tables[tableKey{kind, pool}]
	if t == nil || t.expiry == nil || t.expiry.root == nil {
		return nil, nil
	}
	t.expiry.epoch++
	return t.expiry, t.expiry.root
}

// thawExpiry ends what freezeExpiry began. If nothing has changed since, the tree may be changed in place again; else
// there is nothing to do, since whoever changes it has copied what it changes.
func (s *records) thawExpiry(tree *expiryTree, root *expiryNode) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if tree.root == root && root.epoch < tree.epoch {
		tree.epoch--
	}
}

// reorder notes in the table's expiry that after takes the place of before, the record of the same name. Either may be
// nil.
func (t *table) reorder(before, after *Record) {
	if before != nil && !before.Expires.IsZero() {
		t.expiry.remove(before)
	}
	if after != nil && !after.Expires.IsZero() {
		if t.expiry == nil {
			t.expiry = &expiryTree{random: 1}
		}
		t.expiry.insert(after)
	}
}

// expiryTree holds records in the order of Expires, then of name: a treap, of which a root that was handed out stays as
// it is if epoch was raised then. A node of an earlier epoch is never changed, but copied.
type expiryTree struct {
	root   *expiryNode
	epoch  uint64
	random uint64 // never 0
}

// expiryNode is a node of an expiryTree. Its priority is at least those of its children.
type expiryNode struct {
	record      *Record
	left, right *expiryNode
	priority    uint64
	epoch       uint64
}

func compareExpiry(a, b *Record) int {
	return cmp.Or(a.Expires.Compare(b.Expires), cmp.Compare(a.Name, b.Name))
}

func (t *expiryTree) insert(r *Record) {
	t.random ^= t.random << 13
	t.random ^= t.random >> 7
	t.random ^= t.random << 17
	t.root = t.insertAt(t.root, &expiryNode{record: r, priority: t.random, epoch: t.epoch})
}

func (t *expiryTree) remove(r *Record) { t.root = t.removeAt(t.root, r) }

// own returns n if it may be changed, else a copy that may.
func (t *expiryTree) own(n *expiryNode) *expiryNode {
	if n.epoch == t.epoch {
		return n
	}
	mine := *n
	mine.epoch = t.epoch
	return &mine
}

// insertAt returns the tree at n with added.
func (t *expiryTree) insertAt(n, added *expiryNode) *expiryNode {
	if n == nil {
		return added
	}
	if added.priority > n.priority {
		added.left, added.right = t.split(n, added.record)
		return added
	}
	n = t.own(n)
	if compareExpiry(added.record, n.record) < 0 {
		n.left = t.insertAt(n.left, added)
	} else {
		n.right = t.insertAt(n.right, added)
	}
	return n
}

// removeAt returns the tree at n without r.
func (t *expiryTree) removeAt(n *expiryNode, r *Record) *expiryNode {
	if n == nil {
		return nil
	}
	order := compareExpiry(r, n.record)
	if order == 0 {
		return t.merge(n.left, n.right)
	}
	n = t.own(n)
	if order < 0 {
		n.left = t.removeAt(n.left, r)
	} else {
		n.right = t.removeAt(n.right, r)
	}
	return n
}

// split returns what of the tree at n comes before r, and what after.
func (t *expiryTree) split(n *expiryNode, r *Record) (before, after *expiryNode) {
	if n == nil {
		return nil, nil
	}
	n = t.own(n)
	if compareExpiry(n.record, r) < 0 {
		n.right, after = t.split(n.right, r)
		return n, after
	}
	before, n.left = t.split(n.left, r)
	return before, n
}

// merge returns one tree of two, all of the first before all of the second.
func (t *expiryTree) merge(before, after *expiryNode) *expiryNode {
	switch {
	case before == nil:
		return after
	case after == nil:
		return before
	case before.priority > after.priority:
		before = t.own(before)
		before.right = t.merge(before.right, after)
		return before
	default:
		after = t.own(after)
		after.left = t.merge(before, after.left)
		return after
	}
}

// all iterates over the records of the tree at n in order. Cost: O(records taken), and the depth of the tree.
func (n *expiryNode) all() iter.Seq[*Record] {
	return func(yield func(*Record) bool) { n.walk(yield) }
}

func (n *expiryNode) walk(yield func(*Record) bool) bool {
	return n == nil || n.left.walk(yield) && yield(n.record) && n.right.walk(yield)
}
