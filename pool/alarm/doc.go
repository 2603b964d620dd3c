// Package alarm tells a program once when a pool runs low, and once when it has room again.
//
//	alarms, err := alarm.New(func(e alarm.Event) { log.Print(e) },
//		alarm.Used(90, 80), // raised at 90 % used, cleared at 80 %
//		alarm.Free(16, 64)) // raised when fewer than 16 addresses are free, cleared when 64 are
//	p, err := pool.Open(ctx, db, "pods", &pool.Options{Observer: alarms})
//	info, err := p.Info(ctx)
//	alarms.Look(info) // the pool may be low already
//
// Each rule has two levels, so that a pool whose fill goes up and down around one of them does not raise and clear an
// alarm with each claim. A rule applies to each family of each observed pool by itself.
//
// # What is seen
//
// [Alarms] is a [pool.Observer]. It looks at the counts after each commit that an observed handle makes, in the order
// of their revisions. There is no timer and no goroutine, and nothing is read from the store. So it does not see
//
//   - what other processes and handles do, until an observed handle commits too. A program for which that is too late
//     calls [Alarms.Look] now and then, with what [pool.Pool.Info] or [pool.List] returned;
//   - claims that are refused: these make no commit. The pool was reported when it became full;
//   - leases and cooldowns that end: they count as used until a claim needs their addresses or until [pool.Pool.Expire]
//     frees them;
//   - fragmentation: addresses may be free although no prefix of the length that claims ask for is.
//
// An alarm is forgotten with the process. After a restart it is raised again if the pool is above the raise level; of a
// pool between both levels, nothing is told. For alerts on all pools of a store, whoever uses them, see the rules for
// Prometheus in pool/metrics.
//
// # Cost
//
// An observed commit costs a few hundred nanoseconds, and no heap allocation while nothing is told. For each pool and
// family about 100 bytes are kept.
package alarm
