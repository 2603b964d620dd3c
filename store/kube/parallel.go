package kube

import (
	"context"
	"sync"
	"sync/atomic"
)

// inParallel calls do(0) to do(n-1), at most limit at once, and returns their errors. With one call it starts no
// goroutine.
func inParallel(limit, n int, do func(i int) error) []error {
	errs := make([]error, n)
	if n == 1 || limit == 1 {
		for i := range n {
			errs[i] = do(i)
		}
		return errs
	}
	var all sync.WaitGroup
	var next atomic.Int64
	for range min(limit, n) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				errs[i] = do(int(i))
			}
		})
	}
	all.Wait()
	return errs
}

// beside calls do(0) to do(n-1), and takes turns with side(0) to side(m-1), [Options.Parallel] at once. It returns the
// errors of do as soon as these are done. Calls of side that have begun by then go on in the background.
func (s *Store) beside(n int, do func(i int) error, m int, side func(ctx context.Context, i int)) []error {
	if s.tails.still {
		errs := inParallel(1, n, do)
		for i := range m {
			side(s.working, i)
		}
		return errs
	}
	w := &work{n: n, m: m, do: do, side: side, errs: make([]error, n), done: make(chan struct{})}
	w.left.Store(int64(n))
	helpers := min(s.options.Parallel, n+m) - min(n, 1)
	for h := range max(helpers, min(m, 1)) {
		if !s.tails.spawn(func() { w.help(s.working, h%2 == 0, h < helpers) }) {
			break
		}
	}
	for w.one() {
	}
	if n > 0 {
		<-w.done
	}
	return w.errs
}

// work is what beside shares out.
type work struct {
	n, m         int
	do           func(i int) error
	side         func(ctx context.Context, i int)
	errs         []error
	nextDo, next atomic.Int64  // of do and of side that nobody has begun yet
	left         atomic.Int64  // of do that are not done
	done         chan struct{} // closed when none is
}

// one makes the next call of do, and reports whether there was one.
func (w *work) one() bool {
	i := int(w.nextDo.Add(1)) - 1
	if i >= w.n {
		return false
	}
	w.errs[i] = w.do(i)
	if w.left.Add(-1) == 0 {
		close(w.done)
	}
	return true
}

// oneAside makes the next call of side, and reports whether there was one. There is none any more once do is done,
// unless there was nothing to do from the beginning.
func (w *work) oneAside(ctx context.Context) bool {
	if w.n > 0 && w.left.Load() == 0 {
		return false
	}
	i := int(w.next.Add(1)) - 1
	if i >= w.m {
		return false
	}
	w.side(ctx, i)
	return true
}

// help takes turns with both, or makes only calls of side.
func (w *work) help(ctx context.Context, aside, both bool) {
	for {
		made := aside && w.oneAside(ctx) || both && w.one() || w.oneAside(ctx)
		if !made {
			return
		}
		aside = !aside
	}
}
