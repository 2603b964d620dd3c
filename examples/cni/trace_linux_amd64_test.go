package cni_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/ipalloc/ipalloc/internal/unmet"
	"github.com/ipalloc/ipalloc/pool"
	"github.com/ipalloc/ipalloc/store/bolt"
)

// writing are the system calls that change files.
var writing = map[uint64]bool{
	unix.SYS_PWRITE64: true, unix.SYS_WRITE: true, unix.SYS_FDATASYNC: true, unix.SYS_FSYNC: true,
	unix.SYS_FTRUNCATE: true, unix.SYS_LINKAT: true, unix.SYS_LINK: true, unix.SYS_UNLINKAT: true, unix.SYS_UNLINK: true,
	unix.SYS_RENAMEAT: true, unix.SYS_RENAMEAT2: true, unix.SYS_MKDIRAT: true, unix.SYS_FCHMOD: true, unix.SYS_FLOCK: true,
	unix.SYS_FALLOCATE: true,
}

// runUntil runs a command until one of its threads is about to make the n-th system call that writes, counted from 0,
// and kills it there. It reports whether the command ended before that.
func runUntil(c *exec.Cmd, n int) (ended bool, err error) {
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	c.SysProcAttr = &syscall.SysProcAttr{Ptrace: true}
	if err := c.Start(); err != nil {
		return false, err
	}
	defer c.Wait() // for what it has printed
	leader := c.Process.Pid
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(leader, &status, syscall.WALL, nil); err != nil { // it is stopped at its beginning
		return false, err
	}
	const options = syscall.PTRACE_O_TRACESYSGOOD | syscall.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(leader, options); err != nil {
		return false, err
	}
	ended = true
	inside := map[int]bool{} // threads that are in a system call
	for thread, signal := leader, 0; ; {
		// A thread that was killed meanwhile cannot go on.
		if err := syscall.PtraceSyscall(thread, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return false, err
		}
		for exited := true; exited; exited = status.Exited() || status.Signaled() {
			if thread, err = syscall.Wait4(-1, &status, syscall.WALL|syscall.WNOTHREAD, nil); err != nil {
				return false, err
			}
			if thread == leader && (status.Exited() || status.Signaled()) {
				return ended, nil
			}
		}
		signal = 0
		switch stop := status.StopSignal(); stop {
		case syscall.SIGTRAP | 0x80:
			inside[thread] = !inside[thread]
			var registers syscall.PtraceRegs
			err := syscall.PtraceGetRegs(thread, &registers)
			if err == nil && inside[thread] && writing[registers.Orig_rax] {
				if n--; n == -1 {
					ended = false
					_ = syscall.Kill(leader, syscall.SIGKILL)
				}
			}
		case syscall.SIGTRAP, syscall.SIGSTOP: // a new thread
		default:
			signal = int(stop)
		}
	}
}

// An ADD that is killed at any of the system calls by which it writes has taken effect, or has not. It loses no
// address, and its container can be added again, or deleted. In the first round it makes the file.
func TestKilledAtEachWrite(t *testing.T) {
	n := newNode(t)
	config := n.config("net", `"ranges": [[{"subnet": "10.0.0.0/29"}], [{"subnet": "2001:db8::/64"}]]`)
	for _, first := range []bool{true, false} {
		kills, effective := 0, 0
		for ended := false; !ended; kills++ {
			if first {
				require.NoError(t, os.RemoveAll(n.dir))
			}
			var err error
			var printed bytes.Buffer
			c := n.command(t.Context(), "ADD", "a", config)
			c.Stdout = &printed
			if ended, err = runUntil(c, kills); errors.Is(err, syscall.EPERM) {
				unmet.Skip(t, fmt.Errorf("processes cannot be traced: %w", err))
			}
			require.NoError(t, err)
			stands := n.heldIfAny(t)
			require.False(t, ended && len(stands) == 0, printed.String())
			if len(stands) > 0 {
				effective++
				require.Equal(t, stands[0].String(), n.add(t, "a", config).IPs[0].Address.IP.String())
			} else {
				n.add(t, "a", config)
			}
			n.must(t, "DEL", "a", config)
			require.Empty(t, n.held(t, "net"))
		}
		t.Logf("killed at %d system calls; %d ADDs had taken effect", kills-1, effective)
		require.Greater(t, kills, 5)
		require.Greater(t, effective, 1, "one that was killed before it could answer")
	}
}

// heldIfAny is what the container a holds; nothing if there is no store or no pool yet.
func (n *node) heldIfAny(t *testing.T) []netip.Addr {
	t.Helper()
	db, err := bolt.Open(t.Context(), n.file(), &bolt.Options{LockWait: -1, MustExist: true})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(t, err)
	defer db.Close()
	p, err := pool.Open(t.Context(), db, "net", nil)
	if errors.Is(err, pool.ErrNoPool) {
		return nil
	}
	require.NoError(t, err)
	return heldIn(t, p)["a/eth0"]
}
