package leases

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrQuota is returned for a client that holds as much as it may by other identities.
var ErrQuota = errors.New("quota")

// party is who a quota counts for: a hardware address, or the circuit of a relay.
type party struct {
	name  string
	limit int // 0 or less means none
}

// quota counts the identities with a lease of each party, as this server knows them. Memory: O(leases).
type quota struct {
	mu      sync.Mutex
	parties map[string]map[string]time.Time // by party and owner: when its lease ends
	added   int                             // since the last sweep
	held    int                             // at the last sweep
}

func newQuota() *quota { return &quota{parties: map[string]map[string]time.Time{}} }

// take counts an owner for the parties until a time, or returns ErrQuota. Undo takes back what it has added.
func (q *quota) take(parties []party, owner string, now, until time.Time) (undo func(), err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range parties {
		owners := q.parties[p.name]
		if _, known := owners[owner]; known || p.limit <= 0 || len(owners) < p.limit {
			continue
		}
		for o, end := range owners {
			if !end.After(now) {
				delete(owners, o)
			}
		}
		if len(owners) >= p.limit {
			return nil, fmt.Errorf("%w: %s has %d leases by other identities", ErrQuota, p.name, len(owners))
		}
	}
	var fresh []string
	for _, p := range parties {
		if q.add(p, owner, until) {
			fresh = append(fresh, p.name)
		}
	}
	q.sweep(now)
	return func() { q.forget(owner, fresh...) }, nil
}

// add reports whether the owner is a new one of the party.
func (q *quota) add(p party, owner string, until time.Time) bool {
	if p.limit <= 0 {
		return false
	}
	owners := q.parties[p.name]
	if owners == nil {
		owners = map[string]time.Time{}
		q.parties[p.name] = owners
	}
	end, known := owners[owner]
	if until.After(end) {
		owners[owner] = until
	}
	q.added++
	return !known
}

func (q *quota) forget(owner string, parties ...string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, p := range parties {
		delete(q.parties[p], owner)
		if len(q.parties[p]) == 0 {
			delete(q.parties, p)
		}
	}
}

// sweep forgets what has ended, so often that memory stays within a multiple of what is held.
func (q *quota) sweep(now time.Time) {
	if q.added < 2*q.held+1024 {
		return
	}
	q.added, q.held = 0, 0
	for name, owners := range q.parties {
		for owner, end := range owners {
			if !end.After(now) {
				delete(owners, owner)
			}
		}
		q.held += len(owners)
		if len(owners) == 0 {
			delete(q.parties, name)
		}
	}
}

// The labels of what clients hold. From the first two count knows the parties after a restart.
const (
	hardwareLabel = "hardware"
	circuitLabel  = "circuit"
	hostLabel     = "host"
)

// count counts what is held already.
func (l *Leases) count(ctx context.Context) error {
	now := l.clock()
	for _, n := range l.Networks {
		for _, s := range n.Sources() {
			for a, err := range s.Pool.Allocations(ctx) {
				if err != nil {
					return err
				}
				if a.Expired(now) {
					continue
				}
				for _, p := range l.parties(a.Labels) {
					l.quota.add(p, a.Owner, a.Expires)
				}
			}
		}
	}
	return nil
}

// parties are who the quotas count an allocation with these labels for.
func (l *Leases) parties(labels map[string]string) []party {
	var parties []party
	if name := labels[hardwareLabel]; name != "" {
		parties = append(parties, party{name: name, limit: l.config.Quota})
	}
	if name := labels[circuitLabel]; name != "" {
		parties = append(parties, party{name: "circuit " + name, limit: l.config.CircuitQuota})
	}
	return parties
}
