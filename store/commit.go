package store

import "fmt"

// Op is what a [Write] does with its record.
type Op uint8

// The operations of a [Write]. The zero Op is not valid.
const (
	// Create writes a record whose key must not exist yet; if it does, the whole commit fails with an
	// [ExistsError].
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

// Write is one change within a commit, beside its heads. The zero Write is not valid. A Write shares its
// record's Prefixes and Data with its copies.
type Write struct {
	Op     Op
	Record Record
}

// Change is one head and the writes that go with it, as [Store.Commit] takes them. The zero Change is not
// valid. A Change shares its slices with its copies.
type Change struct {
	Head   Record
	Writes []Write
	// Turn is the caller's turn at the head, or nil if it has none; see [Store.Turn]. One turn may be at several heads.
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

// DeletesHead reports whether the writes contain the [Delete] of the head that [Store.Commit] allows.
// Cost: O(writes).
func (c Change) DeletesHead() bool {
	for i := range c.Writes {
		if c.Writes[i].Op == Delete && c.Writes[i].Record.Key == c.Head.Key {
			return true
		}
	}
	return false
}

// ValidateCommit returns an error that wraps [ErrInvalid] if changes break a rule of [Store.Commit] that can
// be told without looking at what is stored: no change at all, a negative revision of a head, an unknown
// [Op], a record or key that is not valid, or a key that occurs twice. Stores call it before they change
// anything. Cost: O(writes and their bytes).
func ValidateCommit(changes ...Change) error {
	if len(changes) == 0 {
		return fmt.Errorf("%w: a commit without a change, want at least one head", ErrInvalid)
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
			return fmt.Errorf("%w: a %v of %v, which is a head of the commit", ErrInvalid, w.Op, head)
		}
		return w.Record.Validate()
	case Delete:
		return w.Record.Key.Validate()
	default:
		return fmt.Errorf("%w: unknown operation %v on record %v", ErrInvalid, w.Op, w.Record.Key)
	}
}

// fewKeys is up to how many keys comparing each with each costs less than a map.
const fewKeys = 8

// validateDistinct returns an error if two of the records that changes are about have one key. A head that is
// deleted and its Delete are one record.
func validateDistinct(changes []Change) error {
	var few [fewKeys]Key
	keys := few[:0]
	for i := range changes {
		if !changes[i].DeletesHead() {
			keys = append(keys, changes[i].Head.Key)
		}
		for j := range changes[i].Writes {
			keys = append(keys, changes[i].Writes[j].Record.Key)
		}
	}
	if len(keys) <= fewKeys {
		for i := range keys {
			for j := range i {
				if keys[i] == keys[j] {
					return repeated(keys[i])
				}
			}
		}
		return nil
	}
	seen := make(map[Key]struct{}, len(keys))
	for _, key := range keys {
		if _, ok := seen[key]; ok {
			return repeated(key)
		}
		seen[key] = struct{}{}
	}
	return nil
}

func repeated(key Key) error {
	return fmt.Errorf("%w: a commit has the key %v twice among its heads and writes", ErrInvalid, key)
}
