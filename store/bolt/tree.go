package bolt

import (
	"bytes"
	"fmt"

	"go.etcd.io/bbolt"
)

// maxDepth is more than any tree has: a page has two elements or more, and 2^64 bytes have less than 2^54 pages.
const maxDepth = 64

// tree checks the paths in the tree of one bucket, as it was when the transaction began.
type tree struct {
	pages  *pages
	root   uint64 // 0 if the whole tree is the page inline
	inline *page
	flags  uint32 // of all its elements
}

// subtree is a page of a tree, and the bounds of its keys: at least low, and less than high unless that is nil.
type subtree struct {
	number    uint64
	page      *page
	low, high []byte
}

// rootTree returns the tree of the buckets of tx.
func (p *pages) rootTree(tx *bbolt.Tx) *tree {
	return &tree{pages: p, root: uint64(tx.Cursor().Bucket().Root()), flags: flagBucket}
}

// bucketTree returns the tree of a bucket of tx, and checks its root. The caller may put into the bucket.
func (p *pages) bucketTree(tx *bbolt.Tx, name string) (*tree, error) {
	leaf, err := p.rootTree(tx).path([]byte(name), true)
	if err != nil {
		return nil, err
	}
	i := leaf.page.find([]byte(name))
	if i >= len(leaf.page.elements) || string(leaf.page.elements[i].key) != name {
		return nil, fmt.Errorf("%w: it lacks the bucket %q", ErrCorrupt, name)
	}
	e := leaf.page.elements[i]
	if e.valueSize < bucketHeader || e.valueSize > p.pageSize { // bbolt keeps a larger one on pages of its own
		return nil, fmt.Errorf("%w: the bucket %q has %d bytes", ErrCorrupt, name, e.valueSize)
	}
	value, err := p.part(leaf.number, e.begin+uint64(len(e.key)), e.valueSize)
	if err != nil {
		return nil, err
	}
	t := &tree{pages: p, root: native.Uint64(value)}
	if t.root == 0 {
		if t.inline, err = inlinePage(value[bucketHeader:]); err != nil {
			return nil, err
		}
	}
	_, err = t.load(&subtree{number: t.root})
	return t, err
}

// inlinePage returns the page of a bucket that is a value itself.
func inlinePage(b []byte) (*page, error) {
	if len(b) < pageHeader {
		return nil, fmt.Errorf("%w: a bucket of %d bytes without a page", ErrCorrupt, len(b))
	}
	p := &page{first: b}
	_, err := p.parse(uint64(len(b)), func(at, n uint64) ([]byte, error) { return b[at : at+n], nil })
	if err == nil && p.kind != kindLeaf {
		err = fmt.Errorf("%w: a bucket of %d bytes with a branch", ErrCorrupt, len(b))
	}
	return p, err
}

// path checks the pages from the root to the leaf where key belongs, and returns the leaf. If wide it also checks the
// page before and after each: a cursor moves there from the leaf, and a commit may join a page with one of these.
//
// Cost: O(log of the records stored) pages.
func (t *tree) path(key []byte, wide bool) (*subtree, error) {
	at, err := t.load(&subtree{number: t.root})
	if err != nil {
		return nil, err
	}
	var before, after *subtree
	for range maxDepth {
		if at.page.kind == kindLeaf {
			return at, nil
		}
		i := at.page.find(key)
		next := at.child(i)
		before, after = before.last(), after.child(0)
		if i > 0 {
			before = at.child(i - 1)
		}
		if i+1 < len(at.page.elements) {
			after = at.child(i + 1)
		}
		if at, err = t.load(next); err != nil {
			return nil, err
		}
		if !wide {
			before, after = nil, nil
		}
		for _, beside := range []*subtree{before, after} {
			if beside == nil {
				continue
			}
			if _, err := t.load(beside); err != nil {
				return nil, err
			}
			if beside.page.kind != at.page.kind {
				return nil, fmt.Errorf("%w: a leaf, page %d, and a branch, page %d, at one depth",
					ErrCorrupt, at.number, beside.number)
			}
		}
	}
	return nil, t.tooDeep()
}

func (t *tree) tooDeep() error {
	return fmt.Errorf("%w: the tree with root page %d has more than %d levels", ErrCorrupt, t.root, maxDepth)
}

// leaves returns the leaf where key belongs and those after it below the same branch, up to most, and the branches on
// the way to them. A leaf that several pages continue is alone.
func (t *tree) leaves(key []byte, most int) (leaves, way []*subtree, err error) {
	at, err := t.load(&subtree{number: t.root})
	for range maxDepth {
		switch {
		case err != nil:
			return nil, nil, err
		case at.page.kind == kindLeaf:
			return []*subtree{at}, way, nil
		}
		way = append(way, at)
		first := at.page.find(key)
		next, err := t.load(at.child(first))
		if err != nil {
			return nil, nil, err
		}
		if next.page.kind != kindLeaf {
			at = next
			continue
		}
		leaves = append(leaves, next)
		for i := first + 1; i < len(at.page.elements) && len(leaves) < most && next.page.more == 0; i++ {
			if next, err = t.load(at.child(i)); err != nil {
				return nil, nil, err
			}
			if next.page.kind != kindLeaf || next.page.more > 0 {
				break
			}
			leaves = append(leaves, next)
		}
		return leaves, way, nil
	}
	return nil, nil, t.tooDeep()
}

// child returns the subtree below element i, without its page. Of no subtree it returns none.
func (s *subtree) child(i int) *subtree {
	if s == nil {
		return nil
	}
	elements := s.page.elements
	below := &subtree{number: elements[i].child, low: elements[i].key, high: s.high}
	if i+1 < len(elements) {
		below.high = elements[i+1].key
	}
	return below
}

// last returns the subtree below the last element.
func (s *subtree) last() *subtree {
	if s == nil {
		return nil
	}
	return s.child(len(s.page.elements) - 1)
}

// load reads the page of s and checks it against its bounds.
func (t *tree) load(s *subtree) (_ *subtree, err error) {
	if s.page = t.inline; t.root != 0 {
		if s.page, err = t.pages.read(s.number); err != nil {
			return nil, err
		}
	}
	elements := s.page.elements
	if len(elements) == 0 {
		if s.number != t.root {
			return nil, fmt.Errorf("%w: page %d is an empty leaf", ErrCorrupt, s.number)
		}
		return s, nil
	}
	if bytes.Compare(elements[0].key, s.low) < 0 || s.high != nil && bytes.Compare(s.lastKey(), s.high) >= 0 {
		return nil, fmt.Errorf("%w: page %d has keys that belong elsewhere", ErrCorrupt, s.number)
	}
	for i := range elements {
		if s.page.kind == kindLeaf && elements[i].flags != t.flags {
			return nil, fmt.Errorf("%w: page %d: element %d has the flags %#x, want %#x",
				ErrCorrupt, s.number, i, elements[i].flags, t.flags)
		}
	}
	return s, nil
}

// lastKey returns the greatest key of a page, nil if it has none.
func (s *subtree) lastKey() []byte {
	if n := len(s.page.elements); n > 0 {
		return s.page.elements[n-1].key
	}
	return nil
}

// bucket is a bucket that checks the pages that bbolt is about to use.
type bucket struct {
	in   *bbolt.Bucket
	tree *tree
	leaf *subtree // that was checked last, without those beside it; nil before the first
}

// bucket returns the bucket of tx with that name.
func (p *pages) bucket(tx *bbolt.Tx, name string) (*bucket, error) {
	t, err := p.bucketTree(tx, name)
	if err != nil {
		return nil, err
	}
	return &bucket{in: tx.Bucket([]byte(name)), tree: t}, nil
}

// get returns the value that key had when the transaction began, nil if it had none. It is valid until the transaction
// ends.
func (b *bucket) get(key []byte) (value []byte, err error) {
	if !b.leaf.covers(key) {
		if b.leaf, err = b.tree.path(key, false); err != nil {
			return nil, err
		}
	}
	at, found := b.leaf.search(key)
	if !found {
		return nil, nil
	}
	if value, ok := b.leaf.page.value(at); ok {
		return value, nil
	}
	return b.in.Get(key), nil
}

// covers reports whether key belongs in the subtree, if it has been read.
func (s *subtree) covers(key []byte) bool {
	return s != nil && bytes.Compare(key, s.low) >= 0 && (s.high == nil || bytes.Compare(key, s.high) < 0)
}

func (b *bucket) cursor() *cursor { return &cursor{in: b.in.Cursor(), tree: b.tree} }

// cursor moves through a bucket in a transaction for reading.
type cursor struct {
	in    *bbolt.Cursor
	tree  *tree
	until []byte // the last key of the leaf whose neighbours were checked
	key   []byte
}

// seek moves to the first key that is at least key. There is none if it returns nil.
func (c *cursor) seek(key []byte) (found, value []byte, err error) {
	leaf, err := c.tree.path(key, true)
	if err != nil {
		return nil, nil, err
	}
	c.until = leaf.lastKey()
	c.key, value = c.in.Seek(key)
	return c.key, value, nil
}

// next moves to the next key.
func (c *cursor) next() (found, value []byte, err error) {
	if bytes.Compare(c.key, c.until) > 0 {
		leaf, err := c.tree.path(c.key, true)
		if err != nil {
			return nil, nil, err
		}
		c.until = leaf.lastKey()
	}
	c.key, value = c.in.Next()
	return c.key, value, nil
}
