package pooltest

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/journal"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store"
)

// worldMost is how many tenures a root remembers at most: what the store with the lowest limit takes, and more than a
// test ends.
const worldMost = 10_000

// ended is a grant in a root that has ended, as its history or the answer to a release tells it.
type ended struct {
	place, owner, prefixes string
	generation             int64
}

// readPast reads the histories of the roots, each ended tenure with how often it is there.
func readPast(t *testing.T, s store.Store) map[ended]int {
	t.Helper()
	past := map[ended]int{}
	for _, name := range worldRoots {
		p, err := pool.Open(t.Context(), s, name, nil)
		require.NoError(t, err)
		for tenure, err := range p.History(t.Context(), pool.HistoryQuery{}) {
			require.NoError(t, err)
			if tenure.End != "" {
				past[ended{name, tenure.Owner, fmt.Sprint(tenure.Prefixes), tenure.Generation}]++
			}
		}
	}
	return past
}

// checkPast compares the histories with what clients were told, and with what is held in the end: what was released is
// there once, and nothing that goes on.
func checkPast(calls []journal.Call, end journal.State, past map[ended]int) (faults []string) {
	told := map[ended]bool{}
	for _, c := range calls {
		if c.Op != journal.Free || c.Outcome != journal.Done {
			continue
		}
		for _, h := range c.Held {
			if slices.Contains(worldRoots, h.Place) {
				told[endOf(h)] = true
			}
		}
	}
	for e := range told {
		if past[e] == 0 {
			faults = append(faults, fmt.Sprintf("the history lacks what was released: %v", e))
		}
	}
	for e, times := range past {
		if times > 1 {
			faults = append(faults, fmt.Sprintf("the history has %d times: %v", times, e))
		}
	}
	for _, p := range end.Pools {
		for _, f := range p.Held {
			if past[endOf(f.Holding)] > 0 {
				faults = append(faults, fmt.Sprintf("the history has what is still held: %v", f.Holding))
			}
		}
	}
	return faults
}

func endOf(h journal.Holding) ended {
	return ended{h.Place, h.Owner, fmt.Sprint(h.Prefixes), h.Generation}
}
