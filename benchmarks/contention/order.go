package main

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// orderSlack is how much earlier one call must begin, or end, than another one to be before it: what begins and ends
// almost at once, as calls do that share a commit, is noted in any order.
const orderSlack = 5 * time.Millisecond

// overtaken counts the calls that another one has overtaken, which began later and ended earlier.
func overtaken(calls []call, slack time.Duration) int {
	byBegin := slices.Clone(calls)
	slices.SortFunc(byBegin, func(a, b call) int { return cmp.Compare(a.Begin, b.Begin) })
	// From the last to begin on: how early any call has ended that began so much later than the one that is looked at.
	count, later, earliest := 0, len(byBegin)-1, int64(math.MaxInt64)
	for i := len(byBegin) - 1; i >= 0; i-- {
		for ; later > i && byBegin[later].Begin > byBegin[i].Begin+int64(slack); later-- {
			earliest = min(earliest, byBegin[later].end())
		}
		if earliest < math.MaxInt64 && earliest+int64(slack) < byBegin[i].end() {
			count++
		}
	}
	return count
}
