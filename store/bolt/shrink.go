package bolt

// A file shrinks in place, by transactions that are small and change no record. Nothing is copied beside it and nothing
// replaces it, so whoever waits for the file, watches or reads goes on, and a crash leaves a file like any other.
//
//  1. A sweep walks through the trees. Where leaves that follow one another are loose it makes them unbalanced, and
//     bbolt joins them and splits what comes out. It rewrites what is beyond the goal, which is the size that the file
//     shall have. bbolt never writes a page in place, so each page moves to a free one. Those beyond the goal
//     become spare as soon as they are free (see demand), so no commit goes there again.
//  2. Pages at the end that are free are taken out of the metas: both of them, since bbolt uses the older one if the
//     newest is damaged. No reader has these pages: what is free to one transaction is in no other's sight.
//  3. The file is truncated to what the metas have.
//
// Nobody waits longer than for one of these transactions, which rewrites up to [stepLeaves] leaves and what leads to
// them, or for the two that take pages out of the metas. Between two steps the sweep rests. It goes through a tree by
// keys, not by pages, so a commit that comes in between does not matter. What a sweep misses, because others read or
// because it came to be behind it, is for the next one.
//
// bbolt joins a leaf that a deletion leaves with less than half of Bucket.FillPercent, since 1.5.0. Where a later bbolt
// does otherwise, loose leaves stay loose. TestShrinks fails then.

import (
	"cmp"
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"go.etcd.io/bbolt"
)

// pace says when a file is made smaller, and how fast.
type pace struct {
	least int64         // bytes that it must give back
	after time.Duration // how long the file must have been open, or it must be since it was looked at
	idle  int           // how many times as long as a step takes the sweep rests then
	slack uint64        // how many pages beyond what it needs a file keeps, and an eighth
	sleep func(time.Duration) <-chan time.Time
}

var usualPace = pace{least: 16 << 20, after: 10 * time.Second, idle: 9, slack: 128, sleep: time.After}

// now is the time of the machine: how long a step takes is no matter of the caller's clock.
func now() time.Time { return time.Now() } //nolint:forbidigo // see above

const (
	stepLeaves  = 32       // how many leaves a step rewrites at most
	mostSweeps  = 8        // for one goal each
	mostTries   = 100      // for a step
	leastGrowth = 32 << 20 // in bytes, or half of the file, before a sweep gives up
	mostSeen    = 256      // how many pages others may still see that were freed, lest a step makes the file larger
	samples     = 64       // of the leaves of a tree
	worthALook  = 64       // the part of a file that must have been deleted since it was looked at
)

// shrinking is the state of the one that makes the file smaller. Store.writing guards all but running.
type shrinking struct {
	pace
	opened  time.Time
	running sync.WaitGroup
	active  bool
	deleted int64  // bytes since the file was looked at
	below   uint64 // the goal in pages, anyPage if there is none
}

// anyPage is beyond all pages.
const anyPage = math.MaxUint64

// newShrinking returns the state for a file that was just opened. Whatever was deleted before may be worth a look.
func newShrinking() shrinking {
	return shrinking{pace: usualPace, opened: now(), deleted: math.MaxInt64 / 2, below: anyPage}
}

var (
	errBusy    = errors.New("others read an older state")
	errNothing = errors.New("there is nothing that helps")
	errStopped = errors.New("the store is being closed")
)

// considerShrinking begins to make the file smaller in the background, if that may be worth while after a commit that
// deleted so many bytes. The caller holds s.writing.
func (s *Store) considerShrinking(deleted int64) {
	h := &s.shrinking
	h.deleted += deleted
	if h.active || !s.isWorthALook() || now().Sub(h.opened) < h.after || runtime.GOOS == "windows" {
		return
	}
	h.active, h.deleted = true, 0
	h.running.Go(func() {
		for s.shrinkOnce() {
		}
	})
}

// isWorthALook reports whether so much was deleted that the file may be too large. The caller holds s.writing.
func (s *Store) isWorthALook() bool {
	size := s.file.size.Load()
	return size >= s.shrinking.least && s.shrinking.deleted >= size/worthALook
}

// shrinkOnce makes the file smaller if that is worth while, and reports whether to do so again, because much was
// deleted meanwhile.
func (s *Store) shrinkOnce() (again bool) {
	failed := s.shrink() // what is wrong with the file comes up in the next commit, too
	ended := s.wait(s.shrinking.after)
	s.writing.Lock()
	defer s.writing.Unlock()
	if failed != nil { // as it may again
		s.shrinking.deleted -= s.file.size.Load()
	}
	again = ended == nil && s.isWorthALook()
	s.shrinking.active = again
	if again {
		s.shrinking.deleted = 0
	}
	return again
}

// rest waits after a step that took so long.
func (s *Store) rest(took time.Duration) error { return s.wait(took * time.Duration(s.shrinking.idle)) }

// wait returns an error if the store is closed meanwhile, or cannot be used.
func (s *Store) wait(d time.Duration) error {
	select {
	case <-s.waiting.ended:
		return errStopped
	case <-s.shrinking.sleep(d):
		return s.file.state()
	}
}

// shrink makes the file smaller, if that is worth while.
func (s *Store) shrink() error {
	if err := s.rest(0); err != nil {
		return err
	}
	live, size, err := s.estimate()
	if err != nil || size < live*3/2 || (size-live*5/4)*s.pageSize < uint64(s.shrinking.least) {
		return err
	}
	return s.shrinkTo(live)
}

// shrinkTo makes the file smaller, so that it has little more than as many pages as are said to be in use. It returns
// an error if it cannot.
func (s *Store) shrinkTo(live uint64) (err error) {
	defer s.aim(anyPage)
	most := s.file.size.Load()
	most += max(most/2, leastGrowth)
	for range mostSweeps {
		goal := live + live/8 + s.shrinking.slack
		s.aim(goal)
		if live, err = s.sweep(most); err != nil {
			return err
		}
		size := goal
		err = s.unhurried(func() (err error) {
			size, err = s.cut()
			return err
		})
		if err != nil || size <= goal {
			return err
		}
	}
	return errNothing
}

// aim sets the goal of the sweeps.
func (s *Store) aim(goal uint64) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.shrinking.below = goal
}

// sweptBuckets are all that may have pages of their own. Values that take several pages in a row are in the first; they
// come before others fill the gaps.
var sweptBuckets = []string{
	bucketPieces, bucketRecords, bucketPrefixes, bucketLabels, bucketExpiry, bucketSpare,
}

// estimate returns about how many pages the file would have if all were full, and how many it has.
//
// Each sample goes down a tree by a random way. The number of pages that there would be if all had as many below them
// as those on the way estimates the size of the tree without bias (Knuth 1975). Each has a transaction of its own:
// while one is open, no page becomes free.
func (s *Store) estimate() (live, size uint64, err error) {
	bytes := 0.0
	for _, name := range allBuckets {
		for range samples {
			err := s.view(context.Background(), func(tx *bbolt.Tx) error {
				t, err := newPages(s.file.handle, tx).bucketTree(tx, name)
				if err != nil {
					return err
				}
				used, err := t.sample()
				bytes += used / samples
				return err
			})
			if err != nil {
				return 0, 0, err
			}
		}
	}
	return uint64(bytes)/s.pageSize + 1, uint64(s.file.size.Load()) / s.pageSize, nil
}

// sample estimates how many bytes the pages of the tree use.
func (t *tree) sample() (used float64, err error) {
	at := &subtree{number: t.root}
	weight := 1.0
	for range maxDepth {
		if at, err = t.load(at); err != nil {
			return 0, err
		}
		own := at.page.used
		if at.page.more > 0 {
			own = (1 + at.page.more) * t.pages.pageSize
		}
		used += weight * float64(own)
		n := len(at.page.elements)
		if at.page.kind == kindLeaf {
			return used, nil
		}
		weight *= float64(n)
		at = at.child(rand.IntN(n)) //nolint:gosec // no secret
	}
	return 0, t.tooDeep()
}

// sweep goes through all trees once. It returns how many pages they have then. It gives up if the file gets larger than
// most: what is beyond the goal is not used again before the sweep has ended.
func (s *Store) sweep(most int64) (live uint64, err error) {
	for _, name := range sweptBuckets {
		for key := []byte{}; key != nil; {
			var r run
			err := s.unhurried(func() (err error) {
				r, err = s.step(name, key)
				return err
			})
			if err != nil && !errors.Is(err, errNothing) { // which others may help with
				return 0, err
			}
			if s.file.size.Load() > most {
				return 0, errNothing
			}
			live, key = live+r.pages, r.next
		}
	}
	return live, nil
}

// unhurried does a step and then rests. It tries again while others read, and gives up without an error if they do so
// for long.
func (s *Store) unhurried(step func() error) error {
	for range mostTries {
		begun := now()
		err := step()
		if err != nil && !errors.Is(err, errBusy) && !errors.Is(err, errNothing) {
			return err
		}
		if rest := s.rest(now().Sub(begun)); rest != nil || !errors.Is(err, errBusy) {
			return cmp.Or(rest, err)
		}
	}
	return nil
}

// step rewrites the leaves of a bucket from key on that it is worth while to rewrite, some at most.
func (s *Store) step(name string, key []byte) (r run, err error) {
	err = s.view(context.Background(), func(tx *bbolt.Tx) error {
		r, err = newPages(s.file.handle, tx).run(tx, name, key, s.shrinking.below)
		return err
	})
	if err != nil || len(r.moved) == 0 {
		return r, err
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	err = s.transact(context.Background(), func(w writer) error {
		if r, err = w.pages.run(w.tx, name, key, w.below); err != nil {
			return err
		}
		free, err := w.spares()
		if err != nil {
			return err
		}
		if free.list.PendingCount() > mostSeen {
			return errBusy
		}
		d := demand{pages: len(w.pages.checked), span: r.span, below: w.below}
		if err := free.choose(d); err != nil {
			return err
		}
		if len(r.moved) == 0 || !r.packs && spanIn(free.below(d), r.span) < 0 {
			return errNothing
		}
		if err := r.rewrite(); err != nil {
			return err
		}
		return free.apply()
	})
	return r, err
}

// run are leaves that follow one another below one branch, of which a step rewrites some or all.
type run struct {
	in    *bucket
	moved []*subtree
	packs bool   // they become fewer
	span  int    // how many pages in a row one of them takes
	pages uint64 // that all have after the step, and the branches if this is the first run below them
	next  []byte // the key at which the next run begins, nil after the last
}

// run returns the leaves of a bucket from that on where key belongs, and decides which are rewritten.
func (p *pages) run(tx *bbolt.Tx, name string, key []byte, below uint64) (r run, err error) {
	if tx.Bucket([]byte(name)) == nil {
		return r, nil
	}
	if r.in, err = p.bucket(tx, name); err != nil || r.in.tree.root == 0 {
		return r, err
	}
	leaves, way, err := r.in.tree.leaves(key, stepLeaves)
	if err != nil || len(leaves[0].page.elements) == 0 {
		return r, err
	}
	var used, pages uint64
	for _, l := range leaves {
		used, pages = used+l.page.used, pages+1+l.page.more
		r.span = int(1 + l.page.more)
		if l.number+l.page.more >= below {
			r.moved = append(r.moved, l)
		}
	}
	full := (used + p.pageSize - 1) / p.pageSize
	if r.pages = pages; name != bucketSpare && r.span == 1 && full < pages && full*4 <= pages*3 {
		r.packs, r.moved, r.pages = true, leaves, full
	}
	for _, branch := range way {
		if branch.number+branch.page.more >= below && len(r.moved) == 0 {
			r.moved = leaves[:1] // and so the way to it
		}
	}
	if n := len(way); n > 0 && way[n-1].page.elements[0].child == leaves[0].number {
		r.pages += uint64(n)
	}
	r.next = leaves[len(leaves)-1].high
	return r, nil
}

// rewrite has bbolt write the leaves to other pages, and join them first if they are to become fewer.
func (r run) rewrite() error {
	if r.packs { // half of it in pages is more than all leaves have; bbolt splits at 1 at most
		r.in.in.FillPercent = 4 * stepLeaves
	}
	for _, leaf := range r.moved {
		key := leaf.page.elements[0].key
		if _, err := r.in.tree.path(key, true); err != nil {
			return err
		}
		value := r.in.in.Get(key)
		if r.packs {
			if err := r.in.in.Delete(key); err != nil {
				return err
			}
		}
		if err := r.in.in.Put(key, value); err != nil {
			return err
		}
	}
	return nil
}

// cut takes the free pages at the end out of the file. It returns how many pages the file has then.
func (s *Store) cut() (size uint64, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	empty := func(writer) error { return nil }
	for _, plan := range []func(w writer) error{cutPages, empty} { // the second one writes the older meta
		if err := s.transact(context.Background(), plan); err != nil {
			return 0, err
		}
	}
	for i := range int64(2) {
		m, ok := readMeta(s.file.handle, i*int64(s.pageSize))
		if !ok {
			return 0, errNothing
		}
		size = max(size, m.pages)
	}
	if size*s.pageSize >= uint64(s.file.size.Load()) {
		return size, nil
	}
	return size, s.file.truncate(int64(size * s.pageSize))
}

// spares returns the free pages of the file; errNothing if they are not known.
func (w writer) spares() (*spares, error) {
	free, err := w.pages.spares(w.tx)
	if err == nil && free == nil {
		err = errNothing
	}
	return free, err
}

func cutPages(w writer) error {
	free, err := w.spares()
	if err != nil {
		return err
	}
	return free.cut()
}
