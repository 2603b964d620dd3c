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
// # Several families, addresses and lengths
//
// A claim without requests is for one address of the pool's primary family, which is that of its first range.
// [Claim.Policy] asks for both families, as a Kubernetes Service does. [Claim.Requests] ask for several addresses, for prefixes of a
// length, for one very prefix, or for what lies within a set; all are granted together or none is.
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
