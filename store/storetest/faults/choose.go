package faults

import (
	"math/rand/v2"
	"time"
)

// Script returns an [Injector.Choose] that gives the first commit the first fault, the second commit the second fault,
// and so on, and lets all other calls through. It counts by [Call.N], so [Injector.ResetCounts] starts it again.
func Script(faults ...Fault) func(Call) Fault {
	return func(call Call) Fault {
		if call.Method != Commit || call.N > len(faults) {
			return Fault{}
		}
		return faults[call.N-1]
	}
}

// Rates say how often [Random] injects each fault, from 0 (never) to 1 (always). With the zero Rates it never does.
type Rates struct {
	// Refuse, LoseRequest, LoseReply and LandLate are the rates for commits. Their sum is at most 1.
	Refuse, LoseRequest, LoseReply, LandLate float64
	// Read is the rate for all other calls.
	Read float64
	// MaxLate is the largest number of calls after which a late commit lands; less than 1 means 8.
	MaxLate int
	// MaxDelay is the longest delay. Each call is delayed by a random time up to it.
	MaxDelay time.Duration
}

// Random returns an [Injector.Choose] that chooses at random, in a sequence that seed determines: the same calls in the
// same order meet the same faults.
func Random(seed uint64, rates Rates) func(Call) Fault {
	if rates.MaxLate < 1 {
		rates.MaxLate = 8
	}
	random := rand.New(rand.NewPCG(seed, 0))
	return func(call Call) Fault {
		fault := Fault{Late: 1 + random.IntN(rates.MaxLate), After: random.IntN(4)}
		if rates.MaxDelay > 0 {
			fault.Delay = time.Duration(random.Int64N(int64(rates.MaxDelay) + 1))
		}
		at := random.Float64()
		if call.Method != Commit {
			if at < rates.Read {
				fault.Effect = Refuse
			}
			return fault
		}
		fault.Effect = rates.commit(at)
		return fault
	}
}

// commit returns the effect that at, from 0 to 1, falls on.
func (r Rates) commit(at float64) Effect {
	for _, some := range []struct {
		rate   float64
		effect Effect
	}{{r.Refuse, Refuse}, {r.LoseRequest, LoseRequest}, {r.LoseReply, LoseReply}, {r.LandLate, LandLate}} {
		if at < some.rate {
			return some.effect
		}
		at -= some.rate
	}
	return Pass
}
