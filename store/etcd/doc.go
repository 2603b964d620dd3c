// Package etcd keeps the records of package store in etcd, with version 3 of its API. It is the store for programs on
// many machines that have an etcd cluster, or want one.
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
// The tests, and this as an example that runs, are in the module store/etcd/etcdtest: they start servers, which no
// importer needs.
//
// # Guarantees
//
// A commit is one etcd transaction: all of it or nothing, guarded by the revisions of the heads, and in the logs of a
// majority of the members when it returns. All reads are linearizable. The revision of a record is its mod_revision,
// which etcd never uses twice.
//
// [store.ErrUnknown] means that a transaction was sent and no answer came that tells its outcome: the connection was
// lost, the context ended, the servers timed out, or lost their leader. A transaction that never reached a connection,
// and one that a server refused, are other errors. A transaction is sent at most once, where the client of etcd would
// send it again.
//
// # Cost
//
// In round trips:
//
//   - Get: one.
//   - Commit: one, if the handle has seen the heads, and the records that are replaced or deleted, as they are now
//     stored: read or written them itself, or met them in the error of a commit. It remembers [Options.Remembered] of
//     them. One more for each head that it has not seen at its revision, and one more (two, of more than eight) if some
//     record is not as it has seen it last.
//   - A commit that fails with a conflict, or because something exists: one as well, whose answer has the records; two
//     if something exists and the records are more than eight.
//   - Find: two. One for an IPv4 address that nothing has.
//   - List, ByExpiry: one for each page of about a mebibyte.
//   - Watch: one, and one for what it waits for.
//   - Turn: one if nobody else has a ticket, else three and a watch. A turn lasts for [store.MaxTurn] at most, or for
//     as long as twenty round trips take; those that wait take at most twice that to notice. A handle asks for a lease
//     every five seconds while it takes turns.
//   - Join: one, also if it is answered; two if others have tickets and it is not. The first one opens a watch.
//   - GetAll: one for each [Options.MaxTxnOps] records.
//
// A record is written once, and once more if it expires. Each of an allocation's prefixes is a key with an empty value.
//
// # Limits
//
// A commit has at most 128 heads and writes together (about 125 if these are allocations, which have index entries),
// and 1.5 MiB: the defaults of etcd's --max-txn-ops and --max-request-bytes. Servers with other limits want
// [Options.MaxTxnOps] and [Options.MaxRequestBytes] to match; whatever they refuse is a [store.TooLargeError]. An
// allocation has at most about 4000 prefixes. Package pool cuts what it commits together to what fits.
//
// # Layout
//
// With the default prefix:
//
//	/ipalloc/records/KIND/POOL/NAME               a record, as JSON
//	/ipalloc/prefixes/POOL/ADDRESS/BITS/NAME      the allocation with that prefix; empty
//	/ipalloc/expiry/KIND/POOL/TIME/NAME           a record that expires then: a copy
//	/ipalloc/turns/KIND/POOL/NAME/TICKET          of a handle that waits for its turn, and what it asks for; with a lease
//	/ipalloc/answers/HANDLE/NUMBER                an answer to it, or the word that it has the turn; with the same lease
//	/ipalloc/revision                             what a commit writes that has nothing else to write
//
// So etcdctl get --prefix /ipalloc/records/allocation/blue/ shows who holds what in the pool blue, and get --prefix
// /ipalloc/prefixes/blue/10.0.0.5/ who holds an address. In KIND, POOL and NAME the slash, the percent sign, spaces,
// control characters, and characters that change the direction of text are written as in a URL: %2F. All else is as it
// is. A value has the name, state, prefixes, created, expires and data of the record.
//
// The two indexes are exact at every revision, because each commit changes them in its transaction. Do not change keys
// by hand: what is written there by others, index and record apart, stays apart.
//
// # Caveats
//
// Contexts. A call waits for a connection until its context ends. Give it a deadline; package pool gives its commits
// one.
//
// Dead connections. Without keep-alive probes a client notices after many minutes that a server has vanished without
// closing its connections. Set DialKeepAliveTime and DialKeepAliveTimeout in the configuration of a client of your own;
// [Open] does.
//
// Space. etcd keeps old revisions until it is told to compact (--auto-compaction-retention), and a head is rewritten by
// each commit. A server whose database is at its quota refuses commits with "database space exceeded"; reads go on.
// Compact, defragment and disarm the alarm, as etcd's documentation says, and commits go on.
//
// Restored backups. A cluster that was restored from a snapshot has lower revisions than before, and forgets what was
// granted since. Bump the revision (etcdutl snapshot restore --bump-revision --mark-compacted), restart the programs
// that use the pools, and compare with what is in use.
//
// Security. Whoever may write under the prefix may do anything. A role for users of the store needs to read and write
// keys with the prefix, nothing else.
//
// Tested with etcd 3.6.14, client and servers. go.mod asks for the client 3.6.8.
package etcd
