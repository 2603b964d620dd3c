// Package postgres is a [store.Store] in a PostgreSQL database, in tables that people can query. It is for many
// processes on many machines that already have such a database.
//
// # Tables
//
// The schema, by default "ipalloc", has
//
//   - record: all records, with the columns kind, pool, name, revision, state, prefixes (cidr[], in the order
//     requested), labels (jsonb), created, expires (timestamptz) and data (json, kept verbatim). It is partitioned by
//     kind into the next four;
//   - pool: the pools. name is empty, data has the specification and the counts;
//   - allocation: what owners hold (state allocated), and what was released and cools down (state cooling). name is the
//     owner. What several owners share is one row with the prefixes (state shared), whose data lists them, and one of
//     each owner without. Rows of kind cooling are for what cools down while its last owner holds something else;
//   - history: what owners held, until some time, in pools whose specs ask for it. created is when a tenure began,
//     state how it ended (released, lapsed, declined or renumbered), and data has when. The label ipalloc.owner is the
//     owner;
//   - other: records of all other kinds, including kinds that this package does not know;
//   - address: one row for each prefix in allocation, with prefix (cidr), pool, kind and name. Triggers maintain it, so
//     write to allocation instead;
//   - label: one row for each label of an allocation or of a row of history, with kind, pool, label, value and name (of
//     an allocation, the owner). Triggers maintain it too. What has no labels has no rows here, and costs nothing;
//   - holding: a view that adds state, labels and times from allocation to address;
//   - tenure: a view of history, and of what is held now, with one row for each owner and prefix: pool, owner,
//     prefix, began, ended and how (both null for what goes on) and labels;
//   - ask: the asks of callers that wait for their turn at a head, and the answers. It is unlogged, and empty after a
//     crash: a row means nothing once its caller has gone. The next ask of the same Store replaces a row. Every few
//     seconds, the caller that has the turn removes rows that were not used for a minute;
//   - migration: the versions of the tables.
//
// There are indexes by key, by prefix (SP-GiST), by expiry and by label. The function labelled returns what has a
// label. [Migrations] returns all the SQL.
//
// The constraint address_overlap prevents two rows of table allocation from holding overlapping addresses in one pool,
// even if the SQL is written by hand. It is checked at the end of a transaction, so a transaction may move addresses
// between owners in any order. Package pool never violates it; a commit that does fails with an [OverlapError]. This is
// stricter than the contract of [store.Store], which lets records overlap.
//
// The constraint needs the extension btree_gist, which comes with PostgreSQL (on Debian, with the server's package).
// Any role with the right CREATE in the database can install it.
//
// # Queries
//
// Who holds 10.0.0.7 in any pool, the longest prefix first:
//
//	SELECT pool, owner, prefix, state, expires FROM ipalloc.holding
//	WHERE prefix >>= '10.0.0.7' ORDER BY masklen(prefix) DESC
//
// Who holds anything in 10.0.0.0/24:
//
//	SELECT prefix, pool, owner FROM ipalloc.holding WHERE prefix && '10.0.0.0/24' ORDER BY prefix
//
// What an owner holds:
//
//	SELECT pool, prefixes, state, created FROM ipalloc.allocation
//	WHERE kind = 'allocation' AND name = 'vm-1' AND state = 'allocated'
//
// What has the label node=n1 in a pool:
//
//	SELECT name AS owner, prefixes, state FROM ipalloc.labelled('lab', 'node', 'n1')
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
// Who had 10.0.0.7 yesterday at noon, in any pool that has a history; this reads the whole table history:
//
//	SELECT pool, owner, prefix, began, ended, how FROM ipalloc.tenure WHERE prefix >>= '10.0.0.7'
//	AND began <= current_date - interval '12 hours' AND coalesce(ended > current_date - interval '12 hours', true)
//
// Who has had 10.0.0.7 in a pool, by itself, found with the index of labels (in that of a shorter prefix, cut to a
// multiple of 8 bits, it stands as ipalloc.in.10.0.0.0/24, and so on):
//
//	SELECT labels->>'ipalloc.owner' AS owner, created AS began, data->>'to' AS ended, state AS how
//	FROM ipalloc.labelled('lab', 'ipalloc.in.10.0.0.7/32', '', kind => 'history')
//
// To change anything, use package pool. SQL that changes table allocation, but not the free
// space in the pool's data, leaves a pool in which Verify finds errors.
//
// # Consistency
//
// A commit is one call of the function apply, in a transaction of its own. The function replaces the head if it is
// still at its revision, and otherwise returns the present head from a new snapshot. The head stays locked until the
// end of the transaction. A commit of several heads, or one that creates or deletes its head, first locks the heads in
// the order of their keys. The design is for the isolation level READ COMMITTED. A stricter default of the database
// gives the same guarantees, but commits that collide are tried again, up to 20 times, as are commits that PostgreSQL
// refuses because of a deadlock.
//
// A commit is durable when it returns, even if synchronous_commit is off by default. Whether a standby has it too
// depends on the server's settings. Revisions come from a sequence, so the revision of a key never falls. Restoring a
// backup brings back old revisions; no program may run meanwhile.
//
// Reads are linearizable on the primary. [Open] refuses standbys; a pool that is given to [New] must not connect to
// one.
//
// # Errors of a commit
//
// [store.ErrUnknown] means that the request may have been sent and that no answer came: the connection was lost, or the
// context ended meanwhile. A commit that the server refuses has not taken effect, and the error is the server's own, a
// *pgconn.PgError: for example a full disk (53100), a server that became read-only (25006), a time limit (57014,
// 55P03), or a session that was terminated during the function (57P01). The server commits after the function has
// returned, and then sends a last message. If the session ends in between, the outcome is unknown; no other error of
// the server leaves it open. The store does not ask the server for the outcome of a commit: each commit would first
// need another transaction to learn its identifier, and the caller reads the head again in any case. The transaction of
// a lost connection may still be running, and take effect later; the head's revision then makes one of the two commits
// fail.
//
// # Cost
//
// A commit takes one round trip, even if it fails with [store.ErrConflict]; [store.Store.Get] and Find take one each. A
// commit that collides with another may take more; see above. The first use of a statement on a connection takes one
// more, to prepare it, and pgxpool first checks a connection that was idle for a second. List reads 256 records in each
// round trip, and ByLabel up to as many. Each label of an allocation is a row and an index entry more when it is
// granted and when it goes, and nothing when it is renewed. A past tenure is a row, and one more for each of its
// labels: three for an address of a claim without labels.
//
// A turn ([store.Store.Turn]) takes one round trip, which waits in the server in the queue of an advisory lock. It
// holds a connection and the lock of the head's row until its commit. If the process is stopped meanwhile, the server
// ends the transaction after [store.MaxTurn] (idle_in_transaction_session_timeout); if the process is killed, at once.
//
// [Store.Join] waits in the same queue as Turn, and writes its ask to table ask. It takes one round trip, whether or
// not another turn's commit answers it; that commit answers in its own transaction, without another round trip. A
// caller that gets an answer passes the lock on within the server. It keeps its connection, with a transaction that
// holds no lock, for up to 10 ms. The next Join continues that transaction; if none comes, it is ended, in a round trip
// that nobody waits for. Withdrawing an ask takes one more round trip. After a crash of the server its earlier asks are
// lost, and Join fails with [store.ErrUnknown]. A turn is shown at most 64 asks, of at most 1 MiB in all, none older
// than five seconds. Store.GetAll takes one round trip.
//
// In the server, a commit that allocates one address takes roughly 0.1 ms of processor time more than a bare
// transaction of one row, and one that allocates 64 addresses takes 2 ms, half of it for the constraint against
// overlap. Both then wait for the same flush of the log.
//
// # Watch
//
// Watch uses LISTEN and NOTIFY. NOTIFY makes all commits of a server wait for one another, so commits use it only while
// a client listens in the schema, which they learn from an advisory lock. All waiting calls of one Store share one
// connection, which they take out of the connection pool, and one goroutine. The goroutine ends a second after the last
// of these calls, or with Close.
//
// # Limits and caveats
//
// A commit takes any number of heads and records, of at most 128 MiB together. The kind, pool and name of a record have
// at most 2,600 bytes together. Anything larger is refused with [store.ErrTooLarge]. The encoding of the database must
// be UTF8.
//
// Poolers such as PgBouncer: in session mode everything works. In transaction mode set pgx's default_query_exec_mode to
// exec or cache_describe, or have the pooler keep track of prepared statements; Watch does not work there: it needs a
// session of its own, and would wait for ever. In statement mode the same is true, and [New] cannot create the tables.
//
// A role that only uses the tables needs these rights; grant them again after an upgrade that adds tables:
//
//	GRANT USAGE ON SCHEMA ipalloc TO role;
//	GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA ipalloc TO role;
//	GRANT USAGE ON ALL SEQUENCES IN SCHEMA ipalloc TO role
//
// Leave autovacuum on, because rows of table pool change all the time. Long transactions, such as that of a backup,
// prevent it from cleaning up, and make commits slower.
//
// Tested with PostgreSQL 15. It needs 14 or newer.
package postgres
