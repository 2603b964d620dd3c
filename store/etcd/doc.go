// Package etcd is a [store.Store] in etcd, with version 3 of its API. It is for programs on many machines that have an
// etcd cluster, or want one.
//
// # Use
//
//	s, err := etcd.Open(ctx, clientv3.Config{
//		Endpoints: []string{"10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"},
//	}, nil)
//	if err != nil {
//		return err
//	}
//	defer s.Close()
//	pods, err := pool.Ensure(ctx, s, "pods", spec, pool.Update, nil)
//
// The tests, and a runnable example, are in the module store/etcd/etcdtest, because they start servers, which no
// importer needs.
//
// # Guarantees
//
// A commit is one etcd transaction, guarded by the revisions of the heads: it takes effect whole or not at all, and is
// in the logs of a majority of the members when it returns. All reads are linearizable. The revision of a record is its
// mod_revision, which etcd never uses twice.
//
// [store.ErrUnknown] means that a transaction was sent, and no answer told its outcome: the connection was lost, the
// context ended, or the servers timed out or lost their leader. A transaction that was never sent, or that a server
// refused, gives another error. A transaction is sent at most once, even where etcd's client would send it again.
//
// # Cost
//
// In round trips:
//
//   - Get: one.
//   - Commit: one, if the handle has seen the heads, and the records to be replaced or deleted, as they are now stored:
//     it has read or written them, or a commit error contained them. It remembers [Options.Remembered] of them. One
//     more for each head that it has not seen at its revision, and one more (two for more than eight records) if some
//     record has changed since it last saw it.
//   - A commit that fails with a conflict, or because a record exists: one, whose answer has the records; two if a
//     record exists and there are more than eight.
//   - Find: two; one for an IPv4 address that no allocation has.
//   - List, ByExpiry: one for each page of about a mebibyte. List takes about twice as many where there are thousands
//     of records: etcd counts all keys of a range for each request, so pages have bounds.
//   - ByLabel: one for each page of the index, of up to 2,000 names, and one for each [Options.MaxTxnOps] records.
//   - Watch: one to begin, and one when the record has changed.
//   - Turn: one if nobody else has a ticket, else three and a watch. A turn lasts for at most [store.MaxTurn], or the
//     time of twenty round trips if that is longer; callers that wait notice its end after at most twice that time. A
//     handle asks for a lease every five seconds while it takes turns.
//   - Join: one, if it is answered or nobody else has a ticket; else two. The first Join of a handle opens a watch.
//   - GetAll: one for each [Options.MaxTxnOps] records.
//
// A record is written once, and a copy of it if it expires. Each prefix of an allocation, and each label of it or of a
// past tenure, is a key with an empty value. A label costs one operation of the transaction, and the bytes of that key,
// when the allocation is granted, one when it goes, and none when it is renewed. A past tenure is written and deleted
// with as many operations as it has labels, and one more: four for one address of a claim without labels.
//
// # Limits
//
// A commit has at most 128 heads and writes together (about 125 if these are allocations, which have index entries, and
// about 120 if these have four labels each), and 1.5 MiB: the defaults of etcd's --max-txn-ops and --max-request-bytes.
// For servers with other limits, set [Options.MaxTxnOps] and [Options.MaxRequestBytes] to match; a commit that exceeds
// them fails with a [store.TooLargeError]. An allocation has at most about 4,000 prefixes. Package pool splits what it
// commits together so that it fits.
//
// # Layout
//
// With the default prefix:
//
//	/ipalloc/records/KIND/POOL/NAME               a record, as JSON
//	/ipalloc/prefixes/POOL/ADDRESS/BITS/NAME      the allocation with that prefix; empty
//	/ipalloc/labels/KIND/POOL/LABEL/VALUE/NAME    the record with that label; empty
//	/ipalloc/expiry/KIND/POOL/TIME/NAME           a record that expires then: a copy
//	/ipalloc/turns/KIND/POOL/NAME/TICKET          of a handle that waits for its turn, and what it asks for; with a lease
//	/ipalloc/answers/HANDLE/NUMBER                an answer to it, or the word that it has the turn; with the same lease
//	/ipalloc/revision                             what a commit writes that has nothing else to write
//
// So etcdctl get --prefix /ipalloc/records/allocation/blue/ shows who holds what in the pool blue, and get --prefix
// /ipalloc/prefixes/blue/10.0.0.5/ who holds an address, and --keys-only --prefix
// /ipalloc/labels/allocation/blue/node/n1/ who has the label node=n1. In KIND, POOL, NAME, LABEL and VALUE, slashes,
// percent signs, spaces, control characters, and characters that change the direction of text are escaped as in a URL:
// %2F. All other characters are unchanged. A value has the name, state, prefixes, labels, created, expires and data of
// the record.
//
// The three indexes are exact at every revision, because each commit changes them in its transaction. Do not change
// keys by hand: nothing corrects an index that differs from its records.
//
// # Caveats
//
// Contexts. A call waits for a connection until its context ends. Give it a deadline; package pool gives its commits
// one.
//
// Dead connections. Without keep-alive probes a client takes many minutes to notice that a server has vanished without
// closing its connections. [Open] sets DialKeepAliveTime and DialKeepAliveTimeout; do so too in the configuration of
// your own client.
//
// Space and time. etcd keeps old revisions until it is told to compact (--auto-compaction-retention), and a head is
// rewritten by each commit. A server whose database is at its quota refuses commits with "database space exceeded";
// reads still work. Compact, defragment and disarm the alarm, as etcd's documentation says; then commits work again.
// Until then etcd also passes over every deleted key of a range that it reads, at about 0.1 µs each: those of leases
// that have ended or were renewed, when expired ones are looked for, and of former holders of an address, in Find.
//
// Restored backups. A cluster that is restored from a snapshot has lower revisions than before, and has lost what was
// granted since. Bump the revision (etcdutl snapshot restore --bump-revision --mark-compacted), restart the programs
// that use the pools, and compare the pools with the addresses that are in use.
//
// Security. A user with write access to the prefix can change anything. A role for users of the store needs read and
// write access to keys with the prefix, and nothing else.
//
// Tested with etcd 3.7.3, client and servers.
package etcd
