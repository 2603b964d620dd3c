// Package pool hands out addresses and prefixes to owners, from pools that any number of processes may share.
//
// A pool is made once, from a [Spec], and is opened by every process that needs it. An owner makes a [Claim] and gets
// an [Allocation]:
//
//	spec, err := pool.ParseSpec("192.0.2.0/24", "2001:db8::/64")
//	db, err := bolt.Open(ctx, "addresses.db", nil)             // or another store
//	p, err := pool.Ensure(ctx, db, "pods", spec, pool.Update, nil)
//	a, err := p.Allocate(ctx, pool.Claim{Owner: containerID})  // the lowest free address
//	_, err = p.Release(ctx, pool.Held{Owner: containerID})
//
// [New] makes a pool that lives in memory, without a store, with the same rules and methods.
//
// # Guarantees
//
// docs/invariants.md in the repository lists these rules with the tests that check them, and docs/commit.md argues
// why they hold.
//
// # Owners and generations
//
// The owner is a string that the caller has anyway: the UID of an object, or a container's id and its interface. It is
// the key of what is held. A program that retries, or that was started again after a crash, needs to remember nothing
// but the owner.
//
// Each grant has a generation. A caller whose release may come late, when the owner may already hold something else,
// names the generation that it means, with [Held.Generation].
//
// A process that dies may leave a release on its way to the store. It can take effect until another commit changes the
// pool. An owner that already holds what it claims is normally told so after a read, so such a release may still take
// the address away after the answer. A claim with [Claim.Fenced] is answered after a commit, which makes all earlier
// releases fail: use it for the first claims after a restart. A handle does the same by itself where one of its own
// commits may still be on its way.
//
// # Several families, addresses and lengths
//
// A claim without requests is for one address of the pool's primary family: the first of [Spec.Families], or the family
// of its first range. A pool may bound the lengths that claims ask for; see [FamilySpec].
// [Claim.Policy] asks for both families, as a Kubernetes Service does. [Claim.Requests] ask for several addresses, for
// prefixes of a length, for one exact prefix, or for an address within a set. All are granted together or none is.
//
// # Which address
//
// The lowest free one, unless [Spec.Strategy] asks for the next after the last ([NextFree]) or for a random one
// ([RandomFree]). [Spec.Bands] are parts of a pool that are used last, or only by claims that name them or an exact
// address. Kubernetes' band of static Service addresses is one ([ServiceBand]). Cost: all strategies cost the same, a
// few microseconds at most, however many ranges the pool has. A claim in a band or in a set adds a few searches; a set
// that the handle has not seen lately is read once.
//
// # Leases and cooldown
//
// A claim with a [Claim.TTL] is a lease, which [Pool.Renew] extends. A claim without one is a permanent allocation. The
// address of a lease that has ended goes to the next claim that finds nothing else free, or that asks for exactly that
// address. No loop is needed. [Spec.Cooldown] withholds a released address from all but its last owner for a time.
// [Pool.Expire] frees at once all that has ended.
//
// Times come from [Options.Clock], are stored as points in time, and are never moved to an earlier one. So a clock that
// is behind, or is set back, frees nothing early. A clock that is ahead does: the clocks of processes that share leases
// must differ by less than leases last.
//
// Cost: nothing for claims that find a free address. A claim that finds none reads what has ended, the earliest first,
// until it has enough: one round trip with a store that has an index for that. How many leases there are, or are
// renewed, does not matter.
//
// # Changing a pool
//
// [Pool.Update] gives a pool another spec, or refuses with the list of allocations that would be stranded outside of
// it. [Pool.Drain] keeps these until they are released, and counts them as out of range. Cost: one commit and O(runs of
// free addresses); O(allocations) if any are out of range, before or after, or if pools were delegated from it.
//
// # Networks and scopes
//
// Pools with the same [Spec.Network] must not overlap. No pool of a network may have in its ranges what another one
// still holds out of range, since it was drained. No pool of it hands out the external addresses that [SetExternal]
// declares, which somebody else hands out there. All of this holds at each commit, whatever other processes create and
// change at the same time. A pool with a [Spec.Scope] admits only claims of that scope. Cost: creating, changing or
// deleting a pool in a network also commits the network's record, which has the ranges of all its pools.
//
// # Pools within pools
//
// [Delegate] makes a pool of what another pool grants: a node's block, a subnet, a delegated prefix (RFC 8415).
// [Pool.Extend] adds another grant to it, [Pool.Retract] gives one back, and [Pool.Grants] lists
// them. Each is one commit of both pools. A delegated pool never hands out what its parent may not: when the parent
// changes, its children follow in the same commit, and so do theirs.
//
// [Blocks] is a pool of its own for each writer, which grows by blocks as the writer needs them, and gives back empty
// ones. What is allocated in it does not touch the parent, so writers do not meet. Cost: one commit of both pools for
// each block.
//
// # Several steps, several pools
//
// A [Step] is one change of what one owner holds: [Allocate], [Release], [Renew] or [Decline]. [Pool.All] does several
// steps in one commit, all or nothing: an owner exchanges its address for another one, an address is transferred to
// another owner, or an owner gets something from each of several pools, or from the first of several that has room.
// These are ordinary calls, with the same guarantees, on any store.
//
// [Pool.Each] does any number of steps, each by itself, by the million: it takes over addresses that are in use
// already, for example. Cost: one commit for every 4,096 steps, or for as many as the store takes.
//
// [Ensure] makes the pool be what a spec says, at each start of a program that brings its spec along.
//
// [Pool.Reconcile] releases what owners hold that no longer exist. Cost: O(allocations), and one commit for every 4,096
// changes.
//
// # Waiting and looking
//
// [Pool.AllocateWait] waits for an address, and [Pool.Watch] reports what became free or taken. Both cost next to
// nothing while nothing happens. Calls that wait on one handle are served in their order; handles share what becomes
// free with each other. [Pool.DryRun] returns what a claim would get. [Options.Observer] is told of calls and
// commits when they begin and end, and of leases that ended and were freed: see [Observer] for how spans are made of
// that. [Pool.Snapshot] and [Pool.Export] return a whole pool as of one moment, at O(allocations), and [Import]
// makes a pool of it in this or another store. Package pool/view draws it, and the module pool/metrics counts for
// Prometheus.
//
// # Stores and processes
//
// In a store a pool is one record, the head, with the spec and the free space in a compact form, and one record for
// each owner. A large spec has a record of its own. Every change is one commit that replaces the head, unless the head
// has changed meanwhile. A handle that loses such a race plans again on the new head. So a fresh process reads one
// record and can allocate, and a change costs one round trip, whatever is held. Handles that lose often take turns, in
// the order of the store ([store.Store.Turn]), so that each gets through whatever the others do; while they do, a
// change costs a few round trips, and the wait for those that came before. Calls that come in while a commit is under
// way share the next one, so that a thousand goroutines cost a few commits.
//
// The free space of a fragmented pool is cut into pieces. They are records of their own, of which one is rewritten now
// and then, so that a commit writes a few KiB. docs/formats.md in the repository describes all records.
//
// # Contexts
//
// A context ends the wait for a call's turn, and the call then has done nothing. It does not cut short a commit that
// has begun, since that would leave open whether the commit took effect. [Options.CommitTimeout] bounds each commit,
// and how long a call goes on to find out what became of one whose outcome is unknown. If it cannot find out in that
// time the error wraps [store.ErrUnknown]; claim again, or release, to settle it.
//
// # When something is wrong
//
// [Pool.Verify] compares the head with what owners hold, and [Pool.Repair] makes the head agree. Where the head itself
// is gone, [Recover] makes it anew. Nothing that this package does makes that necessary. They are for changes that
// people make in the store by hand, and for proof.
//
// Errors are of type [*Error] and wrap one of the sentinels, or the store's error.
package pool
