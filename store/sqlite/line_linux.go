package sqlite

import (
	"context"
	"errors"
	"math"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/ipalloc/ipalloc/store"
)

// lineFile is what all processes that have the file open share, in a file of its own beside it.
type lineFile struct {
	next    atomic.Uint64 // the next ticket
	serving atomic.Uint64 // the ticket that has its turn
	signal  atomic.Uint32 // the lower half of serving: what those who wait sleep on
}

// lineBytes is the size of that file.
const lineBytes = 64

// line orders the callers of all processes. Each draws a ticket, and the tickets are served one after the other.
//
// The caller who has drawn ticket n holds a lock on byte n of the file, which the kernel releases when the process
// dies. So everybody can tell who is still there. Whoever ends a turn serves the next ticket that is locked. Those who
// wait serve the next one if the turn has lasted too long, or if its lock is gone.
//
// The line is a courtesy: no caller relies on being alone. If the file is damaged or cannot be locked, callers go on
// without an order.
type line struct {
	file   *os.File
	memory []byte
	shared *lineFile

	mu    sync.Mutex
	mine  map[uint64]struct{} // tickets of this line; the kernel does not show a file its own locks
	users int                 // calls that use the memory, and turns
	done  bool                // closed; the memory goes with the last user
}

// openLine opens the line in the file at path, which it creates with the mode if there is none.
func openLine(path string, info os.FileInfo) (*line, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, info.Mode().Perm())
	switch {
	case err == nil:
		err = sameRights(f, info)
	case errors.Is(err, os.ErrExist):
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := grow(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	memory, err := unix.Mmap(int(f.Fd()), 0, lineBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	shared := (*lineFile)(unsafe.Pointer(unsafe.SliceData(memory)))
	return &line{file: f, memory: memory, shared: shared, mine: make(map[uint64]struct{})}, nil
}

// grow gives a new file its size.
func grow(f *os.File) error {
	info, err := f.Stat()
	if err != nil || info.Size() >= lineBytes {
		return err
	}
	return f.Truncate(lineBytes)
}

// sameRights gives the file the mode of the other one, whatever the umask, and its owner if this process may.
func sameRights(f *os.File, info os.FileInfo) error {
	if owner, ok := info.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return f.Chmod(info.Mode().Perm())
}

// wait returns when the caller has its turn, with what ends that. Errors: [store.ErrClosed]; the context's.
func (l *line) wait(ctx context.Context) (end func(), err error) {
	if !l.use() {
		return nil, store.ErrClosed
	}
	var n uint64
	served := false
	unlessCutOff(func() { n, served, err = l.join(ctx) })
	if !served {
		l.release()
		return func() {}, errors.Join(err, ctx.Err())
	}
	return sync.OnceFunc(func() {
		unlessCutOff(func() { l.leave(n) })
		l.release()
	}), nil
}

// unlessCutOff runs do, which ends halfway if the file has been cut off, so that its memory is not there.
func unlessCutOff(do func()) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if fault := recover(); fault != nil {
			if _, ok := fault.(interface{ Addr() uintptr }); !ok {
				panic(fault) //nolint:forbidigo // it is not about the memory
			}
		}
	}()
	do()
}

// join draws tickets until one is served, and returns that. It returns none if there can be no order.
func (l *line) join(ctx context.Context) (n uint64, served bool, err error) {
	for {
		n, drawn := l.draw(ctx)
		if !drawn {
			return 0, false, nil
		}
		if served, err = l.await(ctx, n); served {
			return n, true, nil
		}
		l.leave(n)
		if err != nil {
			return 0, false, err
		}
	}
}

// use notes that the memory is used, unless the line is closed.
func (l *line) use() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.done {
		l.users++
	}
	return !l.done
}

// release ends a use.
func (l *line) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.users--
	l.unmap()
}

// unmap gives the memory back when the line is closed and nobody uses it.
func (l *line) unmap() {
	if l.done && l.users == 0 && l.shared != nil {
		_ = unix.Munmap(l.memory)
		_ = l.file.Close()
		l.shared = nil
	}
}

// draw returns a new ticket, or none if the file cannot be used.
func (l *line) draw(ctx context.Context) (n uint64, ok bool) {
	for begin := monotonic(); monotonic()-begin < store.MaxTurn && ctx.Err() == nil; time.Sleep(drawPause) {
		n, ok, err := l.tryDraw()
		if ok || err != nil {
			return n, ok
		}
	}
	return 0, false
}

// drawPause is how long to wait when another process is just drawing.
const drawPause = 20 * time.Microsecond

func (l *line) tryDraw() (n uint64, ok bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = l.shared.next.Load()
	if serving := l.shared.serving.Load(); serving > n {
		l.shared.next.CompareAndSwap(n, serving)
		return 0, false, nil
	}
	if err := l.lock(n, unix.F_WRLCK); err != nil {
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
			err = nil
		}
		return 0, false, err
	}
	if !l.shared.next.CompareAndSwap(n, n+1) {
		return 0, false, l.lock(n, unix.F_UNLCK)
	}
	l.mine[n] = struct{}{}
	return n, true, nil
}

// lock locks or unlocks byte n, without waiting.
func (l *line) lock(n uint64, kind int16) error {
	if n > math.MaxInt64-1 {
		return unix.EOVERFLOW
	}
	return unix.FcntlFlock(l.file.Fd(), unix.F_OFD_SETLK, &unix.Flock_t{Type: kind, Start: int64(n), Len: 1})
}

// await returns whether ticket n has its turn now. If not, and there is no error, it was passed over.
func (l *line) await(ctx context.Context, n uint64) (served bool, err error) {
	before, since := uint64(math.MaxUint64), monotonic()
	for {
		serving := l.shared.serving.Load()
		if serving >= n {
			return serving == n, nil
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if serving != before {
			before, since = serving, monotonic()
		}
		switch first := l.first(serving, n); {
		case first != serving:
			l.serve(serving, first)
		case monotonic()-since > store.MaxTurn:
			l.serve(serving, l.first(serving+1, n))
		default:
			l.sleep(serving, n)
		}
	}
}

// leave gives ticket n up, and serves the next one if n has its turn.
func (l *line) leave(n uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.mine, n)
	_ = l.lock(n, unix.F_UNLCK)
	if l.shared.serving.Load() == n {
		l.serve(n, l.firstLocked(n+1, l.shared.next.Load()))
	}
}

// first returns the first ticket from begin on whose caller is there, or end.
func (l *line) first(begin, end uint64) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.firstLocked(begin, end)
}

// firstLocked is first under the lock.
func (l *line) firstLocked(begin, end uint64) uint64 {
	for n := range l.mine {
		if n >= begin && n < end {
			end = n
		}
	}
	for begin < end && end <= math.MaxInt64 {
		found := unix.Flock_t{Type: unix.F_WRLCK, Start: int64(begin), Len: int64(end - begin)}
		if err := unix.FcntlFlock(l.file.Fd(), unix.F_OFD_GETLK, &found); err != nil || found.Type == unix.F_UNLCK {
			break
		}
		end = max(begin, uint64(found.Start)) // there may be others before it
	}
	return end
}

// serve passes the turn on, unless another process was faster.
func (l *line) serve(from, to uint64) {
	if l.shared.serving.CompareAndSwap(from, to) {
		l.shared.signal.Store(uint32(to))
		l.futex(futexWakeBitset, math.MaxInt32, nil, to)
	}
}

const (
	// lookAfter is how long the first of those who wait sleeps before it looks whether the turn's process is still there.
	lookAfter = 5 * time.Millisecond
	// longestSleep is how long the others sleep at most.
	longestSleep = 50 * time.Millisecond
)

// sleep returns when ticket n may have its turn, or some time has passed.
func (l *line) sleep(serving, n uint64) {
	pause := longestSleep
	if ahead := n - serving; ahead < uint64(longestSleep/lookAfter) {
		pause = time.Duration(ahead) * lookAfter
	}
	until := unix.NsecToTimespec((monotonic() + pause).Nanoseconds())
	l.futex(futexWaitBitset, uint32(serving), &until, n)
}

// monotonic returns the time of the clock by which the futex system call goes.
func monotonic() time.Duration {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // which every Linux has
	return time.Duration(now.Nano())
}

// The operations of the futex system call: those who wait say by a bit which wake they mean.
const (
	futexWaitBitset = 9
	futexWakeBitset = 10
)

// futex makes the system call on signal, with the bit of ticket n.
func (l *line) futex(operation uintptr, value uint32, until *unix.Timespec, n uint64) {
	_, _, _ = unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(&l.shared.signal)), operation, uintptr(value),
		uintptr(unsafe.Pointer(until)), 0, uintptr(uint32(1)<<(n%32)))
}

// close closes the line. Turns go on until they end.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.done = true
	l.unmap()
}
