package main

import "strings"

// What a run should reach.
const (
	mostP99       = 10     // times p50
	mostLongest   = 30     // times p50
	leastSlowest  = 0.5    // of the mean of the handles
	mostConflicts = 3      // a commit
	leastOfOne    = 0.8    // of one handle with as many goroutines
	mostOfOne     = 16     // handles; with more of them there is no such aim
	mostWaited    = 10     // times p50, with -wait
	leastOfAll    = 6. / 7 // of the grants that are possible, with -wait
)

// missed names the columns in which a row does not reach its aim.
func (r row) missed() string {
	var all []string
	miss := func(name string, missed bool) {
		if missed {
			all = append(all, name)
		}
	}
	if r.As == bare {
		return ""
	}
	miss("busy", r.Busy > 0)
	miss("errors", len(r.Errors) > 0)
	miss("slowest", r.Handles > 1 && r.SlowestOfMean < leastSlowest)
	miss("conflicts", r.ConflictsEach >= mostConflicts)
	if r.Possible > 0 {
		miss("grants", r.PerSecond < r.Possible*leastOfAll)
		miss("order", r.Overtaken > 0)
		miss("longest", r.LongestOfP50 > mostWaited)
		return strings.Join(all, ", ")
	}
	miss("p99", r.P99OfP50 > mostP99)
	miss("longest", r.LongestOfP50 > mostLongest)
	miss("of one", r.Handles <= mostOfOne && r.OfOneHandle > 0 && r.OfOneHandle < leastOfOne)
	return strings.Join(all, ", ")
}
