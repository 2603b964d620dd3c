// Package bolt keeps the records of package store in one file, with bbolt. It is the store for one machine: a
// CNI plugin, a DHCP server, a VM manager that needs neither a server nor a cluster.
//
// # Guarantees
//
// A commit is one bbolt transaction and is on the disk (fdatasync) when it returns; a crash of the process or
// of the machine at any moment leaves the file with each commit whole or absent, as far as the disk keeps
// what it acknowledged. Reads see every commit that returned before. Nothing but a commit changes the file.
//
// The file is created whole or not at all: beside its place, then linked into it. What cannot be opened as a
// store (see [ErrForeign], [ErrCorrupt], [store.ErrNewerFormat]) is reported and left as it is, to the byte. A file of
// length zero counts as damaged, not as new: that is what a failed copy leaves behind, and beginning anew
// would hand out every address a second time. Delete it to begin anew.
//
// # Caveats
//
// One process at a time. The file is locked (flock, or its like) as long as it is open. Another [Open], in
// this process or another, fails at once with [ErrLocked], or waits as long as [Options.LockWait] says. Short
// runs, as those of a CNI plugin, should set LockWait and close as soon as they are done. Within the process,
// share one *Store: it may be used by any number of goroutines.
//
// Local disks. Do not put the file on a network file system: locks and write order are not reliable there.
// The folder must allow hard links while the file is created.
//
// Size. The file does not shrink when records are deleted; the space is used again. It grows in powers of two
// up to 16 MiB, then by 16 MiB, and holds very roughly 500 bytes an allocation.
//
// Backup: copy the file while no process has it open.
//
// Time. A commit costs what the disk takes for two flushes, and commits run one after the other: put what
// belongs together, or waits together, in one commit, as package pool does.
//
// # Limits
//
// A commit takes any number of heads and records that memory holds; bbolt keeps what a transaction changes in
// memory until it is written. One record takes up to 2 GiB, see [store.ErrTooLarge].
//
// # Format
//
// Values are JSON, so that any tool which reads bbolt files shows them as text. The bucket "ipalloc" holds the
// name and the version of the format. The bucket "records" holds kind, pool and name, separated by NUL, and the
// record; its sequence number is the revision of the latest commit. The bucket "prefixes" is the index for
// Find: pool, NUL, '4' or '6', 128 minus the prefix length as one byte, the address, the name; the values are
// the prefixes as text. The bucket "expiry" is the index for ByExpiry: kind, NUL, pool, NUL, the
// microseconds since the year 1 as eight bytes, the name; the values are the times as text. A file of another version
// of the format is refused with [store.ErrNewerFormat].
package bolt
