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

// Write is one change within a commit, beside its head. The zero Write is not valid. A Write shares its
// record's Prefixes and Data with its copies.
type Write struct {
	Op     Op
	Record Record
}

// ValidateCommit returns an error that wraps [ErrInvalid] if head and writes break a rule of
// [Store.Commit] that can be told without looking at what is stored: a negative head.Revision, an unknown
// [Op], a record or key that is not valid, or a key that occurs twice. Stores call it before they change
// anything. Cost: O(writes and their bytes).
func ValidateCommit(head Record, writes []Write) error {
	if head.Revision < 0 {
		return fmt.Errorf("%w: the revision %d of head %v is negative", ErrInvalid, head.Revision, head.Key)
	}
	if err := head.Validate(); err != nil {
		return err
	}
	for i := range writes {
		if err := writes[i].validate(head.Key); err != nil {
			return err
		}
	}
	return validateDistinct(writes)
}

// DeletesHead reports whether writes contains the [Delete] of head that [Store.Commit] allows.
func DeletesHead(head Key, writes []Write) bool {
	for i := range writes {
		if writes[i].Op == Delete && writes[i].Record.Key == head {
			return true
		}
	}
	return false
}

func (w *Write) validate(head Key) error {
	switch w.Op {
	case Create, Put:
		if w.Record.Key == head {
			return fmt.Errorf("%w: a %v of %v, which is the commit's head", ErrInvalid, w.Op, head)
		}
		return w.Record.Validate()
	case Delete:
		return w.Record.Key.Validate()
	default:
		return fmt.Errorf("%w: unknown operation %v on record %v", ErrInvalid, w.Op, w.Record.Key)
	}
}

// fewWrites is up to how many writes comparing each with each costs less than a map.
const fewWrites = 8

func validateDistinct(writes []Write) error {
	if len(writes) <= fewWrites {
		for i := range writes {
			for j := range i {
				if writes[i].Record.Key == writes[j].Record.Key {
					return repeated(writes[i].Record.Key)
				}
			}
		}
		return nil
	}
	seen := make(map[Key]struct{}, len(writes))
	for i := range writes {
		if _, ok := seen[writes[i].Record.Key]; ok {
			return repeated(writes[i].Record.Key)
		}
		seen[writes[i].Record.Key] = struct{}{}
	}
	return nil
}

func repeated(key Key) error {
	return fmt.Errorf("%w: two writes of one commit are under the key %v", ErrInvalid, key)
}
