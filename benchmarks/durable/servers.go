package durable

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"k8s.io/klog/v2"
)

// Servers are the servers that kinds share: one of each sort for all, so that the kinds are measured side by side. Each
// runs in a process of its own, a copy of this program (see [RunServer]), from its first use until Close.
//
// The zero Servers is not usable, see NewServers. All methods may be called by any number of goroutines.
type Servers struct {
	dir     string
	mu      sync.Mutex
	running map[string]*server
	places  int
}

// server is one that runs, or the reason why it does not.
type server struct {
	started chan struct{} // closed when the others are set
	command *exec.Cmd
	leash   io.Closer // the server ends when this is closed
	address string
	err     error
}

// NewServers returns servers that keep their data in the folder. None runs yet.
func NewServers(dir string) *Servers { return &Servers{dir: dir, running: map[string]*server{}} }

// Close ends the servers, once those that are about to run do.
func (s *Servers) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all error
	for _, one := range s.running {
		<-one.started
		if one.err == nil {
			all = errors.Join(all, one.leash.Close())
		}
	}
	for _, one := range s.running {
		if one.err == nil {
			all = errors.Join(all, one.command.Wait())
		}
	}
	s.running = map[string]*server{}
	return all
}

// Start starts all of them at once, so that no case has to wait for one, and does not wait itself. If a server cannot
// be started, the cases that need it get the reason.
func (s *Servers) Start() {
	for _, sort := range []string{etcdServer, postgresServer, mysqlServer, kubeServer} {
		s.server(sort)
	}
}

// Wait returns when each of those that were started runs, or has failed to.
func (s *Servers) Wait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.running {
		<-one.started
	}
}

// server is the one of that sort, which is started if it is not.
func (s *Servers) server(sort string) *server {
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.running[sort]
	if !ok {
		one = &server{started: make(chan struct{})}
		s.running[sort] = one
		go func() {
			defer close(one.started)
			one.err = one.start(serverJob{sort, filepath.Join(s.dir, sort)})
		}()
	}
	return one
}

// place is an address for a new place on the server: its host and port, a slash, and a name that no other place has.
func (s *Servers) place(sort string) (string, error) {
	one := s.server(sort)
	<-one.started
	if one.err != nil {
		return "", one.err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.places++
	return one.address + "/place" + strconv.Itoa(s.places), nil
}

// serverVariable is the environment variable by which a process knows that it is to be a server, and which.
const serverVariable = "IPALLOC_BENCHMARK_SERVER"

// serverJob is what such a process is told.
type serverJob struct{ Sort, Dir string }

// start starts it as a copy of this program.
func (s *server) start(job serverJob) error {
	text, err := json.Marshal(job)
	if err != nil {
		return err
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	s.command = exec.Command(program)
	s.command.Env = append(os.Environ(), serverVariable+"="+string(text))
	s.command.SysProcAttr = ownGroup()
	if s.leash, err = s.command.StdinPipe(); err != nil {
		return err
	}
	output, err := s.command.StdoutPipe()
	if err != nil {
		return err
	}
	if err := s.command.Start(); err != nil {
		return err
	}
	return s.await(output)
}

// await waits for the line with the address, or with the reason why there is none. The process
// itself gives up after a while.
func (s *server) await(output io.Reader) error {
	line, err := bufio.NewReader(output).ReadString('\n')
	if err == nil {
		if reason, failed := strings.CutPrefix(line, "error: "); failed {
			err = fmt.Errorf("%w: %s", ErrNoServer, strings.TrimSpace(reason))
		}
	}
	if err != nil {
		return errors.Join(err, s.leash.Close(), s.command.Wait())
	}
	s.address = strings.TrimSpace(line)
	return nil
}

// RunServer runs the server for which this process was started, until the parent closes its standard input or ends, and
// then returns true. In any other process it returns false at once. It also keeps the logs of clients off the standard
// error: the clients of go-ipam cannot be closed, and complain once the servers have ended.
func RunServer() bool {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
	text, ok := os.LookupEnv(serverVariable)
	if !ok {
		return false
	}
	var job serverJob
	err := json.Unmarshal([]byte(text), &job)
	if err == nil {
		err = serve(job)
	}
	if err != nil {
		fmt.Println("error: " + strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return true
}

func serve(job serverJob) error {
	sorts := map[string]func(dir string) (address string, stop func() error, err error){
		etcdServer: startEtcd, postgresServer: startPostgres, mysqlServer: startMySQL, kubeServer: startKube,
	}
	start, ok := sorts[job.Sort]
	if !ok {
		return fmt.Errorf("no server is called %q", job.Sort)
	}
	address, stop, err := start(job.Dir)
	if err != nil {
		return err
	}
	fmt.Println(address)
	_, err = io.Copy(io.Discard, os.Stdin) // until its end
	return errors.Join(err, stop())
}
