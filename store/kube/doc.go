// Package kube keeps the records of package store in custom resources of the Kubernetes API. It is the store for
// controllers and agents that should need no database beside the cluster's own.
//
// # Set-up
//
// Apply the definitions of the resources and the roles once, and bind the role of the writer in the namespace where
// the objects are to be:
//
//	kubectl apply -f manifests/crds.yaml -f manifests/rbac.yaml
//	kubectl -n NAMESPACE create rolebinding ipalloc --clusterrole=ipalloc-writer --serviceaccount=NAMESPACE:ACCOUNT
//
// The files are in this package's folder, and [CRDs] and [RBAC] return them. The role ipalloc-writer is all that a
// [Store] needs; ipalloc-reader is enough for Get, List, ByExpiry, Find, Audit and Watch. Then [Open] takes a
// rest.Config, which every controller has: of controller-runtime it is what ctrl.GetConfig or Manager.GetConfig
// returns.
//
// Open asks the server what would become of a write of each kind, by dry runs, which store nothing. It fails with
// [ErrDefinitions] if a definition lacks a field that this release needs, and with [ErrForbidden] if the user has some
// of the writer's rights, and not all. So after an upgrade of this package apply its manifests first; a program that
// comes before them does not start, and one that runs is told so by its next write. A user who may not write at all
// gets a handle for reading.
//
// Why a rest.Config and no client: the protocol must know whether a request was sent once or twice, and the clients of
// client-go and controller-runtime repeat what a server asks them to repeat, also an update that has taken effect. This
// package sends a request again only where that is harmless (see Guarantees). It needs no cache, no informer and no
// scheme, and of the modules of Kubernetes needs client-go and apimachinery only. The tests, and an example that runs,
// are in the module store/kube/kubetest: they run an API server and etcd, which no importer needs.
//
// # What is stored
//
// One object a record: ippools (short name ipp) for heads of pools, ipallocations (ipa) for allocations and for what
// cools down, iprecords (ipr) for all other kinds. They are namespaced. kubectl get shows the pool, owner, addresses,
// state, expiry and age of an allocation, and the families, total, used and free addresses of a pool (-o wide: more).
// Each object is labelled with its kind and its pool, and an allocation with its prefix of each family (or many, if
// it has several; IPv6 in full, as 2001-0db8-0000-0000-0000-0000-0000-0001-128), so that people can ask who has that
// very prefix alone:
//
//	kubectl get ipa -l ipalloc.github.io/pool=lab,ipalloc.github.io/ipv4=10.0.0.7-32
//
// An object is named POOL, or POOL.OWNER, where these are DNS labels. The name for any other key is a hint for people
// and a hash of 160 bits, and so are the labels. The object has the whole key in it. An object whose key is not the
// one asked for is an error ([ErrCollision]). A record's Data is text in the object, because the API would round its
// numbers.
//
// Only this package may write the objects. Do not give them finalizers: a deletion that a finalizer holds up is not
// settled until the object is gone. What people change by hand all the same is found:
//
//   - To delete an object is to delete the record, and the pool's Verify shows it. If it was the ippool, no new pool of
//     that name is made over what is still held; pool.Recover takes that up.
//   - The server refuses most values that this package could not read: the definitions have patterns for them. Lists
//     name an object that makes no sense, with [ErrDamaged], and go on with the others.
//   - Lists find objects by their labels, so they overlook one whose labels were changed. Get finds it. Verify and
//     Repair go by [Store.Audit], which trusts no label: they name it, and free nothing that it holds. The next write
//     of the record puts the labels right.
//
// # Protocol
//
// Kubernetes has no transaction over several objects, but an update is refused if the object has another
// resourceVersion than it names. So a commit first writes each record pending, beside its old value. Then it updates
// the head, under its resourceVersion, and lists the commit there: this one update is the commit point. Whoever reads
// a pending object decides by the head which value counts. Nothing depends on time or on which process is alive, and
// a crash needs no recovery. docs/kubernetes.md in the repository describes the protocol and argues why it is right.
//
// Revisions need resourceVersions that are rising integers: etcd's always were, and Kubernetes promises it since
// 1.35. A server that has others gives an error. Objects that are copied into another cluster keep their revisions,
// but a key that is deleted there and created anew may get one that it had before the move.
//
// # Guarantees
//
// Reads and Watch are as the contract has them: Get is linearizable (all reads are quorum reads, never a cache's).
// Commits are atomic and durable once the head is updated. A list of several pages goes on behind the last name when
// its snapshot expires (410 Gone).
//
// [store.ErrUnknown] is the error if the update of the head got no answer, or one of the 5xx, and the head, read once
// more, does not list the commit. Refusals are certain, and plain errors: by a quota or a webhook (403), by a schema
// (422), by flow control (429), a connection that could not be made. An error before the update of the head is always
// certain: the commit does not take effect. A 404 because the resources are not installed is [ErrNotInstalled], and is
// never taken for a missing object. A right that is missing is [ErrForbidden], also where only the settling of earlier
// commits needs it: then the next commit fails, instead of trying all that again each time.
//
// A 429 is waited for: the request alone is sent again after the time in Retry-After (one second without it), as long
// as the context leaves so much. So is a 503 that has a Retry-After, where it does no harm if the request was done all
// the same: after reads, and writes of pending records. After an update of the head, its outcome is looked for when
// that time is over. To settle an earlier commit is not worth a wait; it is left for the next commit.
//
// Each write is strict about fields (fieldValidation=Strict, since Kubernetes 1.25), and its answer is compared with
// what was sent, since older servers drop what a definition does not know. [ErrDefinitions] says so. It comes together
// with [store.ErrUnknown] if such an older server has stored a part of a head.
//
// Watch goes on when the connection is cut and when the server ends it, with 410, 429 or one of the 5xx; it backs off
// as informers do.
//
// # Limits
//
// One object takes 1.5 MiB in etcd as it comes (max-request-bytes), of which a record's Data may be about 1.4 MiB; a
// record that replaces another is stored with both until it is settled. Larger is a [store.TooLargeError]. A commit
// takes one request for each further head and each record, [Options.Parallel] at once. The first head lists the names
// of their objects beside its Data, about 20 bytes more than a name for each, so that 10,000 with names of up to 100
// bytes fit, and 5,000 with any names. More is refused before anything is written, and so is a commit that cannot be
// written in half of the time that its context leaves it, by the rate that the handle has lately seen.
//
// The free space of a pool of 2^20 addresses, every other one held, is in objects of at most 50 KiB. Its head has,
// beside that, the names of what is not settled yet: some 60 bytes for each record, a quarter of a megabyte after a
// commit of
// 4,096.
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
//	Open            9, all at once, each a dry run
//	List            1 for each [Options.PageSize] records, 1 for each head with pending records, 1 for each record that
//	                a crash left pending, [Options.Parallel] at once
//	Audit           as List of all objects of the resource in the namespace; Verify and Repair do it twice
//	create a pool   2 lists more than a commit, which stop at the first record
//	ByExpiry        as List of all records of the kind in the pool
//	Find            1, and what List adds; the server looks at each object of the pool, and sends what fits
//	Conflict        4 (of which one takes back what is pending)
//	Turn            3 (create a ticket, list the tickets, read the head), and later one that deletes the ticket; 1 more,
//	                a watch, if there are tickets before; none if another caller of this process passes its turn on
//
// Counted together, an allocation takes three requests from one caller, and two from many at once, who share updates of
// the head. 16 handles of one process with 4 callers each take two and a half.
//
// # In the background
//
// What a commit leaves pending is settled by the next one of the same handle, and nobody waits for it. If none comes
// for 50 ms, a goroutine settles it, and ends. [Store.Close] settles what is left, for five seconds at most. A process
// that ends without Close leaves it to others, which settle some of it beside their own commits, or to [Store.Sweep].
// Nothing depends on it: every reader understands pending objects, and kubectl get shows what they will be, or that
// they are being released.
//
// A rate limit that the config names is kept. Where it names none, [Open] sets none, instead of client-go's 5
// requests a second. Priority and fairness on the server may delay requests under load; give agents a flow schema of
// their own if there are thousands.
//
// # Tested versions
//
// The tests run the API server of Kubernetes 1.36 with etcd 3.6 in the test process, with the manifests of this
// package for its resources and its roles. Nothing that the package needs is newer than Kubernetes 1.16 but the
// promise about resourceVersions; it makes use of fieldValidation=Strict where a server has it.
package kube
