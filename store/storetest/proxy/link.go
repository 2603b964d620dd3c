package proxy

import (
	"net"
	"strings"
	"sync"
	"time"
)

// way is where bytes go: from the client to the server, or back.
type way int

const (
	request way = iota
	reply
)

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	client, server *net.TCPConn
	ended          chan struct{} // closed by cut
	// seen has the last bytes of the requests, in which a text may begin. Only the goroutine that passes requests uses
	// it.
	seen string
}

// cut ends the link. The proxy's lock is held.
func (l *link) cut() {
	if _, present := l.proxy.links[l]; !present {
		return
	}
	delete(l.proxy.links, l)
	close(l.ended)
	reset(l.client)
	l.server.Close()
}

// piece is what was read at once.
type piece struct {
	bytes []byte
	came  time.Time
}

// run passes both ways until both have ended, or the link is cut.
func (l *link) run() {
	var both sync.WaitGroup
	for _, w := range []way{request, reply} {
		from, to := l.client, l.server
		if w == reply {
			from, to = to, from
		}
		pieces := make(chan piece, 256)
		both.Add(2)
		go func() {
			defer both.Done()
			l.read(from, pieces)
		}()
		go func() {
			defer both.Done()
			l.write(to, w, pieces)
		}()
	}
	both.Wait()
}

// read reads pieces until the connection ends.
func (l *link) read(from *net.TCPConn, pieces chan<- piece) {
	defer close(pieces)
	for {
		buffer := make([]byte, 32<<10)
		n, err := from.Read(buffer)
		if n > 0 {
			select {
			case pieces <- piece{buffer[:n], time.Now()}:
			case <-l.ended:
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// write passes pieces on, and then the end of the connection.
func (l *link) write(to *net.TCPConn, w way, pieces <-chan piece) {
	for p := range pieces {
		if !l.admit(w, p.came) {
			return
		}
		bytes, last := l.pass(w, p.bytes)
		_, err := to.Write(bytes)
		if last != nil {
			last()
			return
		}
		if err != nil {
			l.finish(l.cut)()
			return
		}
		if w == request {
			l.sent()
		}
	}
	if l.admit(w, time.Now()) {
		_ = to.CloseWrite()
	}
}

// admit waits until a piece that came at some time may be passed on. It returns false if the link is cut before.
func (l *link) admit(w way, came time.Time) bool {
	for {
		l.proxy.mu.Lock()
		held, changed := l.proxy.stalled[w] || w == reply && l.held(), l.proxy.changed
		wait := time.Until(came.Add(l.proxy.delay))
		l.proxy.mu.Unlock()
		if !held && wait <= 0 {
			return l.present()
		}
		timer := time.NewTimer(wait)
		if held {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-changed:
		case <-l.ended:
		}
		timer.Stop()
		if !l.present() {
			return false
		}
	}
}

// held reports whether the answer to a request on l is held back. The proxy's lock is held.
func (l *link) held() bool {
	loss := l.proxy.loss
	return loss != nil && loss.hold && loss.on == l
}

func (l *link) present() bool {
	select {
	case <-l.ended:
		return false
	default:
		return true
	}
}

// pass returns how much of a piece may be passed on and, if that is the last, what to do then.
func (l *link) pass(w way, bytes []byte) (passed []byte, last func()) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if w == request {
		l.look(bytes)
	} else if loss := p.loss; loss != nil && loss.on == l && !loss.hold {
		return nil, l.finish(func() {
			if p.loss == loss {
				p.loss = nil
			}
			l.cut()
			close(loss.done)
		})
	}
	b := p.budgets[w]
	if b == nil {
		return bytes, nil
	}
	if b.spent {
		return nil, l.finish(l.cut)
	}
	if b.left > len(bytes) {
		b.left -= len(bytes)
		return bytes, nil
	}
	b.spent = true
	return bytes[:b.left], l.finish(func() {
		if p.budgets[w] == b {
			p.budgets[w] = nil
		}
		p.cutAll()
		close(b.done)
	})
}

// finish returns do as a function that takes the proxy's lock.
func (l *link) finish(do func()) func() {
	return func() {
		l.proxy.mu.Lock()
		defer l.proxy.mu.Unlock()
		do()
	}
}

// look finds the request whose answer is to be lost. The proxy's lock is held.
func (l *link) look(bytes []byte) {
	loss := l.proxy.loss
	text := l.seen + string(bytes)
	if loss != nil && loss.on == nil && strings.Contains(text, loss.text) {
		loss.on, l.seen = l, ""
		return
	}
	l.seen = text[max(0, len(text)-longestText):]
}

// longestText is how many bytes of the requests before a piece are looked at with it.
const longestText = 1 << 10

// sent tells that requests were passed on, if one of them is the one to tell of.
func (l *link) sent() {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if loss := l.proxy.loss; l.held() {
		select {
		case <-loss.done:
		default:
			close(loss.done)
		}
	}
}
