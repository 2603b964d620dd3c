package kube

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

// A ticket is an object without a record with which a process stands in the line at a head. The order of the line is
// that in which the tickets were created. It guards nothing.

const (
	labelTurn  = Group + "/turn" // of tickets: for which head
	ticketKind = "x--ticket"     // as a label of the kind, which no kind of records has
)

func newTicket(id string, head ref, key store.Key) *object {
	return &object{
		ref: ref{resourceRecords, "ticket--" + strings.ToLower(id)},
		key: store.Key{Kind: "ticket", Pool: key.Pool, Name: id}, turn: head.String(),
	}
}

// queueUp waits until it is the turn of this process at the head, the next one of the turn's keys, unless it has it
// from the turn before.
func (t *turn) queueUp(ctx context.Context, key store.Key) error {
	s := t.store
	kept, old := s.lobby.pass(t, key, s.now())
	if kept {
		return nil
	}
	if old != nil {
		s.discard(old)
	}
	s.tails.inLine(refOf(key))
	ticket, begin := newTicket(s.newID(), refOf(key), key), s.now()
	made, err := s.api.Create(ctx, ticket)
	if err != nil {
		if errors.Is(err, errUnsure) {
			s.discard(ticket)
		}
		return err
	}
	if err := s.waitBehind(ctx, made, s.patience(s.now().Sub(begin))); err != nil {
		s.discard(made)
		return err
	}
	if old := s.lobby.place(t, key, made, s.now().Add(s.maxTurn/2)); old != nil {
		s.discard(old)
	}
	return nil
}

const (
	// patientRequests is for how many requests there is time in a turn in any case, where they take long: a commit takes
	// several, and on a busy server those of a live process would often be late otherwise.
	patientRequests = 20
	// patientTurns is how many times [store.MaxTurn] that may take: a request of a client that limits itself takes long
	// without the others' being slow.
	patientTurns = 20
)

// patience is how long a ticket may be the first, if a request takes so long at present.
func (s *Store) patience(request time.Duration) time.Duration {
	return max(s.maxTurn, min(patientRequests*request, patientTurns*s.maxTurn))
}

// queue is what a process that waits knows of the tickets before its own.
type queue struct {
	patience time.Duration // for the first one
	before   []*object     // the oldest first
	first    string        // uid of the first one
	since    time.Time     // when that was first seen to be the first
}

// see notes which tickets are before.
func (q *queue) see(before []*object, now time.Time) {
	q.before = before
	if len(before) > 0 && before[0].uid != q.first {
		q.first, q.since = before[0].uid, now
	}
}

// left returns for how long the first one may still be that, before whoever waits removes it: a turn, and a little
// more for each that is between. So mostly one of those who wait removes it, and not all of them at once.
func (q *queue) left(now time.Time) time.Duration {
	between := min(len(q.before)-1, mostBetween)
	return q.patience + q.patience*time.Duration(between)/mostBetween - now.Sub(q.since)
}

// mostBetween is for how many of those between one waits longer. All go on after twice a turn.
const mostBetween = 8

// waitBehind waits until no ticket is before mine. It removes the first one if that does not go for longer than is
// patient. While it waits it is told which tickets go, and asks nothing: if all who wait asked now and then, a server
// with many of them would be too busy with that to let turns be short.
func (s *Store) waitBehind(ctx context.Context, mine *object, patience time.Duration) error {
	q := queue{patience: patience}
	for {
		before, version, err := s.ticketsBefore(ctx, mine)
		if err != nil {
			return err
		}
		for q.see(before, s.now()); len(q.before) > 0 && q.left(s.now()) <= 0; {
			if err := unlessMoved(s.api.Remove(ctx, q.before[0])); err != nil {
				return err
			}
			q.see(q.before[1:], s.now())
		}
		if len(q.before) == 0 {
			return nil
		}
		if err := s.watchQueue(ctx, &q, ticketsOf(mine), version); err != nil || len(q.before) == 0 {
			return err
		}
	}
}

// watchQueue waits until no ticket is before, or the first one is that for too long. It may return early.
func (s *Store) watchQueue(ctx context.Context, q *queue, selector, version string) error {
	within, cancel := context.WithCancel(ctx)
	defer cancel()
	timer := time.AfterFunc(q.left(s.now()), cancel)
	defer timer.Stop()
	err := s.api.Gone(within, resourceRecords, selector, version, func(uid string) bool {
		q.see(slices.DeleteFunc(q.before, func(o *object) bool { return o.uid == uid }), s.now())
		timer.Reset(q.left(s.now()))
		return len(q.before) > 0
	})
	if within.Err() != nil {
		return ctx.Err()
	}
	return err
}

// ticketsBefore returns the tickets for the head of mine that are older, the oldest first, and the version of the list.
func (s *Store) ticketsBefore(ctx context.Context, mine *object) (before []*object, version string, err error) {
	tickets, version, err := s.tickets(ctx, ticketsOf(mine))
	if err != nil {
		return nil, "", err
	}
	own, err := versionNumber(mine.version)
	if err != nil {
		return nil, "", err
	}
	return slices.DeleteFunc(tickets, func(o *object) bool {
		n, err := versionNumber(o.version)
		return err != nil || n >= own || o.turn != mine.turn
	}), version, nil
}

// ticketsOf selects the tickets for the head of one.
func ticketsOf(ticket *object) string { return labelTurn + "=" + labelValue(ticket.turn) }

// tickets returns the tickets that a label selector finds, the oldest first, and the version of the list's first page:
// what has gone since then may still be in it.
func (s *Store) tickets(ctx context.Context, selector string) (found []*object, version string, err error) {
	token := ""
	for {
		p, err := s.api.List(ctx, resourceRecords, selector, token)
		if err != nil {
			return nil, "", err
		}
		for _, o := range p.objects {
			if o.turn != "" {
				found = append(found, o)
			}
		}
		version = cmp.Or(version, p.version)
		if token = p.token; token == "" {
			break
		}
	}
	slices.SortStableFunc(found, func(a, b *object) int { // of numbers without leading zeros
		return cmp.Or(cmp.Compare(len(a.version), len(b.version)), cmp.Compare(a.version, b.version))
	})
	return found, version, nil
}

// discard removes a ticket, without letting the caller wait.
func (s *Store) discard(ticket *object) {
	do := func() {
		ctx, cancel := context.WithTimeout(context.Background(), cleanUpTime)
		defer cancel()
		s.removeTicket(ctx, ticket)
	}
	if s.tails.still || !s.tails.spawn(do) {
		do()
	}
}

// removeTicket removes a ticket, of which the version is not known if its create was not answered. What fails stays for
// those who wait behind it, or for Sweep.
func (s *Store) removeTicket(ctx context.Context, ticket *object) {
	if ticket.version == "" {
		found, err := s.api.Get(ctx, ticket.ref)
		if err != nil {
			return
		}
		ticket = found
	}
	for range tidyAttempts {
		if err := s.api.Remove(ctx, ticket); unlessMoved(err) == nil || s.pause(ctx, lastPause) != nil {
			return
		}
	}
}

// sweepTickets removes the tickets of processes that have ended, and returns how many. If anybody waited behind the
// first ticket of a head, that would be gone after a turn's longest time; so if it is not, nobody waits.
func (s *Store) sweepTickets(ctx context.Context) (removed int, err error) {
	selector := labelKind + "=" + ticketKind
	before, _, err := s.tickets(ctx, selector)
	if err != nil || len(before) == 0 {
		return 0, err
	}
	if err := s.pause(ctx, s.maxTurn*5/2); err != nil {
		return 0, err
	}
	after, _, err := s.tickets(ctx, selector)
	if err != nil {
		return 0, err
	}
	firstBefore, firstAfter := firstTickets(before), firstTickets(after)
	for _, ticket := range before {
		if firstBefore[ticket.turn] != firstAfter[ticket.turn] {
			continue
		}
		err := s.api.Remove(ctx, ticket)
		if unlessMoved(err) != nil {
			return removed, err
		}
		if err == nil {
			removed++
		}
	}
	return removed, nil
}

// firstTickets returns the uid of the first ticket of each head.
func firstTickets(tickets []*object) map[string]string {
	first := make(map[string]string)
	for _, ticket := range tickets {
		if first[ticket.turn] == "" {
			first[ticket.turn] = ticket.uid
		}
	}
	return first
}
