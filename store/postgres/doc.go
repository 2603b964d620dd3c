// Package postgres keeps the records of package store in a PostgreSQL database, in tables that people can query. It is
// the store for many processes on many machines that have such a database already.
//
// # Tables
//
// A schema, "ipalloc" if not said otherwise, has
//
//   - record: all records, with the columns kind, pool, name, revision, state, prefixes (cidr[], in the order asked
//     for), created, expires (timestamptz) and data (json, to the letter). It is partitioned by kind into the next
//     three;
//   - pool: the pools. name is empty, data has the specification and the counts;
//   - allocation: who holds what (state allocated), and what was released and nobody may have yet (state cooling). name
//     is the owner. Of kind cooling is what cools down when its owner holds something else by then;
//   - other: records of all other kinds, also of kinds that this package does not know;
//   - address: one row for each prefix in allocation: prefix (cidr), pool, kind, name. Triggers keep it: write to
//     allocation;
//   - holding: a view of address with the state and the times of what holds it;
//   - ask: what those ask for that wait for their turns at a head, and the answers. It is unlogged, and empty after a
//     crash: a row means nothing when its caller has gone. The next ask of the same Store replaces a row. Who has a
//     turn removes, every few seconds, those that were not used for a minute;
//   - migration: the versions of the tables.
//
// There are indexes by key, by prefix (SP-GiST) and by expiry. [Migrations] has all the SQL.
//
// The constraint address_overlap makes it impossible, also for SQL written by hand, that two rows of table allocation
// hold overlapping addresses in one pool. Only what holds at the end of a transaction counts, so that addresses may
// change hands within it in any order. Package pool never runs into it; whoever does gets an [OverlapError]. This is
// stricter than the contract of [store.Store], which lets records overlap.
//
// It needs the extension btree_gist, which comes with PostgreSQL (on Debian in the package of the server), and which
// any role that may create in the database may install.
//
// # Queries
//
// Who has 10.0.0.7, in whatever pool, the closest first:
//
//	SELECT pool, owner, prefix, state, expires FROM ipalloc.holding
//	WHERE prefix >>= '10.0.0.7' ORDER BY masklen(prefix) DESC
//
// Who has anything of 10.0.0.0/24:
//
//	SELECT prefix, pool, owner FROM ipalloc.holding WHERE prefix && '10.0.0.0/24' ORDER BY prefix
//
// What an owner has:
//
//	SELECT pool, prefixes, state, created FROM ipalloc.allocation
//	WHERE kind = 'allocation' AND name = 'vm-1' AND state = 'allocated'
//
// How many addresses each pool has, and how many of them are free:
//
//	SELECT p.pool, s->>'family' AS family, s->>'total' AS total, s->>'used' AS used, s->>'free' AS free
//	FROM ipalloc.pool p, json_array_elements(p.data->'spaces') s ORDER BY p.pool, family
//
// What expires within the next hour:
//
//	SELECT pool, owner, prefix, expires FROM ipalloc.holding
//	WHERE state = 'allocated' AND expires BETWEEN now() AND now() + interval '1 hour' ORDER BY expires
//
// What cools down, and until when:
//
//	SELECT pool, prefix, expires FROM ipalloc.holding WHERE state = 'cooling' ORDER BY expires
//
// The tables say what is, not what was: there is no history. To change anything use package pool. SQL that changes
// table allocation, and not the free space in the pool's data, leaves a pool that Verify complains of.
//
// # Consistency
//
// A commit is one call of the function apply, a transaction of its own. It replaces the head under its revision and
// returns, if that is another by then, the head as it is, from a new snapshot. A head is locked from when it is
// replaced to the end of the transaction; a commit of several heads, or one that creates or deletes its head, locks
// heads first, in the order of their keys. Isolation level READ COMMITTED is what it is made for. Under a stricter
// default of the database the same holds, but commits that meet are tried again, as are those that PostgreSQL refuses
// for a deadlock: up to 20 times.
//
// A commit is durable when it returns, also where synchronous_commit is off by default. Whether a standby has it too
// depends on the server's settings. Revisions come from a sequence: a key never gets a lower one than it had. Restoring
// a backup brings old revisions back; programs must not run meanwhile.
//
// Reads are linearizable on the primary. [Open] refuses standbys; a pool that is given to [New] must not lead to them.
//
// # Errors of a commit
//
// [store.ErrUnknown] says that the request may have been sent and that no answer came: the connection was lost, or the
// context ended meanwhile. What the server refuses it has not done, and the error is its own, a *pgconn.PgError,
// whatever the reason: a disk that is full (53100), a server that became read-only (25006), a time limit (57014,
// 55P03), a session that is terminated in the middle of the function (57P01). The server commits after the function is
// done, and says so by a last message: an end of the session in between is the one error of the server that leaves the
// outcome unknown. The store does not ask the server what became of a commit: that takes another transaction to learn
// its identifier first, in every commit, while the caller reads the head again in any case. The transaction of a lost
// connection may still be running, and take effect later; the head's revision then makes one of the two commits fail.
//
// # Cost
//
// A commit is one round trip, also one that fails with [store.ErrConflict]; [store.Store.Get] and Find are one. A
// commit that meets another may take more: see above. The first use of a statement on a connection takes one more, to
// prepare it, and pgxpool asks whether a connection that was idle for a second is still there. List reads 256 records
// in each round trip.
//
// A turn ([store.Store.Turn]) is one round trip, which waits in the server in the queue of an advisory lock. It holds a
// connection and the lock of the head's row until its commit. If the process stops meanwhile, the server ends the
// transaction after [store.MaxTurn] (idle_in_transaction_session_timeout); if it is killed, at once.
//
// [Store.Join] waits in the same queue as Turn, with what it asks for in table ask. It is one round trip, of those too
// whom a commit of another turn has answered; the commit answers in its own transaction, without another round trip.
// Who gets an answer gives the lock on within the server, and keeps its connection, with a transaction that holds
// nothing, for up to 10 ms: the next Join goes on in that transaction, and else it is ended, which is a round trip that
// nobody waits for. An ask that is withdrawn takes one round trip more. After a crash of the server nothing is known of
// the asks of before, and Join fails with [store.ErrUnknown]. A turn is shown at most 64 asks, of at most 1 MiB in all,
// and none that is older than five seconds. [Store.GetAll] is one round trip.
//
// In the server a commit that allocates one address takes very roughly 0.1 ms of a processor beyond a bare transaction
// of one row (and one of 64 addresses 2 ms, half of it for the constraint against overlap), and then waits for the same
// flush of the log.
//
// # Watch
//
// Watch uses LISTEN and NOTIFY. NOTIFY makes all commits of a server wait for one another, so commits use it only while
// someone listens in the schema, which they know by an advisory lock. Those who wait through one Store share one
// connection, which is not one of the pool's meanwhile, and a goroutine, which ends a second after the last of them,
// and with Close.
//
// # Limits and caveats
//
// A commit takes any number of heads and records, at most 128 MiB of them. Kind, pool and name of a record are together
// at most 2,600 bytes. What is larger is refused with [store.ErrTooLarge]. The database must have the encoding UTF8.
//
// Poolers such as PgBouncer: in session mode everything works. In transaction mode set pgx's default_query_exec_mode to
// exec or cache_describe, or have the pooler keep track of prepared statements; Watch does not work, because it needs a
// session of its own, and would wait without end. In statement mode [New] cannot create the tables, and the rest is as
// in transaction mode.
//
// A role that only uses the tables needs, also once more after an upgrade that adds tables,
//
//	GRANT USAGE ON SCHEMA ipalloc TO role;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ipalloc TO role;
//	GRANT USAGE ON ALL SEQUENCES IN SCHEMA ipalloc TO role
//
// Rows of table pool change all the time: leave autovacuum on. Long transactions of others, as those of a backup, keep
// it from cleaning up, and make commits slower.
//
// Tested with PostgreSQL 15. It needs 14 or newer.
package postgres
