// Package space keeps which addresses of a pool are free, by which rules one is chosen, and how the record of the
// pool's head has that. It is the pure part of a pool: it knows no store, no owner, no clock and no context.
//
// s, err := space.New(rules, random) start := s.Mark() p, err := s.Take(&space.Want{Family: space.V4, Bits: 32})
// s.Rollback(start)                        // as if it had not been taken head, writes, err := s.Encode(revision)  //
// for one commit, and after it: s.Committed(head)
//
// # Transactions
//
// A space is always in one transaction: what was done since the last Committed, Load or Keep. Each prefix that
// becomes free or taken is an entry of a journal, and each change of the tallies (counts, counters, cursors) leaves
// what it changed as that was before. Undoing the entries from the last one back meets, at each, the very state that
// the entry left. So it cannot fail, and ends at exactly the state of the mark. A mark is a few lengths, and costs
// nothing.
//
// # The head and its pieces
//
// A head must stay small, however fragmented the free space is, because every commit writes it. While the encoding of
// a family's free space is small it stands in the head, as one piece. A larger one is cut into pieces, each in a
// record of its own, and the head says where each of them starts, and has the changes since it was written. When the
// changes come to too many bytes, the piece with the most of them is replaced by new ones, in the same commit.
//
// Why a reader has what was committed:
//
//   - A head says which pieces there are, and pieces cover each address of the family once; [Head.Check] proves it.
//   - The record of a piece is created and deleted, never changed, and its ID is never used again: it has the number
//     of the revision that its commit replaced, and of all commits that replace one revision a single one succeeds.
//   - The records that a head names were created in its commit or before, and are deleted by the commit that no
//     longer names them. So whoever reads a head and then its records finds either all of them as they were, or one
//     missing: then there is a newer head to read.
//   - What a piece has is its encoding with its changes applied in order. They are the entries of the journal, each
//     in the piece that it falls into, or cut where it falls into several; an address is in one piece, so the order
//     between pieces does not matter.
//   - A reader that lags behind skips the encoding of a piece that it has loaded with the same ID and range, and
//     those changes of it that it knows. It does so only if the new changes start with all of those, because a head
//     that is not the successor of the reader's (a backup that was restored) may have others. Then it starts from the
//     record.
//
// What a commit writes is so bounded: the changes by 8 KiB, and a piece of at most 512 KiB once in as many bytes of
// changes as have collected by then.
//
// What is done outside of the journal, by [Space.Hold], [Space.TakeOver] and [Space.Keep], makes the next Encode
// write everything.
package space
