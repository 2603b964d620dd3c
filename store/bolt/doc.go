// Package bolt is a [store.Store] in one file, with bbolt. It is for a single machine: for a CNI plugin, a DHCP server
// or a VM manager that needs neither a server nor a cluster.
//
// # Guarantees
//
// A commit is one bbolt transaction, and is on the disk (fdatasync) when it returns. After a crash of the process or
// the machine each commit is either whole or absent, provided that the disk keeps what it acknowledged. Reads see every
// commit that returned before. Only commits change the file, and what makes it smaller (see Size).
//
// The file is created whole or not at all: under another name in the same folder, then linked to its path. A file that
// cannot be opened as a store (see [ErrForeign], [ErrCorrupt], [store.ErrNewerFormat]) is not changed. An empty file
// counts as damaged, not as new: a failed copy leaves one behind, and a new store in its place would hand out every
// address a second time. Delete the file to start a new store.
//
// # Caveats
//
// One process at a time. The file is locked (with flock or the like) as long as it is open. Another [Open], in this
// process or another, fails at once with [ErrLocked], or waits for up to [Options.LockWait]. Programs that run briefly,
// such as a CNI plugin, should set LockWait and close the store as soon as they are done. Within a process, share one
// *Store among all goroutines.
//
// Local disks. Do not put the file on a network file system: locks and write order are not reliable there.
// The folder must allow hard links while the file is created.
//
// Size. The space of deleted records is used again. The file grows in powers of two up to 16 MiB, then by 16 MiB at a
// time. An allocation takes about 250 bytes if the owners' names come in order, as numbers and times do, and up to 450
// if they come in any order; and each of its labels twice its own size, and the sizes of the pool's and the owner's
// names.
//
// The file shrinks in place, except on Windows, if it is more than one and a half times as large as its contents need,
// and at least 16 MiB can be won. A commit starts a goroutine for that, never within ten seconds after [Open], so that
// programs that run briefly do not pay for it. It ends some seconds after there is nothing left to do, and
// [Store.Close] ends it at once. It rewrites what is loose or at the end of the file in transactions of about 40
// pages, each with two flushes as a commit has. Nobody waits longer than for one of them, or for two and a truncation
// when the file becomes smaller. It rests nine tenths of the time, so that a file of a million allocations takes
// minutes. It needs no rights in the folder. At first the file grows, by a
// third where many commit meanwhile. If it gets half as large again (or 32 MiB larger, if that is more), or something
// fails, it is left as it is. Nobody gets an error then, and it is tried again after as much was deleted as the file
// is large.
//
// Backup: copy the file while no process has it open.
//
// Time. A commit takes two flushes of the disk, and commits run one after the other. So put changes that belong
// together, or wait at the same time, in one commit, as package pool does.
//
// # Limits
//
// A commit takes as many heads and records as fit in memory, since bbolt keeps the changes of a transaction there until
// it writes them. A record must be smaller than 2 GiB; see [store.ErrTooLarge].
//
// # Format
//
// Values are JSON, so any tool that reads bbolt files shows them as text. The bucket "ipalloc" has the name and the
// version of the format. The bucket "records" has the records; a key is the kind, pool and name, separated by NUL. The
// sequence number of this bucket is the revision of the latest commit. The bucket "pieces" has those of kind "space"
// in the same way, and "spare" the numbers of most of the file's free pages, if there are many. The bucket "prefixes"
// is the index for Find: a key is the pool, NUL, '4' or '6', 128 minus the prefix length as one byte, the address, and
// the name; the value is the prefix as text. The bucket "expiry" is the index for ByExpiry: a key is the kind, NUL,
// the pool, NUL, the microseconds since the year 1 as eight bytes, and the name; the value is the time as text. The
// bucket "labels" is the index for ByLabel: a key is the kind, the pool, the name and the value of the label, and the
// name of the allocation, separated by NUL; the value is empty. A file of another version of the format is refused
// with [store.ErrNewerFormat].
package bolt
