// Package poolfake is for tests of programs that use package pool. A [Fake] has real pools, on a store in memory, and
// lets a test decide what time it is, when a pool is full, and when the store is busy, slow, lost or out of reach.
//
//	fake := poolfake.New(time.Now())
//	agent := newAgent(fake.Store(), fake.Options()) // which calls pool.Ensure, Allocate and so on
//
//	fake.Advance(time.Hour)                          // leases and cooldowns end
//	err := fake.Fill(ctx, "pods")                    // nothing is free, until Empty
//	fake.Refuse(func(_ string, c pool.Claim) bool { return c.Owner == "pod-7" })
//	fake.InjectNext(poolfake.Unknown(true))          // the outcome of the next call is not known
//	fake.Inject(poolfake.Unreachable)                // until Inject(nil)
//
// Because the pools are real, the program gets the errors that it gets in production, of the same types and with the
// same texts, and what a test does not ask for works: idempotent claims, cooldowns, dual stack, networks, delegated
// pools, many handles at once.
//
// # Time
//
// The clock of [Fake.Options] stands still until [Fake.Advance]. What waits for a lease or a cooldown to end, as
// [pool.Pool.AllocateWait] does, is woken by it. Time-outs of contexts, [pool.Options.CommitTimeout], and [Slow] take
// real time; in a bubble of package testing/synctest, that of the bubble.
//
// # A full pool
//
// [Fake.Fill] holds every free address of a pool for an owner of its own. All that reads the pool sees that: counts,
// metrics, [pool.Pool.DryRun], [pool.Pool.Watch], and calls of AllocateWait, which wait. [Fake.Empty] releases it.
//
// [Fake.Refuse] is for a test in which some claims fail and others do not: by owner, by pool, the second one, or
// whatever else a function can tell. Such a call gets the error that the same pool would return if it were full. The
// pool itself is not touched.
//
// # Faults
//
// [Fake.Inject] takes any function of package store/storetest/faults, such as [faults.Script] and [faults.Random], and
// those of this package: [Busy], [Slow], [Unknown] and [Unreachable]. They concern the stores that [Fake.Store]
// returns. The methods of Fake do not meet them.
package poolfake
