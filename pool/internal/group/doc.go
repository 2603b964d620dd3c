// Package group lets concurrent calls share the work of one of them, as the leader of a write-ahead log does with
// commits. It knows nothing of that work.
//
// Calls wait in queues. A call that finds nobody leading its queue leads: it takes what waits there as one batch, and
// has a [Runner] run a round for it. When its own call is done it hands the lead to the call that waits longest. A call
// over several queues leads all of them at once. No goroutine is started, and a call that meets no other one makes no
// channel.
//
// # Why it is right
//
// A queue is led by at most one call. The lead is taken when the queue is not led, under the queue's lock, or it is
// given by the leader.
//
// No wake-up is lost. A call joins a queue only while that is led, and a leader gives up the lead only when the queue
// is empty, both under the queue's lock. So whenever calls wait, one leads, and it hands the lead on when its turn
// ends, however that ends: by success, by the end of its context, by a panic or by runtime.Goexit. A call gets one
// token for each wait: when it is given the lead, or leaves the queue after a round. Both happen under the queue's
// lock, by the leader, and take the call out of the queue, so there is never a second token. A call whose context ends
// looks at its state under the same lock. If it still waits, it takes itself out. If its token is on the way, it takes
// that; and if it was given the lead, it hands the lead on.
//
// Each call is in at most one batch at a time. A call waits in one queue at a time, and only the leader of that queue
// takes it. A leader takes only calls all of whose queues it leads. Such a call has none of these leads, so it still
// waits in its first queue: nothing that another call has waited for is taken from it. The members of a batch stay in
// their queues, marked, until the round is over, so a member that is not done keeps its place.
//
// No deadlock. All queues have places in one total order, and a call takes leads in this order. So a call that has
// leads waits only for a queue with a greater place than any of these. Of all calls that have leads, look at the one
// whose last lead has the greatest place: what it waits for, if it waits, is led by a call whose last lead is greater
// still, which cannot be. So some call runs rounds, and ends its turn if its rounds come to an end, which is the
// Runner's part.
//
// No starvation. A call joins its queue at the end, and each turn that ends takes the first call out. So a call leads
// its queue, or is done, after as many turns as calls were in front of it, also when each leader passes it over because
// there is no room for it in the batch, or because it is over other queues too.
package group
