package kube

import (
	"context"
	"errors"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// A roll is an object without a record that names what one commit writes. The commit writes it like a record, pending,
// and the log of the head then names the roll alone. So the log stays short, and what such a commit has left can be
// settled later, when there is less to do. To settle a roll is to settle all that it names, and then to remove it.

const (
	rollKind  = "roll"    // of keys; no record has it
	rollLabel = "x--roll" // as a label of the kind, which no kind of records has
)

// What is settled later.
const (
	rollFrom   = 16   // a commit that writes so many records has a roll
	maxLater   = 64   // so many commits of a log, the latest, may be settled later if they have a roll
	maxLaterOf = 4096 // and so many objects of one handle's
)

// errLater says that there was no time to settle all that a roll names.
var errLater = errors.New("what the roll names is settled later")

func (o *object) isRoll() bool { return o.key.Kind == rollKind }

// isRoll reports whether a roll is at r.
func isRoll(r ref) bool {
	return r.resource == resourceRecords && strings.HasPrefix(r.name, rollKind+"--")
}

// isRecord reports whether o is there for a record: it is neither a ticket nor a roll.
func (o *object) isRecord() bool { return o.turn == "" && !o.isRoll() }

// hasRoll reports whether the transaction writes a roll.
func (t *transaction) hasRoll() bool { return len(t.intents) >= t.rollFrom }

// newRoll returns the roll of an attempt, as it is to be created.
func (t *transaction) newRoll() *object {
	id := t.newID()
	return &object{
		ref:     ref{resourceRecords, rollKind + "--" + strings.ToLower(id)},
		key:     store.Key{Kind: rollKind, Pool: t.head.key.Pool, Name: id},
		pending: &pending{id: t.id, head: t.head.ref, uid: t.base.uid, fence: t.base.version},
		log:     []entry{{id: t.id, objects: t.refs()}},
	}
}

// refs returns where the transaction writes, apart from its head.
func (t *transaction) refs() []ref {
	refs := make([]ref, len(t.intents))
	for i := range t.intents {
		refs[i] = t.intents[i].ref
	}
	return refs
}

// writeRoll creates the roll of an attempt.
func (t *transaction) writeRoll(ctx context.Context) error {
	roll := t.newRoll()
	made, err := t.api.Create(ctx, roll)
	if errors.Is(err, errExists) { // the request was sent twice
		made, err = t.api.Get(ctx, roll.ref)
	}
	if errors.Is(err, errUnsure) {
		t.unsure = append(t.unsure, roll.ref)
	}
	t.roll = made
	return err
}

// closeRoll settles what a roll names, and removes it. Beside a commit there is no time for that, unless all is
// settled: then the handle only learns what the roll names, to settle it little by little.
func (s *Store) closeRoll(ctx context.Context, roll *object, revision int64) error {
	named := debtsOf(roll.log)
	for i := range named {
		named[i].revision = revision
	}
	if ctx.Value(hastyKey{}) != nil && !s.ledger.learn(roll.pending.id, named) {
		return errLater
	}
	if err := s.settleAll(ctx, named); err != nil {
		return err
	}
	return s.api.Remove(ctx, roll)
}
