// Package mysql is a [store.Store] in MySQL or MariaDB, in tables that people can query. It is for many processes on
// many machines that already have such a server.
//
// # Tables
//
// The schema, which MySQL also calls a database, is by default "ipalloc". It has
//
//   - record: all records, with the columns kind, pool, name (bytes of UTF-8, because no collation that both servers
//     have compares texts just as they are), revision, state, prefixes (a JSON array, in the order requested), labels
//     (a JSON object), created, expires (datetime(6), in UTC) and data (JSON, kept verbatim);
//   - address: what the records of kind allocation and cooling hold, in one row for each prefix that is not in another
//     prefix of the same record, with pool, family, first and last (its first and last address, as INET6_ATON gives
//     them), kind, name and prefix;
//   - label: the labels of the records of kind allocation and history, in one row for each, with kind, pool, name (of
//     the record), label, value and hash: the SHA-256 of the kind, a colon, the length of the label's name in bytes, a
//     colon, that name and the value, since an index takes no whole label. A commit writes one row more for each label,
//     and looks once more for each such record that it replaces or deletes;
//   - revision: the counter from which revisions come. It has no rows;
//   - ask: the asks of callers that wait for their turn at a head. A row is in a transaction that is never committed,
//     so it takes a dirty read to see it, and it goes with the caller's session;
//   - answer: the answers, and the asks that were withdrawn. Rows older than ten minutes are removed by later answers
//     at the same head;
//   - migration: the versions of the tables;
//   - tenure: a view of what was held (records of kind history), of pools whose specs ask for it, and of what is held
//     now, with one row for each grant: pool, owner, prefixes, began, ended and how (both null for what goes on) and
//     labels;
//   - pool, allocation and holding: views for people, with texts: the pools, what owners hold and what cools down with
//     one row for each record, and the same with one row for each prefix.
//
// Everything that changes records is in stored procedures, which [Migrations] returns with all the other SQL. There are
// no triggers and no stored functions, which would need more rights where the server writes a binary log.
//
// # Overlap
//
// A commit after which two records of kind allocation or cooling hold overlapping addresses in one pool fails with an
// [OverlapError]. Package pool never tries that. This is stricter than the contract of [store.Store], which lets
// records overlap. Two mechanisms see to it:
//
//   - the primary key of table address, (pool, family, first): no two rows begin with the same address, whoever writes
//     them;
//   - the procedure apply, which compares each row that it adds with the rows before and after it.
//
// MySQL has no constraint that refuses a prefix within another one. Two commits that run at the same time in one pool
// are kept apart by the pool's head, so what apply sees is complete. SQL that is written by hand and adds rows to table
// address is refused if a row begins at the same address, and not if it is within another one. SQL that changes table
// record does not change table address.
//
// # Queries
//
// Who holds 10.0.0.7 in any pool:
//
//	SELECT pool, owner, prefix, state, expires FROM ipalloc.holding
//	WHERE family = 4 AND first <= INET6_ATON('10.0.0.7') AND last >= INET6_ATON('10.0.0.7')
//
// Who holds anything in 10.0.0.0/24:
//
//	SELECT prefix, pool, owner FROM ipalloc.holding
//	WHERE family = 4 AND first <= INET6_ATON('10.0.0.255') AND last >= INET6_ATON('10.0.0.0') ORDER BY first
//
// What an owner holds:
//
//	SELECT pool, prefixes, state, created FROM ipalloc.allocation
//	WHERE kind = 'allocation' AND owner = 'vm-1' AND state = 'allocated'
//
// How many addresses each pool has, and how many of them are free:
//
//	SELECT p.pool, s.family, s.total, s.used, s.free
//	FROM ipalloc.pool p, JSON_TABLE(p.data, '$.spaces[*]' COLUMNS (
//	  family varchar(9) PATH '$.family', total varchar(40) PATH '$.total',
//	  used varchar(40) PATH '$.used', free varchar(40) PATH '$.free')) s
//	ORDER BY p.pool, s.family
//
// What expires within the next hour:
//
//	SELECT pool, owner, prefix, expires FROM ipalloc.holding
//	WHERE state = 'allocated' AND expires BETWEEN UTC_TIMESTAMP() AND UTC_TIMESTAMP() + INTERVAL 1 HOUR ORDER BY expires
//
// What cools down, and until when:
//
//	SELECT pool, prefix, expires FROM ipalloc.holding WHERE state = 'cooling' ORDER BY expires
//
// What an owner holds in a pool, found with the primary key, whose columns are bytes:
//
//	SELECT prefixes, state FROM ipalloc.record WHERE kind = 'allocation' AND pool = 'lab' AND name = 'vm-1'
//
// Who has the label node with the value n1 in a pool, found with the index of labels:
//
//	SELECT CONVERT(l.name USING utf8mb4) FROM ipalloc.label l
//	WHERE l.pool = 'lab' AND l.hash = UNHEX(SHA2(CONCAT('allocation:', LENGTH('node'), ':', 'node', 'n1'), 256))
//	ORDER BY l.name
//
// Who had 10.0.0.7 by itself yesterday at noon, in any pool that has a history; this reads all of it:
//
//	SELECT pool, owner, began, ended, how FROM ipalloc.tenure WHERE JSON_CONTAINS(prefixes, '"10.0.0.7/32"')
//	AND began <= CURDATE() - INTERVAL 12 HOUR AND COALESCE(ended > CURDATE() - INTERVAL 12 HOUR, TRUE)
//
// To change anything, use package pool. SQL that changes records, but not the free space in
// the pool's data, leaves a pool in which Verify finds errors.
//
// # Consistency
//
// A commit is one call of the procedure apply, which makes one transaction and commits it. It waits for a lock of each
// head (GET_LOCK) in the order of their keys, locks the rows of the heads, and compares their revisions; then it
// writes. The isolation level is READ COMMITTED, whatever the default is: what a commit decides on, it reads with a
// lock (FOR UPDATE), which sees the newest rows under any level, and without the locks on gaps that REPEATABLE READ
// adds, commits to different pools do not wait for one another. A commit that the server ends because of a deadlock
// (1213) or a time limit for row locks (1205) is tried again, up to 20 times.
//
// All reads are single statements in autocommit mode. They are linearizable on the one server that takes the writes.
// [Open] refuses servers that are read-only, at each new connection; all connections of a db that is given to [New]
// must lead to one server that takes writes.
//
// Revisions come from a counter of AUTO_INCREMENT, which survives crashes of MySQL 8 and MariaDB. Restoring a backup
// brings back old revisions; no program may run meanwhile.
//
// # Durability, replicas and failover
//
// A commit is as durable as the server makes its transactions. Leave innodb_flush_log_at_trx_commit at 1, its default,
// and with a binary log set sync_binlog to 1; this package cannot set them for a session, and does not check them.
//
// With asynchronous replicas, the default, a failover loses the last commits: addresses that were handed out may be
// handed out again. With semi-synchronous ones a commit that has returned is on a replica, as long as the server has
// not given up waiting (rpl_semi_sync_source_timeout, rpl_semi_sync_master_timeout: ten seconds by default, after which
// it goes on as if there were none). Make that time limit very long, and let only a replica that is up to date take
// over. The old primary must be fenced, or at least be read-only: a commit to it then fails with [ErrReadOnly], and the
// connection is given up.
//
// Clusters that take writes on several servers, such as Galera and the multi-primary mode of group replication: let all
// programs use the same server. The locks for turns and the counter of revisions are those of one server, and reads on
// another one may be old. Replication needs binlog_format ROW or MIXED, because the server refuses READ COMMITTED with
// STATEMENT.
//
// # Errors of a commit
//
// [store.ErrUnknown] means that the request may have been sent and that no answer came: the connection was lost, or the
// context ended meanwhile. The procedure says that it is done right before it commits. An error of the server before
// that, a *mysql.MySQLError of the driver, means that nothing was changed: for example a full table (1114), a query
// that was ended (1317), or a server that is read-only ([ErrReadOnly]). An error after that leaves the outcome unknown,
// but for a rollback that the server names as such (1213, 3101). MariaDB ends a session without a word, so the outcome
// of a commit whose session is ended is unknown.
//
// # Cost
//
// A commit takes one round trip, even if it fails with [store.ErrConflict] or [store.ErrExists]; [store.Store.Get],
// Find, GetAll and each page of List and ByExpiry take one each. The first use of a procedure on a connection takes the
// server some milliseconds more, to read and translate it. [Open] lets the driver write arguments into the statements
// (interpolateParams). Without that, on a db of the caller's, each call takes two round trips.
//
// A turn ([store.Store.Turn]) takes one round trip, which waits in the server in the queue of the lock. It holds a
// connection until its commit. A commit without a turn waits in the same queue. If the process is killed, the server
// gives its locks on at once. If it is stopped, or its machine vanishes, the calls that wait end its session (KILL,
// which a user may do to its own sessions) after about 1.5 times [store.MaxTurn]; if they use other users, the server
// does so after a second of silence (wait_timeout), which is later than the contract of [store.Store] says. A call that
// waits for longer than 60 ms asks 16 times a second who has the lock, through another connection.
//
// [Store.Join] waits in the same queue as Turn, and takes one round trip, whether or not another turn's commit answers
// it; that commit answers in its own transaction, without another round trip. An ask is written and rolled back, so it
// costs no flush of the log. Withdrawing an ask takes one more commit. A Join that waits for more than five minutes
// without an answer or its turn fails with [store.ErrUnknown]. A turn is shown at most 64 asks, none older than five
// seconds.
//
// # Watch
//
// MySQL cannot notify. All waiting calls of Watch of one Store share a goroutine that asks for their revisions ten
// times a second, in one statement. The goroutine ends with the last of these calls, or with Close.
//
// # Limits and caveats
//
// A commit is one packet: with all that is written around the records it must not be larger than max_allowed_packet (by
// default 64 MiB in MySQL, 16 MiB in MariaDB), as it was when the store was opened. A quotation mark in the data takes
// four bytes of it, other characters one or two. Anything larger is refused with [store.ErrTooLarge], whose message has
// the size and the limit. Keys may be as long as the contract says. Times before the year 1000 are kept, although the
// servers' manuals do not promise that.
//
// The connections must be in autocommit mode and have the character set utf8mb4, as is the default of the driver.
// Poolers that share server sessions between clients, such as ProxySQL with multiplexing, must not do that for this
// package's user, because turns are locks of a session. All user-level locks of a session that this package has used
// are released at the end of each call (RELEASE_ALL_LOCKS).
//
// These rights are all that a user of the tables needs, also to end sessions of its own:
//
//	GRANT SELECT, INSERT, UPDATE, DELETE, EXECUTE ON ipalloc.* TO user
//
// To create them it also needs CREATE, DROP, INDEX, ALTER, CREATE VIEW, CREATE ROUTINE and ALTER ROUTINE. Statements
// that create tables take effect one by one in MySQL; if a process is killed amid them, the next one runs them all
// again.
//
// Tested with MariaDB 10.11. The SQL keeps to what MySQL 8.0 documents too, but none of it has been run on a MySQL
// server. To run the tests on one, set IPALLOC_MYSQL_DSN to a DSN of a user with all rights.
package mysql
