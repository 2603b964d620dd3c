package processes

import "net/netip"

// Judge is what a burst says of what processes told and what the pool then holds.
func Judge(b Burst, told []Event, held map[string]netip.Addr, auditErr error) Outcome {
	r := &burstRun{Burst: b, told: map[string]netip.Addr{}}
	for _, e := range told {
		r.take(e)
	}
	r.compareTold()
	r.compare(held, auditErr)
	return r.outcome
}
