// Package journal keeps what the clients of shared pools asked for and were told, and checks it afterwards.
//
// Each process writes a file of its own (see [Create]): a line before each call, with what it asks for, and a line
// after it, with the answer. A line is on the disk before the call goes on, so that a process can be killed at any
// moment. [ReadAll] reads the files, and [Check] compares what the clients were told with what the store holds in the
// end (see [State]). Package journal does not know package pool, and takes nothing from it: it is an independent
// witness.
//
// # Time
//
// Events have the stamps of one [Clock], which all processes share: a later stamp was taken later. A call takes
// effect at one moment between its two stamps. So what an owner was granted it holds for sure from the return of the
// call until the next call begins that could take it away, and this is all that the checker builds on; what may have
// been in between it leaves open.
//
// # What a call may do
//
// The [Outcome] of a call says whether it took effect:
//
//   - [Done]: it did, between its two stamps.
//   - [Nothing], [NoPool] and [Failed]: it did not, and never does.
//   - [Unknown], and a call without a return, of a process that was killed: it did, did not, or will. A commit that
//     is under way can arrive late, but not after another commit to the same pool: the next release there that began
//     later and was done is the fence after which it does nothing.
//
// # Places
//
// A place is where an owner holds one thing at a time: a pool, or all the blocks of one writer together. What a place
// is made of another one grants it: a holding with a Child delegates its addresses to that place, in which others
// then hold them.
package journal
