package main

import (
	"math"
	"math/rand/v2"
	"time"
)

// strike is what is done to a handle that is a process.
type strike struct {
	handle int
	after  time.Duration // since the begin of the run
	stop   time.Duration // for so long; 0 if it is killed
}

// longestStop is how long a process is stopped at most.
const longestStop = 5 * time.Second

// planStrikes chooses these shares of the handles, at least one if it is more than 0, and when they are killed or
// stopped: within three quarters of the run, from a twentieth on. A stop has ended before the run ends.
func planStrikes(random *rand.Rand, handles int, kill, stop float64, length time.Duration) []strike {
	var all []strike
	kills := int(math.Ceil(kill * float64(handles)))
	stops := int(math.Ceil(stop * float64(handles)))
	order := random.Perm(handles)
	for i, handle := range order[:min(handles, kills+stops)] {
		s := strike{handle: handle, after: length/20 + time.Duration(random.Int64N(int64(length)*7/10+1))}
		if i >= kills {
			longest := min(longestStop, length/5)
			s.stop = longest/5 + time.Duration(random.Int64N(int64(longest)*4/5+1))
		}
		all = append(all, s)
	}
	return all
}
