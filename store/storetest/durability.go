package storetest

import (
	"encoding/json"
	"fmt"

	"github.com/ipalloc/ipalloc/store"
)

func durabilityCases() []testCase {
	return []testCase{{"durability/reopen", durabilityReopen}}
}

func durabilityReopen(s *subject) {
	head := newHead("a")
	records := make(map[store.Key]store.Record)
	for round := range 4 {
		for i := range 8 {
			key := claimKey("a", fmt.Sprint(i))
			head.Data = json.RawMessage(fmt.Sprintf(`{"round":%d,"i":%d}`, round, i))
			switch r := apart(fullRecord(key), i); {
			case round > 0 && (round+i)%3 == 0:
				head = s.commit(head, remove(key))
				delete(records, key)
			default:
				r.State = fmt.Sprint(round)
				head = s.commit(head, put(r))
				records[key] = at(r, head.Revision)
			}
		}
		s.reopen()
		s.holds(ruleDurable, head)
		listed := s.list(store.KindAllocation, "a")
		s.check(len(listed) == len(records), ruleDurable, "List yields %d records after the store was opened again, want %d",
			len(listed), len(records))
		for key, want := range records {
			s.same(ruleDurable, "the record that List yields", listed[key], want)
			s.holds(ruleDurable, want)
		}
	}
}
