package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipalloc/ipalloc/store"
)

func expiryCases() []testCase {
	return []testCase{
		{"expiry/order", expiryOrder},
		{"expiry/after changes", expiryChanges},
		{"expiry/pools and kinds apart", expiryApart},
		{"expiry/early stop and again", expiryStop},
		{"expiry/deletes in the body", expiryDeletes},
		{"expiry/renewals in the body", expiryRenewals},
		{"expiry/errors come last", expiryErrors},
		{"expiry/invalid pool", expiryInvalid},
	}
}

// expiring returns a claim of pool a that expires then.
func expiring(name string, expires time.Time) store.Record {
	r := claim("a", name)
	r.Expires = expires
	return r
}

// expirySecond is the i-th second of some hour.
func expirySecond(i int) time.Time { return time.Date(2024, 5, 6, 7, 0, i, 0, time.UTC) }

// byExpiry returns what ByExpiry yields, and checks that it is in order.
func (s *subject) byExpiry(kind store.Kind, pool string) []store.Record {
	s.Helper()
	var all []store.Record
	for r, err := range s.s.ByExpiry(s.ctx, kind, pool) {
		s.check(err == nil, ruleExpiry, "ByExpiry failed: %v", err)
		s.check(r.Kind == kind && r.Pool == pool, ruleExpiry, "ByExpiry of kind %q, pool %q yielded %v", kind, pool, r.Key)
		s.check(!r.Expires.IsZero(), ruleExpiry, "ByExpiry yielded %v, which does not expire", r.Key)
		if n := len(all); n > 0 {
			s.check(!r.Expires.Before(all[n-1].Expires), ruleExpiry,
				"ByExpiry yielded %v, which expires at %v, after %v, which expires at %v",
				r.Key, r.Expires, all[n-1].Key, all[n-1].Expires)
		}
		all = append(all, r)
	}
	return all
}

// expires checks that ByExpiry of the claims of pool a yields just want, in whatever order if the times are equal.
func (s *subject) expires(want ...store.Record) {
	s.Helper()
	got := s.byExpiry(store.KindAllocation, "a")
	s.check(len(got) == len(want), ruleExpiry, "ByExpiry yielded %d records, want %d", len(got), len(want))
	for _, w := range want {
		i := slices.IndexFunc(got, func(r store.Record) bool { return r.Key == w.Key })
		s.check(i >= 0, ruleExpiry, "ByExpiry did not yield %v", w.Key)
		s.same(ruleExpiry, "the record that ByExpiry yielded", got[i], w)
	}
}

func expiryOrder(s *subject) {
	s.expires()
	times := []time.Time{
		time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC),
		time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(1970, 1, 1, 0, 0, 0, 1000, time.UTC), time.Date(900, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(2024, 5, 6, 9, 0, 0, 0, time.FixedZone("east", 7200)), // 7:00 in UTC
		expirySecond(1), expirySecond(2).Add(time.Microsecond), expirySecond(2), expirySecond(2), expirySecond(10),
	}
	writes := []store.Write{create(claim("a", "never"))}
	var want []store.Record
	for i, at := range times {
		r := apart(fullRecord(claimKey("a", fmt.Sprint(len(times)-i))), i)
		r.Expires = at
		want = append(want, r)
		writes = append(writes, create(r))
	}
	head := s.commit(newHead("a"), writes...)
	for i := range want {
		want[i].Revision = head.Revision
	}
	s.expires(want...)

	var many []store.Write
	for i := range 300 {
		r := expiring(fmt.Sprint("many ", i), expirySecond(i*7%300))
		many = append(many, create(r))
		want = append(want, r)
	}
	for part := range slices.Chunk(many, 100) {
		head = s.commit(head, part...)
		for i := range want {
			if want[i].Revision == 0 &&
				slices.ContainsFunc(part, func(w store.Write) bool { return w.Record.Key == want[i].Key }) {
				want[i].Revision = head.Revision
			}
		}
	}
	s.expires(want...)
}

func expiryChanges(s *subject) {
	x, y := expiring("x", expirySecond(1)), expiring("y", expirySecond(2))
	head := s.commit(newHead("a"), create(x), create(y))
	first := head.Revision
	s.expires(at(x, first), at(y, first))
	x.Expires = expirySecond(3) // renewed
	head = s.commit(head, put(x))
	s.expires(at(y, first), at(x, head.Revision))
	x.State = "changed" // without another time
	head = s.commit(head, put(x))
	s.expires(at(y, first), at(x, head.Revision))
	x.Expires = time.Time{} // for ever
	head = s.commit(head, put(x))
	s.expires(at(y, first))
	x.Expires = expirySecond(0)
	head = s.commit(head, put(x))
	second := head.Revision
	s.expires(at(x, second), at(y, first))
	head = s.commit(head, remove(y.Key))
	s.expires(at(x, second))
	head = s.commit(head, create(y))
	s.expires(at(x, second), at(y, head.Revision))
	s.refused(ruleConflict, store.ErrConflict, newHead("a"), remove(x.Key), put(expiring("y", expirySecond(9))))
	s.refused(ruleExists, store.ErrExists, head, create(x), put(expiring("y", expirySecond(9))))
	s.expires(at(x, second), at(y, head.Revision))
	s.reopen()
	s.expires(at(x, second), at(y, head.Revision))
	head, _ = s.get(headKey("a"))
	s.commit(head, remove(x.Key), remove(y.Key))
	s.expires()
}

func expiryApart(s *subject) {
	head := newHead("a")
	head.Expires = expirySecond(1)
	var writes []store.Write
	keys := []store.Key{
		claimKey("a", "x"), claimKey("ab", "x"), claimKey("b", "a"), claimKey("A", "x"), claimKey("a/b", "x"),
		claimKey(`a"`, "x"),
		{Kind: store.KindCooling, Pool: "a", Name: "x"}, {Kind: "unknown kind", Pool: "a", Name: "x"},
		{Kind: "allocation2", Pool: "a", Name: "x"},
	}
	for i, key := range keys {
		writes = append(writes, create(store.Record{Key: key, Expires: expirySecond(i)}))
	}
	head = s.commit(head, writes...)
	for i, key := range keys {
		got := s.byExpiry(key.Kind, key.Pool)
		s.check(len(got) == 1, ruleExpiry, "ByExpiry of kind %q, pool %q yielded %d records, want 1",
			key.Kind, key.Pool, len(got))
		s.same(ruleExpiry, "the record that ByExpiry yielded", got[0], at(writes[i].Record, head.Revision))
	}
	heads := s.byExpiry(store.KindPool, "a")
	s.check(len(heads) == 1, ruleExpiry, "ByExpiry yielded %d heads, want 1", len(heads))
	s.same(ruleExpiry, "the head that ByExpiry yielded", heads[0], head)
	s.check(len(s.byExpiry(store.KindAllocation, "none")) == 0, ruleExpiry,
		"ByExpiry of a pool that does not exist yielded records")
}

// leases creates n claims of pool a that expire one after the other, and returns the head and the claims as they are
// stored.
func (s *subject) leases(n int) (head store.Record, leases []store.Record) {
	s.Helper()
	head = newHead("a")
	for i := range n {
		leases = append(leases, expiring(fmt.Sprintf("lease %03d", i*37%n), expirySecond(i)))
	}
	for part := range slices.Chunk(leases, 100) {
		writes := make([]store.Write, len(part))
		for i := range part {
			writes[i] = create(part[i])
		}
		head = s.commit(head, writes...)
		for i := range part {
			part[i].Revision = head.Revision
		}
	}
	return head, leases
}

func expiryStop(s *subject) {
	_, leases := s.leases(40)
	all := s.s.ByExpiry(s.ctx, store.KindAllocation, "a")
	for n := range 4 {
		taken := 0
		s.within(ruleListBody, func() error {
			for r, err := range all {
				if err != nil || r.Key != leases[taken].Key {
					return fmt.Errorf("record %d is %v, want %v; error %w", taken, r.Key, leases[taken].Key, err)
				}
				if taken++; taken > n {
					break
				}
			}
			return nil
		})
		s.check(taken == n+1, ruleListBody, "a loop over ByExpiry took %d records, want %d", taken, n+1)
	}
	head, _ := s.get(headKey("a"))
	s.commit(head)
}

// expiryDeletes deletes what has expired, as a pool does.
func expiryDeletes(s *subject) {
	head, leases := s.leases(150)
	n := 0
	s.within(ruleListBody, func() (err error) {
		for r, listErr := range s.s.ByExpiry(s.ctx, store.KindAllocation, "a") {
			if listErr != nil || n == len(leases) || r.Key != leases[n].Key {
				return fmt.Errorf("record %d is %v; error %w", n, r.Key, listErr)
			}
			n++
			if head, err = CommitOne(s.ctx, s.s, head, remove(r.Key),
				create(claim("a", fmt.Sprint("new ", n)))); err != nil {
				return err
			}
		}
		return nil
	})
	s.check(n == len(leases), ruleExpiryFresh, "a loop over ByExpiry took %d records, want %d", n, len(leases))
	s.expires()
}

// expiryRenewals renews every third record when the loop is at the one before it. The others must come up once, and
// these at most once.
func expiryRenewals(s *subject) {
	head, leases := s.leases(150)
	times := make(map[string]int)
	s.within(ruleListBody, func() (err error) {
		n := 0
		for r, listErr := range s.s.ByExpiry(s.ctx, store.KindAllocation, "a") {
			if listErr != nil {
				return listErr
			}
			times[r.Name]++
			if n++; n%3 == 0 && n > 3 && n < len(leases) {
				early, late := leases[n-3], leases[n]
				early.Expires, late.Expires = expirySecond(500+n), expirySecond(600+n)
				if head, err = CommitOne(s.ctx, s.s, head, put(early), put(late)); err != nil {
					return err
				}
			}
			if n > 10*len(leases) {
				break
			}
		}
		return nil
	})
	for i, r := range leases {
		s.check(times[r.Name] <= 1, ruleExpiryFresh, "%v came up %d times", r.Key, times[r.Name])
		s.check(times[r.Name] == 1 || i%3 == 0, ruleExpiryFresh, "%v did not come up", r.Key)
	}
}

func expiryErrors(s *subject) {
	s.leases(150)
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	n, failed := 0, false
	for _, err := range s.s.ByExpiry(ctx, store.KindAllocation, "a") {
		s.check(!failed, ruleListError, "ByExpiry went on after an error")
		if err != nil {
			failed = true
			continue
		}
		if n++; n == 10 {
			cancel()
		}
	}
	s.check(failed || n == 150, ruleListError, "ByExpiry ended after %d records without an error, want 150", n)
}

func expiryInvalid(s *subject) {
	for _, key := range invalidKeys() {
		if (store.Key{Kind: key.Kind, Pool: key.Pool}).Validate() == nil {
			continue
		}
		n := 0
		for _, err := range s.s.ByExpiry(s.ctx, key.Kind, key.Pool) {
			s.check(errors.Is(err, store.ErrInvalid), ruleInvalidKey, "ByExpiry of kind %.40q, pool %.40q yielded the error %v",
				key.Kind, key.Pool, err)
			n++
		}
		s.check(n == 1, ruleInvalidKey, "ByExpiry of kind %.40q, pool %.40q yielded %d times, want one error",
			key.Kind, key.Pool, n)
	}
}
