package bolt

import (
	"bytes"
	"slices"
	"sort"

	"go.etcd.io/bbolt"
)

// batch is what a commit changes in one bucket. It is changed in the order of the keys: bbolt keeps a page that a
// commit makes in one sorted array until it splits it, so that keys in any other order would cost their number squared.
type batch struct {
	*bucket
	ops     []op
	deleted int64 // how many bytes flush has deleted
}

// op is a put of a key or, with a nil value, a deletion.
type op struct {
	key, value []byte
	group      int // how many bytes of key say which group of keys it is in: in one, keys may come in order
	deletes    bool
}

// batch returns a batch for a bucket of tx.
func (p *pages) batch(tx *bbolt.Tx, name string) (*batch, error) {
	b, err := p.bucket(tx, name)
	return &batch{bucket: b}, err
}

func (b *batch) put(key, value []byte, group int) {
	b.ops = append(b.ops, op{key: key, value: value, group: group})
}

func (b *batch) delete(key []byte) { b.ops = append(b.ops, op{key: key, deletes: true}) }

// How full bbolt makes the pages that it splits. Where each key comes after all others of its group, nothing will be
// inserted in the pages before, so they are filled. Where keys come in any order they must have room.
const (
	fillInOrder = 0.96
	fillAnyhow  = 0.5
)

// flush makes the changes. No two of them are of one key.
func (b *batch) flush() error {
	slices.SortFunc(b.ops, func(x, y op) int { return bytes.Compare(x.key, y.key) })
	var leaf *subtree
	last, others := 0, 0 // of the new keys, which come after all others of their group
	for i := range b.ops {
		o := &b.ops[i]
		if !leaf.covers(o.key) {
			var err error
			if leaf, err = b.tree.path(o.key, true); err != nil {
				return err
			}
		}
		switch at, found := leaf.search(o.key); {
		case found && o.deletes:
			b.deleted += elementSize + int64(len(o.key)) + int64(leaf.page.elements[at].valueSize)
		case found || o.deletes:
		case leaf.isLast(at, o.key[:o.group]):
			last++
		default:
			others++
		}
	}
	b.in.FillPercent = fillAnyhow
	if last > others {
		b.in.FillPercent = fillInOrder
	}
	cursor := b.in.Cursor()
	for i := range b.ops {
		o := &b.ops[i]
		var err error
		if !o.deletes {
			err = b.in.Put(o.key, o.value)
		} else if found, _ := cursor.Seek(o.key); bytes.Equal(found, o.key) { // as Delete does, with a cursor for all
			err = cursor.Delete()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// search returns where key is, or belongs, in a leaf.
func (s *subtree) search(key []byte) (at int, found bool) {
	elements := s.page.elements
	at = sort.Search(len(elements), func(i int) bool { return bytes.Compare(elements[i].key, key) >= 0 })
	return at, at < len(elements) && bytes.Equal(elements[at].key, key)
}

// isLast reports whether no key from the given element of a leaf on is in the group.
func (s *subtree) isLast(at int, group []byte) bool {
	next := s.high
	if at < len(s.page.elements) {
		next = s.page.elements[at].key
	}
	return !bytes.HasPrefix(next, group)
}
