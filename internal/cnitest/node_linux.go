package cnitest

import (
	"net"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/unmet"
)

// node is a network namespace, and the thread in it that starts processes.
type node struct {
	name, url, program string
	jobs               chan func()
}

// newNode returns a node that reaches the server at an address of its own. It skips the test where namespaces cannot be
// made; in CI it fails.
func newNode(t *testing.T, name string, c Cluster) *node {
	t.Helper()
	n := &node{name: name, jobs: make(chan func())}
	entered := make(chan error)
	go n.serve(entered)
	unmet.Skip(t, <-entered) // network namespaces need root
	t.Cleanup(func() { close(n.jobs) })
	var listener net.Listener
	var err error
	n.do(func() {
		if err = loopbackUp(); err == nil {
			listener, err = net.Listen("tcp", "127.0.0.1:0")
		}
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = listener.Close() })
	go forward(listener, c.Server)
	n.url = c.URL(t, listener.Addr().String())
	return n
}

// serve does the jobs of a node, in its namespace. The thread ends with it.
func (n *node) serve(entered chan<- error) {
	runtime.LockOSThread()
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	entered <- err
	if err != nil {
		return
	}
	for job := range n.jobs {
		job()
	}
}

// do does a job in the namespace.
func (n *node) do(job func()) {
	done := make(chan struct{})
	n.jobs <- func() {
		defer close(done)
		job()
	}
	<-done
}

// start starts a process in the namespace.
func (n *node) start(c *exec.Cmd) (err error) {
	n.do(func() { err = c.Start() })
	return err
}

// loopbackUp sets the interface lo of the calling thread's namespace up.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte
	}{name: [syscall.IFNAMSIZ]byte{'l', 'o'}, flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request)))
	if errno != 0 {
		return errno
	}
	return nil
}
