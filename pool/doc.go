// Package pool hands out addresses and prefixes to owners, from pools that any number of processes may share.
//
// A pool is made once, from a [Spec], and opened by whoever needs it. An owner makes a [Claim] and gets an [Allocation]:
//
//	spec, err := pool.ParseSpec("192.0.2.0/24", "2001:db8::/64")
//	db, err := bolt.Open(ctx, "addresses.db", nil)             // or another store
//	p, err := pool.OpenOrCreate(ctx, db, "pods", spec, nil)
//	a, err := p.Allocate(ctx, pool.Claim{Owner: containerID})  // the lowest free address
//	_, err = p.Release(ctx, containerID)
//
// [New] makes a pool that lives in memory, without a store, with the same rules and methods.
//
// # What is promised
//
//   - No address is held by two owners at once, however many processes use the pool, and whenever they crash.
//   - A claim is granted whole or not at all: dual stack, several addresses, prefixes of several lengths. A call that fails leaves nothing
//     behind. One error alone says that it is not known whether the call took effect: [store.ErrUnknown].
//   - The same owner gets the same answer until it is released. So whoever did not see an answer asks again.
//   - Lowest free means lowest: of all that is free at the commit, in the order of the commits.
//   - Exclusions, gateways, reserved addresses and what is outside of the ranges are never handed out.
//   - What is granted is durable, as far as the store is, when the call returns.
//
// # Owners and generations
//
// The owner is a string that the caller has anyway: the UID of an object, a container's id and its interface. It is the key of
// what is held. A program that retries, or that crashed and was started again, needs no other memory than the owner.
//
// Each grant has a generation. Who releases late, when the owner may have been given something else meanwhile, names the generation
// that it means with [Pool.ReleaseGeneration].
//
// What a process had sent to its store when it died may still arrive there, until another commit changes the pool. A handle sees to it
// that no earlier commit of its own can. But an owner of whom one process has sent a release, and then died, may be told by another process that it holds what
// it held before, which takes no commit, and lose it a moment later: the successor of a process that releases should release anew, or claim for another owner.
//
// # Several families, addresses and lengths
//
// A claim without requests is for one address of the pool's primary family, which is that of its first range.
// [Claim.Policy] asks for both families, as a Kubernetes Service does. [Claim.Requests] ask for several addresses, for prefixes of a
// length, for one very prefix, or for what lies within a set; all are granted together or none is.
//
// # Which address
//
// The lowest free one, unless [Spec.Strategy] says the next after the last ([NextFree]) or any ([RandomFree]). [Spec.Bands] are parts of a pool
// that are used last, or only by claims that name them or an exact address: Kubernetes' band of static Service addresses is one
// ([ServiceBand]). Cost: a random pick and a step in a round robin cost what the lowest does, a few microseconds at most; each band and each range
// of a set adds one search.
//
// # Leases and cooldown
//
// A claim with a [Claim.TTL] is a lease, which [Pool.Renew] extends; one without is a reservation and never ends. A lease that has ended is
// free for whoever needs it: a claim that finds nothing else free, or that asks for that very address. Nobody has to run a loop.
// [Spec.Cooldown] withholds what was released from all but its last owner for a time. [Pool.Reap] frees at once all that has ended.
//
// Times come from [Options.Clock], are kept in the store as points in time, and are never brought forward: a clock that is set back, or is behind
// in one process, frees nothing early. One that is ahead does, so processes that share a pool of leases need clocks that agree better than leases are long.
//
// Cost: nothing for claims that find a free address. One that does not reads what has ended, the earliest first, until it has enough, in one round
// trip with a store that has an index for that; how many leases there are, or are renewed, does not matter.
//
// # Changing a pool
//
// [Pool.Update] gives a pool another spec, or refuses with the list of allocations that would not be in it any more; [Pool.Drain] keeps those until they are
// released and counts them as out of range. Cost: one commit and O(runs of free addresses); O(allocations) if some are out of range, before or after.
//
// # Networks and scopes
//
// Pools with the same [Spec.Network] must not overlap, and hand out nothing that [SetForeign] declares to be somebody else's there. Both hold at
// each commit, whoever else creates and changes pools. A pool with a [Spec.Scope] admits only claims of it. Cost: creating, changing the ranges of
// and deleting a pool in a network also commits the network's record, with the ranges of all its pools.
//
// # Pools within pools
//
// [Carve] makes a pool out of what another grants: a node's block, a subnet, a delegated prefix. [Blocks] does it for a writer who wants to
// allocate without meeting others: it takes blocks as it needs them and gives empty ones back. Cost: one commit of both pools for each block; what is
// allocated in it does not touch the parent.
//
// # Several pools, several owners
//
// [AllocateTogether] grants one owner something from each of several pools, or from the first of several that has room, all or nothing.
// [Pool.AllocateMany], [Pool.AllocateAll] and [Pool.ReleaseMany] do for many owners what the single calls do, each by itself or all or nothing;
// [Pool.Adopt] takes over addresses that are in use already, by the million. Cost: one commit for every 4,096 owners, or for as many as the
// store takes; over several pools one commit too.
//
// [Pool.Reconcile] releases what owners hold that are no more. Cost: O(allocations), and one commit for every 4,096 changes.
//
// # Waiting and looking
//
// [Pool.AllocateWait] waits for an address, and [Pool.Watch] tells what became free and what was taken; both cost next to nothing while nothing
// happens. [Pool.DryRun] says what a claim would get. [Options.Observer] is
// told of calls and commits. [Pool.Snapshot] and [Pool.Export] are a whole pool as of one moment, at O(allocations), and [Import] makes a pool of it in this or
// another store. Package pool/view draws it, and the module pool/metrics counts for Prometheus.
//
// # Stores and processes
//
// In a store a pool is one record, the head, with the spec and the free space in a compact form, and one record for each owner.
// Every change is one commit that replaces the head if nobody else has; who loses that race plans again on the head that won. So
// a fresh process reads one record and can allocate, and a change costs one round trip, whatever is held. Calls that
// come in while a commit is under way are committed together in the next one, so that a thousand goroutines cost a few commits.
//
// The free space of a fragmented pool is kept in pieces, which are records of their own and are rewritten now and then; what a
// commit writes stays at a few KiB.
//
// A context ends the wait for a call's turn. A commit that has begun is not cut short by it, because that would leave open whether it took
// effect; [Options.CommitTimeout] bounds it.
//
// # When something is wrong
//
// [Pool.Verify] compares the head with what owners hold, and [Pool.Repair] makes the head agree. Nothing that this package does
// makes that necessary; it is for what people do to the store by hand, and for proof.
//
// Errors are of type [*Error] and wrap one of the sentinels, or the store's error.
package pool
