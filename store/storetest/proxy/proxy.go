// Package proxy breaks the network between a driver of package store and its server. Tests use it to check what the
// driver reports of a commit whose request or answer was lost. It knows nothing of stores.
package proxy

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy between a driver and its server, which breaks the network as a test asks. It does not interpret
// the data. Over TLS it sees cipher text, so methods that look for text in a request find none.
//
// The zero Proxy is not usable, see [New]. A Proxy must not be copied. All methods may be called by any number of
// goroutines at once, and take effect on all connections, present and future, until [Proxy.Heal], unless they say
// otherwise.
type Proxy struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	target   string
	closed   bool
	refusing bool
	stalled  [2]bool
	delay    time.Duration
	budgets  [2]*budget
	loss     *loss
	links    map[*link]struct{}
	changed  chan struct{} // closed, and replaced, when what holds up pieces changes
}

// New returns a proxy that listens on a free port of 127.0.0.1 and passes connections on to target, an address as
// [net.Dial] takes it for TCP. It ends, with all its connections and goroutines, at the end of t.
func New(t testing.TB, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for the proxy to %s: %v", target, err)
	}
	p := &Proxy{listener: listener, target: target, links: make(map[*link]struct{}), changed: make(chan struct{})}
	p.running.Add(1)
	go p.accept()
	t.Cleanup(p.close)
	return p
}

// Addr returns the address that clients connect to, as host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetTarget passes new connections on to another address, as if the server came back elsewhere. Present connections
// stay, and Heal does not reset the target.
func (p *Proxy) SetTarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Connections returns the number of connections that pass through now.
func (p *Proxy) Connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Cut closes all present connections, even in the middle of a message. Clients see a reset; servers see the end of the
// connection after the data that was passed on. Data that Stall and Delay hold back is lost. Later connections are not
// affected.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cutAll()
}

// Refuse resets each new connection at once, as a load balancer without a server does. Present connections stay. To
// simulate a server that is down, call Refuse, then Cut.
func (p *Proxy) Refuse() { p.change(func() { p.refusing = true }) }

// Stall keeps connections, and accepts new ones, but passes no data on in either direction. Heal passes on the data
// that was held back.
func (p *Proxy) Stall() { p.change(func() { p.stalled = [2]bool{true, true} }) }

// StallReplies is Stall for data from the server only: requests arrive, but no answer comes back.
func (p *Proxy) StallReplies() { p.change(func() { p.stalled[reply] = true }) }

// Delay passes all data on after d, in each direction, so it adds 2d to a round trip.
func (p *Proxy) Delay(d time.Duration) { p.change(func() { p.delay = d }) }

// CutAfterRequestBytes cuts all connections once, as Cut does, when n more bytes have been passed on to the server, on
// all connections together, and before any further byte. The channel is closed when that has happened.
func (p *Proxy) CutAfterRequestBytes(n int) <-chan struct{} { return p.cutAfter(request, n) }

// CutAfterReplyBytes is CutAfterRequestBytes for bytes from the server.
func (p *Proxy) CutAfterReplyBytes(n int) <-chan struct{} { return p.cutAfter(reply, n) }

// LoseReply loses the answer to one request: the next request that contains text (any request, if text is empty) is
// passed on, and its connection is cut, as Cut does, when the first byte after it comes back from the server. Other
// connections are not affected. The channel is closed when that has happened.
//
// This is exact if the server sends nothing but answers, one after the other, as PostgreSQL does. For other protocols,
// such as HTTP/2, use [Proxy.HoldReply].
func (p *Proxy) LoseReply(text string) <-chan struct{} { return p.lose(text, false) }

// HoldReply is LoseReply without the cut: from the request on, the connection passes nothing back. The channel is
// closed when the request has been passed on. A test then waits until it sees the effect in another way, and calls Cut,
// or Heal to let the answer arrive late.
func (p *Proxy) HoldReply(text string) <-chan struct{} { return p.lose(text, true) }

// Heal ends all effects except that of SetTarget. Present connections go on, with the data that was held back.
func (p *Proxy) Heal() {
	p.change(func() {
		p.refusing, p.stalled, p.delay, p.budgets, p.loss = false, [2]bool{}, 0, [2]*budget{}, nil
	})
}

// change changes the rules, and has what waits look at them again.
func (p *Proxy) change(do func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	do()
	close(p.changed)
	p.changed = make(chan struct{})
}

// budget is how many bytes may still pass before all connections are cut.
type budget struct {
	left  int
	spent bool // the last bytes are on their way, and the cut comes next
	done  chan struct{}
}

func (p *Proxy) cutAfter(way way, n int) <-chan struct{} {
	b := &budget{left: max(n, 0), done: make(chan struct{})}
	p.change(func() { p.budgets[way] = b })
	return b.done
}

// loss is the request whose answer is to be lost.
type loss struct {
	text string
	hold bool  // rather than cut
	on   *link // that the request came on, if it has come
	done chan struct{}
}

func (p *Proxy) lose(text string, hold bool) <-chan struct{} {
	l := &loss{text: text, hold: hold, done: make(chan struct{})}
	p.change(func() { p.loss = l })
	return l.done
}

func (p *Proxy) accept() {
	defer p.running.Done()
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.running.Add(1)
		go func() {
			defer p.running.Done()
			p.serve(client.(*net.TCPConn))
		}()
	}
}

// serve passes client on until its connection ends.
func (p *Proxy) serve(client *net.TCPConn) {
	l := &link{proxy: p, client: client, ended: make(chan struct{})}
	if !p.enter(l) {
		reset(client)
		return
	}
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		l.cut()
	}()
	l.run()
}

// enter connects l to the target, and reports whether it may go on.
func (p *Proxy) enter(l *link) bool {
	p.mu.Lock()
	target, refusing := p.target, p.refusing
	p.mu.Unlock()
	if refusing {
		return false
	}
	server, err := net.DialTimeout("tcp", target, dialTimeout)
	if err != nil {
		return false
	}
	l.server = server.(*net.TCPConn)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refusing {
		l.server.Close()
		return false
	}
	p.links[l] = struct{}{}
	return true
}

// dialTimeout is how long the target may take to accept a connection.
const dialTimeout = 10 * time.Second

func (p *Proxy) cutAll() {
	for l := range p.links {
		l.cut()
	}
}

func (p *Proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	p.cutAll()
	p.mu.Unlock()
	p.running.Wait()
}

// reset closes a connection so that the other side sees an error.
func reset(c *net.TCPConn) {
	_ = c.SetLinger(0)
	c.Close()
}
