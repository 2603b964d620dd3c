package servertest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/internal/unmet"
)

// Program is a kind of server.
type Program struct {
	// Name is that of the user as whom a server runs that root starts, if there is one.
	Name string
	// Initialise is the command that makes the files of a server, and Run the server itself.
	Initialise, Run func(s *Server) (*exec.Cmd, error)
	// Ping returns nil if the server answers.
	Ping func(ctx context.Context, s *Server) error
	// Crash ends a server, with all its processes, when the tests end.
	Crash syscall.Signal
}

// Server is a server of the tests' own, in a folder of its own, on a port of 127.0.0.1.
type Server struct {
	Program
	Dir, Addr string   // Addr is the host and port
	Options   []string // for Run to add

	mu      sync.Mutex
	process *os.Process
	ended   chan error // has the end of the process
}

// servers are those that have not been removed.
var servers sync.Map

// New makes a server, which does not run yet.
func New(p Program) (*Server, error) {
	dir, err := os.MkdirTemp("", "ipalloc-"+p.Name+"-")
	if err != nil {
		return nil, err
	}
	s := &Server{Program: p, Dir: dir}
	if s.Addr, err = freeport.Addr(); err == nil {
		err = s.initialise()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	servers.Store(s, nil)
	return s, nil
}

func (s *Server) initialise() error {
	command, err := s.command(s.Initialise)
	if err != nil {
		return err
	}
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command.Path, err, output)
	}
	return nil
}

// command is a command that runs in the folder of the server, as its user.
func (s *Server) command(of func(*Server) (*exec.Cmd, error)) (*exec.Cmd, error) {
	attributes, err := s.attributes(s.Dir)
	if err != nil {
		return nil, err
	}
	command, err := of(s)
	if err != nil {
		return nil, err
	}
	command.SysProcAttr, command.Dir = attributes, s.Dir
	return command, nil
}

// Start starts the server and waits until it answers.
func (s *Server) Start() error {
	started := make(chan error, 1)
	s.mu.Lock()
	s.ended = make(chan error, 1)
	s.mu.Unlock()
	go s.run(started)
	if err := <-started; err != nil {
		return err
	}
	return s.await()
}

// run runs the server in a thread of its own, with which it ends.
func (s *Server) run(started chan<- error) {
	runtime.LockOSThread()
	command, err := s.command(s.Run)
	if err != nil {
		started <- err
		return
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		started <- err
		return
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	err = command.Start()
	s.mu.Lock()
	s.process = command.Process
	ended := s.ended
	s.mu.Unlock()
	started <- err
	if err == nil {
		ended <- command.Wait()
	}
}

func (s *Server) log() string { return filepath.Join(s.Dir, "log") }

// await waits until the server answers.
func (s *Server) await() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for {
		err := s.Ping(ctx, s)
		if err == nil {
			return nil
		}
		select {
		case err := <-s.ended:
			log, _ := os.ReadFile(s.log())
			return fmt.Errorf("the server ended: %w: %s", err, log)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Stop sends a signal to the server, and waits until it has ended.
func (s *Server) Stop(signal os.Signal) error {
	s.mu.Lock()
	process, ended := s.process, s.ended
	s.mu.Unlock()
	if err := process.Signal(signal); err != nil {
		return err
	}
	<-ended //nolint:errcheck // how it ended is no matter
	return nil
}

// Restart starts a server that was stopped, however that was: the processes of one that was killed may still be ending,
// and do not let another start.
func (s *Server) Restart() error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if err := s.Start(); err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// Remove ends the server for good.
func (s *Server) Remove() error {
	servers.Delete(s)
	var err error
	if s.process != nil {
		err = s.Stop(s.Crash)
	}
	return errors.Join(err, os.RemoveAll(s.Dir))
}

// Main is what TestMain does: it runs the tests, and removes the servers that they have left. Without a server to
// install it leaves out the examples, and the tests skip themselves.
func Main(m *testing.M, missing error) {
	if missing != nil && !unmet.IsFailure() {
		_ = flag.Set("test.skip", "^Example")
	}
	code := m.Run()
	servers.Range(func(s, _ any) bool {
		if err := s.(*Server).Remove(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
		return true
	})
	os.Exit(code)
}

// ErrNotInstalled is wrapped by the error of a server that is not installed.
var ErrNotInstalled = errors.New("not installed")

// Require skips the test if the error says that the server is not installed, unless this is CI.
func Require(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNotInstalled) {
		unmet.Skip(t, err)
	}
	require.NoError(t, err)
}

// Own gives a folder to the user that the server runs as.
func (s *Server) Own(dir string) error {
	_, err := s.attributes(dir)
	return err
}
