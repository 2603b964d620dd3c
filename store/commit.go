package store

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Op is what a [Write] does with its record.
type Op uint8

// The operations of a [Write]. The zero Op is not valid.
const (
	// Create writes a record whose key must not exist yet. If it exists, the whole commit fails with an [ExistsError].
	Create Op = iota + 1
	// Put writes a record, whether or not its key exists.
	Put
	// Delete removes the record under the key, if there is one. Only the record's key is used.
	Delete
)

// String returns the operation in one word, for messages.
func (o Op) String() string {
	switch o {
	case Create:
		return "create"
	case Put:
		return "put"
	case Delete:
		return "delete"
	default:
		return fmt.Sprintf("Op(%d)", uint8(o))
	}
}

// Write is one change in a commit, apart from its heads. The zero Write is not valid. A Write shares its
// record's Prefixes and Data with its copies.
type Write struct {
	Op     Op
	Record Record
}

// Change is one head and its writes, for [Store.Commit]. The zero Change is not valid. A Change shares its slices with
// its copies.
type Change struct {
	Head   Record
	Writes []Write
	// Turn is the caller's turn at the head, or nil if it has none; see [Store.Turn]. Several heads may share one turn.
	Turn Turn
}

// EndTurns ends the turns of the changes. A driver defers it at the beginning of [Store.Commit].
func EndTurns(changes []Change) {
	for i := range changes {
		if changes[i].Turn != nil {
			changes[i].Turn.End()
		}
	}
}

// DeletesHead reports whether the change deletes its head: whether the writes contain a [Delete] of it. Cost:
// O(writes).
func (c Change) DeletesHead() bool {
	for i := range c.Writes {
		if c.Writes[i].Op == Delete && c.Writes[i].Record.Key == c.Head.Key {
			return true
		}
	}
	return false
}

// ValidateCommit returns an error that wraps [ErrInvalid] if changes break a rule of [Store.Commit] that does not
// depend on what is stored: there is no change, a head has a negative revision, an [Op] is unknown, a record or key is
// not valid, or a key occurs twice. Stores call it before they change anything. Cost: O(writes and their bytes).
func ValidateCommit(changes ...Change) error {
	if len(changes) == 0 {
		return fmt.Errorf("%w: the commit has no change, want at least one", ErrInvalid)
	}
	for i := range changes {
		if err := changes[i].validate(); err != nil {
			return err
		}
	}
	return validateDistinct(changes)
}

func (c *Change) validate() error {
	if c.Head.Revision < 0 {
		return fmt.Errorf("%w: the revision %d of head %v is negative", ErrInvalid, c.Head.Revision, c.Head.Key)
	}
	if err := c.Head.Validate(); err != nil {
		return err
	}
	for i := range c.Writes {
		if err := c.Writes[i].validate(c.Head.Key); err != nil {
			return err
		}
	}
	return nil
}

func (w *Write) validate(head Key) error {
	switch w.Op {
	case Create, Put:
		if w.Record.Key == head {
			return fmt.Errorf("%w: the commit has a %v of %v, which is its head", ErrInvalid, w.Op, head)
		}
		return w.Record.Validate()
	case Delete:
		return w.Record.Key.Validate()
	default:
		return fmt.Errorf("%w: unknown operation %v on record %v", ErrInvalid, w.Op, w.Record.Key)
	}
}

// fewKeys is the number of keys for which there is room without a heap allocation.
const fewKeys = 8

// validateDistinct returns an error if two heads or writes have the same key. A head and its Delete count as one.
func validateDistinct(changes []Change) error {
	var few [fewKeys]*Key
	keys := few[:0]
	if n := len(changes) + totalWrites(changes); n > fewKeys {
		keys = make([]*Key, 0, n)
	}
	for i := range changes {
		if !changes[i].DeletesHead() {
			keys = append(keys, &changes[i].Head.Key)
		}
		for j := range changes[i].Writes {
			keys = append(keys, &changes[i].Writes[j].Record.Key)
		}
	}
	slices.SortFunc(keys, func(x, y *Key) int { // most differ in the name
		return cmp.Or(strings.Compare(x.Name, y.Name), strings.Compare(x.Pool, y.Pool), cmp.Compare(x.Kind, y.Kind))
	})
	for i := 1; i < len(keys); i++ {
		if *keys[i-1] == *keys[i] {
			return repeated(*keys[i])
		}
	}
	return nil
}

func totalWrites(changes []Change) (n int) {
	for i := range changes {
		n += len(changes[i].Writes)
	}
	return n
}

func repeated(key Key) error {
	return fmt.Errorf("%w: the key %v occurs twice among the heads and writes of the commit", ErrInvalid, key)
}
