package simulation

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/ipalloc/ipalloc/store"
)

// tenure is a grant that has ended: of an owner in a pool.
type tenure struct {
	pool, owner string
	generation  int64
}

func (t tenure) compare(other tenure) int {
	return cmp.Or(cmp.Compare(t.pool, other.pool), cmp.Compare(t.owner, other.owner),
		cmp.Compare(t.generation, other.generation))
}

// noteEnd takes note of the tenure that ends when a record that was before is now.
func (l *ledger) noteEnd(before, now store.Record) {
	had, has := entryOf(before), entryOf(now)
	if had.live && !(has.live && has.generation == had.generation) {
		l.ended = append(l.ended, tenure{before.Pool, before.Name, had.generation})
	}
}

// writeHistory takes note of a record of a history.
func (l *ledger) writeHistory(now store.Record) {
	p := l.page(now.Pool)
	i, found := slices.BinarySearch(p.past, now.Name)
	switch {
	case now.Revision == 0 && found && i == 0:
		p.past = slices.Delete(p.past, 0, 1)
	case now.Revision > 0 && !found && i == len(p.past):
		var data struct{ Generation int64 }
		_ = json.Unmarshal(now.Data, &data) // a wrong one is of no tenure that has ended
		p.past = append(p.past, now.Name)
		l.recorded = append(l.recorded, tenure{now.Pool, now.Labels["ipalloc.owner"], data.Generation})
	default:
		l.recorded = append(l.recorded, tenure{now.Pool, now.Name + ", which is not the next or the first", 0})
	}
}

// checkHistory requires that what has ended in a pool with a history was recorded in the same commit, and nothing else.
func (l *ledger) checkHistory() error {
	ended := slices.DeleteFunc(slices.Clone(l.ended), func(t tenure) bool { return !l.page(t.pool).remembers })
	recorded := slices.Clone(l.recorded)
	slices.SortFunc(ended, tenure.compare)
	slices.SortFunc(recorded, tenure.compare)
	if !slices.Equal(ended, recorded) {
		return fmt.Errorf("the tenures %v have ended, and %v were recorded", ended, recorded)
	}
	return nil
}
