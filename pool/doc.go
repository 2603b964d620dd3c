// Package pool hands out addresses and prefixes to owners, from pools that any number of processes may share.
//
// A pool is made once, from a [Spec], and opened by every process that needs it. An owner makes a [Claim] and gets an
// [Allocation]:
//
//	spec, err := pool.ParseSpec("192.0.2.0/24", "2001:db8::/64")
//	db, err := bolt.Open(ctx, "addresses.db", nil)             // or another store
//	p, err := pool.Ensure(ctx, db, "pods", spec, pool.Update, nil)
//	a, err := p.Allocate(ctx, pool.Claim{Owner: containerID})  // the lowest free address
//	_, err = p.Release(ctx, pool.Held{Owner: containerID})
//
// [New] makes a pool that lives in memory, without a store, with the same rules and methods. Package pool/poolfake is
// for tests of programs that use pools.
//
// # Guarantees
//
// Whatever callers, processes and networks do:
//
//   - No address has two owners, in one pool, in one network, or in a pool and its children, unless they share it by a
//     key.
//   - A claim is granted whole, or nothing happens. An error that does not wrap [store.ErrUnknown] means that nothing
//     happened.
//   - An owner that claims the same again gets the same answer until it releases what it holds, from any process.
//   - A request gets the lowest free prefix of its length, unless the pool or the claim says otherwise.
//   - Nothing that is excluded, reserved, a gateway or external is handed out, and nothing else is held back.
//   - A change of the spec never takes an address from an owner. It is refused, or the address is counted as out of
//     range until it is released.
//   - Counts are exact at any size.
//   - Invalid input changes nothing, and the error names the input and the rule.
//
// docs/invariants.md in the repository lists these rules with the tests that check them, and docs/commit.md argues why
// they hold.
//
// # Owners and generations
//
// The owner is a string that the caller has anyway: the UID of an object, or a container's id and its interface. It is
// the key of what is held. A program that retries, or that restarts after a crash, needs to remember only the owner.
//
// Each grant has a generation. A caller whose release may arrive late, when the owner may already hold something else,
// names the generation that it means with [Held.Generation].
//
// A process that dies may leave a release on its way to the store, which can take effect until another commit changes
// the pool. An owner that already holds what it claims normally gets its answer after a read, so such a release may
// still take the address away afterwards. A claim with [Claim.Fenced] is answered after a commit, which makes all that
// was sent earlier fail: use it for the first claims after a restart. A handle does this by itself while something that
// it has sent may still be on its way.
//
// A claim that such a process left on its way harms no other owner, but may hold an address for one that is gone. It
// can come about until another commit changes the pool; on a store on which processes commit for one another
// ([store.Grouper]) for up to 15 seconds, also after a release. [Pool.Reconcile] finds what is held for nobody.
//
// # Several families, addresses and lengths
//
// A claim without requests is for one address of the pool's primary family: the first of [Spec.Families], or the family
// of its first range. [Claim.Policy] asks for both families, as a Kubernetes Service does. [Claim.Requests] ask for
// several addresses, for prefixes of a length, for one exact prefix, or for an address within a set. All of them are
// granted together, or none is. [FamilySpec] bounds the lengths that a pool grants.
//
// # Which address
//
// The lowest free one, unless [Spec.Strategy] asks for another: the next after the last ([NextFree]), a random one
// ([RandomFree]), the highest ([HighestFree]), one with room to grow behind it ([SpreadFree]), or one that leaves large
// blocks whole ([BestFit]). [Request.Prefer] asks for one address rather than any other, and [Request.Exact] for no
// other. [Spec.Bands] are parts of a pool that are used last, or only by claims that name them or an exact address,
// such as Kubernetes' band of static Service addresses ([ServiceBand]).
//
// Cost: a few microseconds at most for every strategy, however many ranges the pool has. A claim in a band or in a set
// adds a few searches; a set that the handle has not seen lately is read once.
//
// # Leases and cooldown
//
// A claim with a [Claim.TTL] is a lease, which [Pool.Renew] extends. A claim without one is a permanent allocation. The
// address of a lease that has ended goes to the next claim that finds nothing else free, that asks for exactly that
// address, or that prefers it. No loop is needed. [Spec.Cooldown] withholds a released address for a time from all but
// its last owner. [Pool.Expire] frees at once all that has ended.
//
// Times come from [Options.Clock], are stored as points in time, and are never moved back. So a clock that is behind,
// or is set back, frees nothing early. A clock that is ahead does: the clocks of processes that share leases must
// differ by less than the leases last.
//
// Cost: nothing for a claim that finds a free address. A claim that finds none reads what has ended, the earliest
// first, until it has enough: one round trip with a store that has an index for that. The number of leases, and how
// often they are renewed, does not matter.
//
// # Reservations and quotas
//
// [Pool.Reserve] keeps an address for an owner, whether the owner holds it or not. [Spec.Quotas] bound what the owners
// of one scope, or with one value of a label, hold together. Both stand in the pool's records, so they are exact under
// any number of processes. [Pool.Find] lists what has a label.
//
// Cost: nothing for a pool that has no reservations and no quotas.
//
// # Sharing
//
// Owners that name the same [Claim.Share], a share key, hold the same address together, or the same addresses, as load
// balancers on different ports of one address do. It is free after the last of them has released it. Who does not name
// the key does not get it. [Pool.Holders] lists who holds an address.
//
// Cost: one record more in the commit that an owner comes or goes with. Nothing for a pool in which nobody shares.
//
// # Changing a pool
//
// [Pool.Update] gives a pool another spec, or refuses with a list of the allocations that would be out of range.
// [Pool.Drain] keeps these until they are released, and counts them as out of range. [Ensure] makes a pool follow the
// spec that a program brings along, at each start. Cost: one commit and O(runs of free addresses); O(allocations) if
// any are out of range, before or after, or if pools were delegated from it.
//
// # Renumbering
//
// [Pool.Renumber] moves a pool to another prefix (RFC 4192). Each address keeps its offset, and for a time its owner
// holds the old and the new one, until [Pool.FinishRenumber]. Meanwhile the two are one: claimed, released and withheld
// together. [Pool.PlanRenumber] says before what is in the way; if anything is, nothing moves. Cost: a few commits, and
// one for every 4,096 owners that move. Nothing for a pool that does not.
//
// # Networks and scopes
//
// Pools with the same [Spec.Network] must not overlap. No pool of a network may have in its ranges what another one
// still holds out of range, and none hands out the external addresses that [SetExternal] declares. All of this holds at
// each commit, whatever other processes create and change at the same time. A pool with a [Spec.Scope] admits only
// claims of that scope, and a pool that is [Spec.Cordoned] no new ones. Cost: creating, changing or deleting a pool in
// a network also commits the network's record, which has the ranges of all its pools.
//
// # Pools within pools
//
// [Delegate] makes a pool of what another pool grants: a node's block, a subnet, a delegated prefix (RFC 8415).
// [Pool.Extend] adds another grant to it, [Pool.Retract] gives one back, and [Pool.Grants] lists them. Each is one
// commit of both pools. A delegated pool never hands out what its parent may not: when the parent changes, its children
// follow in the same commit, and so do theirs.
//
// [Blocks] is a pool for each writer. It takes blocks from the parent as the writer needs them, and gives back empty
// ones. Allocations in it do not touch the parent, so writers do not contend. Cost: one commit of both pools for each
// block.
//
// # Several steps, several pools
//
// A [Step] is one change of what one owner holds: [Allocate], [Release], [Renew] or [Decline]. [Pool.All] does several
// steps in one commit, all or nothing: an owner exchanges its address for another one, an address is transferred to
// another owner, or an owner gets something from each of several pools, or from the first of several that has room, in
// an [Order] such as [MostFree]. With [Select] a claim names [Spec.Labels] instead of pools.
//
// [Pool.Each] does any number of steps, each by itself: to take over a million addresses that are in use already, for
// example. Cost: one commit for every 4,096 steps, or for as many as the store takes.
//
// [Pool.Reconcile] releases what owners hold that no longer exist. Cost: O(allocations), and one commit for every 4,096
// changes.
//
// # Waiting and looking
//
// [Pool.AllocateWait] waits for an address, and [Pool.Watch] reports what became free or taken. Both cost next to
// nothing while nothing happens. Calls that wait on one handle are served in order; handles share what becomes free.
// [Pool.Get] returns what an owner holds, or who holds an address, and [Pool.Find] everything that has certain
// [Claim.Labels], page by page, by address if asked. [Pool.DryRun] returns what a claim would get. An [Observer] is
// told when calls and commits begin and end, and which ended leases were freed: for metrics and traces. [Pool.Snapshot]
// and [Pool.Export] return a whole pool as of one moment, at O(allocations), and [Import] makes a pool of it in this
// store or another. Package pool/view draws a pool, and the module pool/metrics counts for Prometheus.
//
// # Stores and processes
//
// In a store a pool is one record, the head, with the spec and the free space in a compact form, and one record for
// each owner. A large spec has a record of its own. Every change is one commit that replaces the head, unless the head
// has changed since it was read. A handle that loses such a race plans again on the new head. So a new process can
// allocate after it has read one record, and a change costs one round trip, however much is held.
//
// Handles that lose often take turns, in the order of the store ([store.Store.Turn]), so that each gets through
// whatever the others do. Meanwhile a change costs a few round trips, and the wait for those that came before. Calls
// that come in while a commit is under way share the next one, so that a thousand goroutines cost a few commits.
//
// The free space of a fragmented pool is cut into pieces, each a record of its own. One of them is rewritten now and
// then, so that a commit writes a few KiB. docs/formats.md in the repository describes all records, and what a program
// does with those of a newer release ([ErrNewerFormat]).
//
// # Contexts
//
// A call whose context ends while it waits for its turn has done nothing, and its error wraps [ErrTurn]. The context
// does not cut short a commit that has begun, since that would leave open whether the commit took effect.
// [Options.CommitTimeout] bounds each commit, and how long a call tries to find out what became of a commit of unknown
// outcome. If it cannot find out in that time, the error wraps [store.ErrUnknown]. Claim again, or release, to settle
// it.
//
// # When something is wrong
//
// [Pool.Verify] compares the head with what owners hold, and [Pool.Repair] makes the head agree. If the head itself is
// gone, [Recover] makes a new one. Nothing that this package does makes these necessary: they are for changes that
// people make in the store by hand, and for proof.
//
// Errors are of type [*Error] and wrap one of the errors below, or the store's.
package pool
