// Package sqlite is a [store.Store] in one SQLite file, which any number of processes on one machine use at once. It is
// for CNI plugins and for hosts with several daemons that need neither a server nor a cluster.
//
// # Guarantees
//
// A commit is one SQLite transaction, and is on the disk (fsync of the log) when it returns. After a crash of a process
// or of the machine each commit is either whole or absent, provided that the disk keeps what it acknowledged. Reads see
// every commit that returned before, in any process. They never wait for a commit, and a commit never waits for them.
//
// Commits, of all processes, run one after the other, in the order in which they were called. They wait in one line
// with turns ([store.Store.Turn]). A process that is killed is passed over within milliseconds, and one that is stopped
// in its turn after [store.MaxTurn]. Only a process that is stopped in the fraction of a millisecond in which it writes
// keeps the other ones from writing until it goes on or dies. On systems other than Linux, the order is that of the
// callers of one Store; processes find the file locked by one another, and try again.
//
// The file is created whole or not at all: under another name in the same folder, then linked to its path. A file that
// cannot be opened as a store (see [ErrForeign], [ErrCorrupt], [store.ErrNewerFormat]) is not changed. An empty file
// counts as damaged, not as new: a failed copy leaves one behind, and a new store in its place would hand out every
// address a second time. Delete the file to start a new store.
//
// # Files
//
// Beside the file, say ipalloc.db, there are three more, with the same mode and owner: ipalloc.db-wal is the log, to
// which SQLite writes commits before it moves them into the file; ipalloc.db-shm is the index of the log;
// ipalloc.db-line orders those who wait. The log has commits that are not in the file yet, so it must stay with the
// file. All of them may be deleted together when no process has the file open. To make a backup at any time:
//
//	sqlite3 ipalloc.db "VACUUM INTO 'backup.db'"
//
// # Tables
//
//   - record: all records, with the columns kind, pool, name, revision, state, prefixes (a JSON array), labels (a JSON
//     object), created, expires and data (JSON). Of kind pool are the pools: name is empty, and data has the
//     specification and the counts. Of kind allocation is what owners hold (state allocated), and what was released and
//     cools down (state cooling); name is the owner. What several owners share is one record with the prefixes (state
//     shared), whose data lists them, and one of each owner without. Of kind cooling is what cools down while its last
//     owner holds something else.
//   - address: one row for each prefix of an allocation, with its family (4 or 6), and its first and last address in
//     texts that sort, as 010.000.000.007 does, or 2001:0db8:0000:0000:0000:0000:0000:0001.
//   - label: one row for each label of an allocation or of a past tenure (kind history), with its kind and pool, the
//     name and the value of the label (columns label and value), and the record's name, of an allocation the owner.
//     Only what has labels has rows here.
//   - holding: a view that adds state, labels and times from record to address.
//   - tenure: a view of what was held (records of kind history), of pools whose specs ask for it, and of what is held
//     now: pool, owner, prefixes, began, ended and how (both null for what goes on), labels.
//   - latest: the revision of the latest commit.
//
// Times are in UTC, as 2024-05-06T07:08:09.012345Z. There are indexes by key, owner, address, label and expiry. The
// application_id of the file is 0x69706131, and its user_version is the version of the format.
//
// # Queries
//
// Who holds 10.0.0.7, the longest prefix first:
//
//	SELECT pool, owner, prefix, state, expires FROM holding
//	WHERE first <= '010.000.000.007' AND last >= '010.000.000.007' AND family = 4 ORDER BY first DESC
//
// What is held, in the order of the addresses:
//
//	SELECT prefix, pool, owner FROM holding WHERE pool = 'lab' ORDER BY family, first
//
// What an owner holds:
//
//	SELECT pool, prefixes, state, created FROM record WHERE kind = 'allocation' AND pool = 'lab' AND name = 'vm-1'
//
// What has the label node=n1:
//
//	SELECT h.owner, h.prefix FROM label l JOIN holding h ON h.pool = l.pool AND h.owner = l.name
//	WHERE l.kind = 'allocation' AND l.pool = 'lab' AND l.label = 'node' AND l.value = 'n1'
//	AND h.state = 'allocated'
//
// How many addresses each pool has, and how many of them are free:
//
//	SELECT pool, s.value->>'family', s.value->>'total', s.value->>'used', s.value->>'free'
//	FROM record, json_each(data, '$.spaces') s WHERE kind = 'pool'
//
// What expires within the next hour:
//
//	SELECT pool, owner, prefix, expires FROM holding
//	WHERE state = 'allocated' AND expires < strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+1 hour') ORDER BY family
//
// What cools down, and until when:
//
//	SELECT pool, prefix, expires FROM holding WHERE state = 'cooling' ORDER BY expires, family
//
// Who had 10.0.0.4 by itself yesterday at noon, in any pool that has a history; this reads all of it:
//
//	SELECT t.pool, owner, began, ended, how FROM tenure t, json_each(prefixes) p WHERE p.value = '10.0.0.4/32'
//	AND began <= strftime('%Y-%m-%dT%H:%M:%SZ', 'now', 'start of day', '-12 hours')
//	AND coalesce(ended > strftime('%Y-%m-%dT%H:%M:%SZ', 'now', 'start of day', '-12 hours'), 1)
//
// The sqlite3 program may read at any time (-readonly keeps it from more). To change anything, use package pool. A
// transaction that a person leaves open keeps all processes from writing.
//
// # Caveats
//
// Local disks. Do not put the file on a network file system: locks and shared memory do not work there.
// The folder must allow hard links while the file is created.
//
// Size. An allocation takes roughly 700 bytes. What deleted records took is used again; if it is a quarter of the file
// or more, each commit gives 16 pages of 4 KiB back to the system. The log grows to 4 MiB, and above that only while
// somebody reads a long time.
//
// Watch. SQLite does not notify other processes, so a Store with waiting calls of Watch reads its change counter every
// 10 ms; that takes some tenths of a percent of a core, however many calls wait.
//
// # Limits
//
// A commit takes as many heads and records as there is room for on the disk. A record has at most 10^9 bytes; see
// [store.ErrTooLarge].
//
// # The SQLite in it
//
// The package uses modernc.org/sqlite, a translation of SQLite to Go, without cgo. The other one that is kept,
// github.com/ncruces/go-sqlite3, compiles the program to WebAssembly at each start in the versions that were compared,
// which took each process 1.9 s.
package sqlite
