// Package kube is a [store.Store] in custom resources of the Kubernetes API. It is for controllers and agents that
// should need no database besides the cluster's own.
//
// # Set-up
//
// Once, apply the definitions of the resources and the roles, and bind the writer's role in the namespace of the
// objects:
//
//	kubectl apply -f manifests/crds.yaml -f manifests/rbac.yaml
//	kubectl -n NAMESPACE create rolebinding ipalloc --clusterrole=ipalloc-writer --serviceaccount=NAMESPACE:ACCOUNT
//
// The files are in this package's folder, and [CRDs] and [RBAC] return them. A [Store] needs the role ipalloc-writer;
// ipalloc-reader is enough for Get, List, ByExpiry, Find, Audit and Watch. [Open] takes a rest.Config, which every
// controller has: with controller-runtime, ctrl.GetConfig or Manager.GetConfig returns it.
//
// Open tries each kind of write in a dry run, which stores nothing. It fails with [ErrDefinitions] if a definition
// lacks a field that this release needs, and with [ErrForbidden] if the user has some of the writer's rights but not
// all. So when you upgrade this package, apply its manifests first: until then new programs do not start, and the
// writes of running programs fail. A user without any right to write gets a handle for reading.
//
// Open takes a rest.Config and not a client because the protocol must know whether a request was sent once or twice.
// The clients of client-go and controller-runtime repeat a request when the server asks for it, even an update that has
// taken effect. This package repeats a request only if that is harmless (see Guarantees). It needs no cache, no
// informer and no scheme, and no modules of Kubernetes other than client-go and apimachinery. The tests, and a runnable
// example, are in the module store/kube/kubetest, because they run an API server and etcd, which no importer needs.
//
// # What is stored
//
// Each record is one object: an ippool (short name ipp) for the head of a pool, an ipallocation (ipa) for an allocation
// or what cools down, an iprecord (ipr) for any other kind. They are namespaced. kubectl get shows the pool, owner,
// addresses, state, expiry and age of an allocation, and the families, total, used and free addresses of a pool (-o
// wide: more). Each object is labelled with its kind and its pool, and an allocation with its prefix of each family (or
// many, if it has several; IPv6 in full, as 2001-0db8-0000-0000-0000-0000-0000-0001-128), so that people can ask who
// holds exactly that prefix:
//
//	kubectl get ipa -l ipalloc.github.io/pool=lab,ipalloc.github.io/ipv4=10.0.0.7-32
//
// Each label of an allocation, and of a past tenure, is a label of its object too, with the prefix
// label.ipalloc.github.io/ ([LabelPrefix]):
//
//	kubectl get ipa -l ipalloc.github.io/pool=lab,label.ipalloc.github.io/node=n1
//
// Where Kubernetes does not admit a name or a value in a label (more than 63 bytes, slashes, spaces, other letters),
// x-- and a hash of it stand in its place; the object has the text itself under spec.labels. So ByLabel finds every
// label in the same way.
//
// The name of an object is POOL or POOL.OWNER if these are DNS labels. For any other key it is a readable hint and a
// hash of 160 bits; the same is true of the labels. The object contains the whole key. An object with another key than
// the one requested is an error ([ErrCollision]). A record's Data is text in the object, because the API would round
// its numbers.
//
// Only this package may write the objects. Do not give them finalizers: a deletion is not settled while a finalizer
// keeps the object. Changes that people make by hand nevertheless are found:
//
//   - To delete an object is to delete the record, and the pool's Verify shows it. If it was the ippool, no new pool of
//     that name is made over what is still held; pool.Recover takes that up.
//   - The patterns in the definitions make the server refuse most values that this package could not read. Lists report
//     a damaged object with [ErrDamaged], and go on with the others.
//   - Lists find objects by their labels, so they overlook one whose labels were changed. Get finds it. Verify and
//     Repair go by [Store.Audit], which trusts no label: they name it, and free nothing that it holds. The next write
//     of the record puts the labels right.
//
// # Protocol
//
// Kubernetes has no transaction over several objects, but it refuses an update that names another resourceVersion than
// the object has. So a commit first writes each record as pending, beside its old value. Then it updates the head under
// its resourceVersion, and lists the commit there: this one update is the commit point. A reader of a pending object
// decides by the head which value is valid. Nothing depends on time or on which process is alive, and a crash needs no
// recovery. docs/kubernetes.md in the repository describes the protocol and argues why it is right.
//
// Revisions need resourceVersions that are rising integers: those of etcd always were, and Kubernetes has promised it
// since 1.35. Other resourceVersions are an error. Objects that are copied into another cluster keep their revisions,
// but a key that is deleted there and created again may get a revision that it had before the move.
//
// # Guarantees
//
// Reads are quorum reads, never from a cache, so Get is linearizable. Commits are atomic, and durable once the head is
// updated. If the snapshot of a list expires (410 Gone), the next page continues after the last name.
//
// A commit fails with [store.ErrUnknown] if the update of the head got no answer, or a 5xx, and the head, read once
// more, does not list the commit. After any other error the commit has not taken effect: a refusal by a quota or a
// webhook (403), a schema (422) or flow control (429), a connection that could not be made, or any error before the
// update of the head. A 404 because the resources are not installed is [ErrNotInstalled], and is never taken for a
// missing object. A missing right is [ErrForbidden]. If only the settling of earlier commits needs that right, the next
// commit fails, instead of trying to settle them each time.
//
// After a 429 the request is sent again when the time in Retry-After is over (one second without it), if the context
// leaves that much time. So is a read, or a write of a pending record, after a 503 with a Retry-After, since repeating
// it is harmless. After such a 503 to an update of the head, the commit waits for that time and then reads the head to
// find the outcome. Requests that settle an earlier commit are not repeated; the next commit settles it.
//
// Each write is strict about fields (fieldValidation=Strict, since Kubernetes 1.25). Its answer is compared with what
// was sent, because older servers drop fields that a definition does not have; the error is [ErrDefinitions]. It also
// wraps [store.ErrUnknown] if such a server has stored only a part of a head.
//
// Watch goes on when the connection is cut and when the server ends it, with 410, 429 or one of the 5xx; it backs off
// as informers do.
//
// # Limits
//
// By default etcd takes objects of up to 1.5 MiB (max-request-bytes), so a record's Data can be about 1.4 MiB. A record
// that replaces another is stored with the old value until it is settled. A larger object gives a
// [store.TooLargeError]. A commit takes one request for each record and each head after the first, [Options.Parallel]
// at once. If it writes 16 records or more, one more object lists the names of theirs, with about 20 bytes more for
// each. So 10,000 objects with names of up to 100 bytes fit, and 5,000 with any names. A larger commit is refused
// before anything is written. So is a commit that, at the rate that the handle has lately seen, cannot be written in
// half of the time that its context leaves.
//
// The free space of a pool of 2^20 addresses, every other one held, is in objects of at most 50 KiB. The head also
// names what is not settled yet, in some 60 bytes for each record, or for each commit of 16 records or more.
//
// By default etcd holds 2 GiB (quota-backend-bytes), and the API server holds all objects in memory. Plan for 1 to 2
// KiB for each allocation, and three times the size of its labels, each with 30 bytes more, where there are any. A past
// tenure in the history of a pool takes as much as an allocation with three labels, up to 2 KiB; the package takes
// 10,000 of them for a pool ([Store.Limit]), so that a history does not fill etcd unseen. A look at what is due reads
// one record after the other, up to three for each that is added.
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
//	ByLabel         1 for each [Options.PageSize] objects that have the label, and what List adds; also for those before
//	                the one behind which it begins. The server looks at each object of the pool
//	Conflict        4 (of which one takes back what is pending)
//	16 records      1 for each record, at once, beside them 1 that names them; then the head. Settled later, see below
//	Turn            3 (create a ticket, list the tickets, read the head), and later one that deletes the ticket; 1 more,
//	                a watch, if there are tickets before; none if another caller of this process passes its turn on
//
// In total, an allocation takes three requests from a single caller. Many callers at once share updates of the head: 64
// take little more than one request each, and a second one later; with 16 handles of one process and 4 callers each it
// is one and a half, because these commit for one another ([Store.Join]).
//
// # In the background
//
// The next commit of the same handle settles what a commit leaves pending, and no caller waits for that. What a commit
// of 16 records or more leaves is settled only when 64 more commits are in the log of the head, or the handle has left
// more than 4,096 objects: a server has as much to do for that as for the commit, and is free sooner or later. If no
// commit comes for 50 ms, a goroutine settles it all, and ends. [Store.Close] settles what is left, for five seconds at
// most. If a process ends without Close, other processes settle some of it with their own commits, and [Store.Sweep]
// settles all. Nothing depends on this: every reader understands pending objects, and kubectl get shows what they will
// be, or that they are being released.
//
// A rate limit in the config is kept. If the config has none, there is no limit, unlike client-go's default of 5
// requests a second. Priority and fairness on the server may delay requests under load; give agents a flow schema of
// their own if there are thousands.
//
// # Tested versions
//
// The tests run the API server of Kubernetes 1.37 with etcd 3.7 in the test process, with the manifests of this package
// for its resources and its roles. Apart from the promise about resourceVersions, the package needs nothing newer than
// Kubernetes 1.16; it uses fieldValidation=Strict if the server has it.
package kube
