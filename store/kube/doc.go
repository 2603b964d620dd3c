// Package kube keeps the records of package store in custom resources of the Kubernetes API. It is the store for
// controllers and agents that should need no database beside the cluster's own.
//
// # Set-up
//
// Apply the definitions of the resources and the roles once, and bind the role of the writer in the namespace where the
// objects are to be:
//
//	kubectl apply -f manifests/crds.yaml -f manifests/rbac.yaml
//	kubectl -n NAMESPACE create rolebinding ipalloc --clusterrole=ipalloc-writer --serviceaccount=NAMESPACE:ACCOUNT
//
// The files are in this package's folder, and [CRDs] and [RBAC] return them. The role ipalloc-writer is all that a
// [Store] needs; ipalloc-reader is enough for Get, List, ByExpiry, Find and Watch. Then [Open] takes a rest.Config,
// which every controller has: of controller-runtime it is what ctrl.GetConfig or Manager.GetConfig returns.
//
// Why a rest.Config and no client: the protocol must know whether a request was sent once or twice, and the clients of
// client-go and controller-runtime repeat what a server asks them to repeat, also an update that has taken effect. This
// package sends each request once. It needs no cache, no informer and no scheme, and of the modules of Kubernetes needs
// client-go and apimachinery only. The tests, and an example that runs, are in the module store/kube/kubetest: they run
// an API server and etcd, which no importer needs.
//
// # What is stored
//
// One object a record: ippools (short name ipp) for heads of pools, ipallocations (ipa) for allocations and for what
// cools down, iprecords (ipr) for all other kinds. They are namespaced. kubectl get shows the pool, owner, addresses,
// state, expiry and age of an allocation, and the families, total, used and free addresses of a pool (-o wide: more).
// Each object is labelled with its kind and its pool, and an allocation with its prefix of each family (or many, if it
// has several; IPv6 in full, as 2001-0db8-0000-0000-0000-0000-0000-0001-128), so that people can ask who has that very
// prefix alone:
//
//	kubectl get ipa -l ipalloc.github.io/pool=lab,ipalloc.github.io/ipv4=10.0.0.7-32
//
// An object is named POOL, or POOL.OWNER, where these are DNS labels; any other key is a hint of it for people and a
// hash of 160 bits, and the labels likewise. The key itself is in the object, in whole, and an object whose key is not
// the one asked for is an error ([ErrCollision]). A record's Data is text in the object, because the API would round
// its numbers.
//
// Only this package may write the objects. Who deletes one by hand deletes the record, and the pool's Verify shows it.
// They must not be given finalizers: a deletion that one holds up is not settled until it is gone.
//
// # Protocol
//
// Kubernetes has no transaction over several objects, but an update is refused if the object has another
// resourceVersion than it names. A commit takes three steps:
//
//  1. Write each record pending: the object shows the new value, and beside it keeps the old one, the commit's
//     identifier, and the head's name and resourceVersion (the fence). What is new is created so. That tells at once
//     whether the key exists.
//  2. Update the head, under that resourceVersion, with its new value and with the identifier and the objects of the
//     commit in a log. This is the commit point. It is one update of one object, which etcd makes durable.
//  3. Settle: give each object its final form, guarded by its own resourceVersion. This is left to the next commit of
//     the same handle, which does it beside its own step 1, and then drops the commit from the log.
//
// Whoever reads a pending object reads the head: the log lists the commit, and the new value counts; or the head still
// has the fence as its resourceVersion, and the old value counts for now; or neither, and the commit can never come
// about, because its update would be refused. In the last case the object is read once more, since a commit that came
// about leaves the log as soon as it is settled. Nothing depends on time or on who is alive.
//
// Why the records come first, and not a log with all values in the head from which they are applied: a create that is
// late, from a process that was stopped for a while, could bring back what others have deleted since, and the API has
// no guard against that. Here what is created is inert until the head lists it, and all that is done after the commit
// point is guarded. It also keeps large records out of the head, takes any head for any record, and makes several heads
// in one commit possible: they are records of the first one's commit, each guarded by its revision.
//
// A commit that meets a pending object of another open one waits for that, up to [Options.Patience]: if it lives, it is
// decided in milliseconds. Then it stops it by changing its head's resourceVersion. Of two commits that wait for each
// other the one with the higher identifier gives up what it has written and begins anew. What a crashed process leaves
// pending means nothing, and the next commit on the same record replaces it; [Store.Sweep] removes the rest.
//
// Of several that commit to one head at once one gets through, and what the others have written is for nothing. So a
// handle that has lost a head reads it first, the next time, and announces its commit there (its turn) before it writes
// a record. Whoever reads that waits until the head has changed: then its commit is a conflict that has cost two reads.
// Nothing depends on turns but time. One that lasts longer than [Options.Patience], and a hundredth of that more for
// each record, is that of a crashed process, and the next one takes over.
//
// A handle settles its own commits, and those of others only where a log lists more than 64 of their objects. So a
// process that makes one commit and ends pays for no more than that.
//
// # Revisions
//
// A commit's revision is one more than the largest of: the revisions that its records have, and the resourceVersions
// with which its step 1 ended. A revision is therefore never greater than the resourceVersion that the head got with
// it, so that a key which is deleted, and whose object is gone, gets a greater revision when it is created anew. That
// needs resourceVersions that are rising integers: etcd's always were, and Kubernetes promises it since 1.35. A server
// that has others gives an error. Objects that are copied into another cluster keep their revisions, but a key that is
// deleted there and created anew may get one that it had before the move.
//
// # Guarantees
//
// Reads and Watch are as the contract has them: Get is linearizable (all reads are quorum reads, never a cache's).
// Commits are atomic and durable once the head is updated. A list of several pages goes on behind the last name when
// its snapshot expires (410 Gone).
//
// [store.ErrUnknown] is the error if the update of the head got no answer, or one of the 5xx, and the head, read once
// more, does not list the commit. Refusals are certain, and plain errors: by a quota, a webhook or RBAC (403), by a
// schema (422), by flow control (429), a connection that could not be made. An error in step 1 is always certain: the
// commit does not come about. A 404 because the resources are not there is [ErrNotInstalled], and never taken for an
// object that is not there.
//
// # Limits
//
// One object takes 1.5 MiB in etcd as it comes (max-request-bytes), of which a record's Data may be about 1.4 MiB; a
// record that replaces another is stored with both until it is settled. Larger is a [store.TooLargeError]. A commit
// takes one request for each further head and each record, [Options.Parallel] at once, and as many of them as the first
// head, which lists their objects' names, has room for beside its Data: more than 10,000 with names of up to 100 bytes.
// A pool of 2^20 addresses, every other one held, writes no object above 50 KiB.
//
// etcd holds 2 GiB unless told otherwise (quota-backend-bytes), and the API server holds all objects in memory: plan
// for 1 to 2 KiB an allocation.
//
// # Cost
//
// In requests, one after the other, with a handle that has committed to this head before:
//
//	allocate        2 (create the allocation, beside it settle the one before; update the head)
//	renew, release  2 (update the object, if this handle knows it; else 3)
//	Get             1 (2 or 3 if the record is pending by another handle)
//	List            1 for each [Options.PageSize] records, 1 for each head with pending records, about 2 for each that a crash left behind
//	ByExpiry        as List of all records of the kind in the pool
//	Find            1, and what List adds; the server looks at each object of the pool, and sends what fits
//	Conflict        4 (of which one takes back step 1); after the first, 1, or 2 if it waited for a turn
//	after conflicts 2 more for each commit (read the head, announce the turn), until some were not disturbed
//
// A rate limit that the config names is kept; where it names none, [Open] sets none, instead of client-go's 5 requests
// a second. Priority and fairness on the server may hold requests up under load; give agents a flow schema of their own
// if there are thousands.
//
// # Tested versions
//
// The tests run the API server of Kubernetes 1.36 with etcd 3.6 in the test process, with the manifests of this package
// for its resources and its roles. Nothing that the package uses is newer than Kubernetes 1.16 but the promise about
// resourceVersions.
package kube
