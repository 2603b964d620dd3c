package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// echo is a server that answers each line with its name and the line.
type echo struct {
	net.Listener
	name  string
	lines chan string // that came, whole ones and what came of others
}

func newEcho(t *testing.T, name string) *echo {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	e := &echo{listener, name, make(chan string, 10_000)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return e
}

func (e *echo) serve(c net.Conn) {
	defer c.Close()
	for in := bufio.NewReader(c); ; {
		line, err := in.ReadString('\n')
		if line != "" {
			e.lines <- strings.TrimSpace(line)
		}
		if err != nil {
			return
		}
		if _, err = io.WriteString(c, e.name+":"+line); err != nil {
			return
		}
	}
}

// client is a connection through the proxy.
type client struct {
	*testing.T
	net.Conn
	in *bufio.Reader
}

func dial(t *testing.T, p *proxy.Proxy) *client {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) send(line string) {
	c.Helper()
	_, err := io.WriteString(c.Conn, line+"\n")
	require.NoError(c, err)
}

func (c *client) receives(want string) {
	c.Helper()
	got, err := c.in.ReadString('\n')
	require.NoError(c, err)
	require.Equal(c, want+"\n", got)
}

// receivesNothing is how a test sees that something does not happen, so it waits for a while.
func (c *client) receivesNothing() {
	c.Helper()
	require.NoError(c, c.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
	_, err := c.in.ReadByte()
	var timeout net.Error
	require.ErrorAs(c, err, &timeout)
	require.True(c, timeout.Timeout())
	require.NoError(c, c.SetReadDeadline(time.Time{}))
}

// isCut expects the rest of what comes, and then an error.
func (c *client) isCut(rest string) {
	c.Helper()
	got, err := io.ReadAll(c.in)
	require.Error(c, err)
	require.Equal(c, rest, string(got))
}

// isRefused expects a reset, which may come while the connection is made or after it.
func isRefused(t *testing.T, p *proxy.Proxy) {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err == nil {
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	require.ErrorIs(t, err, syscall.ECONNRESET)
}

func TestProxyPasses(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	one, two := dial(t, p), dial(t, p)
	for _, c := range []*client{one, two, one} {
		c.send("hello")
		c.receives("a:hello")
	}
	require.Equal(t, 2, p.Connections())
	long := strings.Repeat("x", 1<<20)
	go io.WriteString(one, long+"\n")
	one.receives("a:" + long)

	require.NoError(t, one.Conn.(*net.TCPConn).CloseWrite()) // the end is passed on, and comes back
	_, err := one.in.ReadByte()
	require.ErrorIs(t, err, io.EOF)
	two.send("still here")
	two.receives("a:still here")
}

func TestProxyCutsAndRefuses(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	one, two := dial(t, p), dial(t, p)
	for _, c := range []*client{one, two} {
		c.send("hello")
		c.receives("a:hello")
	}
	p.Cut()
	one.isCut("")
	two.isCut("")
	require.Zero(t, p.Connections())
	again := dial(t, p)
	again.send("hello")
	again.receives("a:hello")

	p.Refuse()
	isRefused(t, p)
	again.send("present")
	again.receives("a:present")
	p.Heal()
	healed := dial(t, p)
	healed.send("hello")
	healed.receives("a:hello")
}

func TestProxyStalls(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	c := dial(t, p)
	p.Stall()
	c.send("one")
	c.receivesNothing()
	require.Empty(t, server.lines)
	p.Heal()
	c.receives("a:one")
	require.Equal(t, "one", <-server.lines)

	p.StallReplies()
	c.send("two")
	require.Equal(t, "two", <-server.lines)
	c.receivesNothing()
	p.Heal()
	c.receives("a:two")

	p.Stall()
	c.send("three")
	p.Cut()
	c.isCut("")
	p.Heal()
	other := dial(t, p)
	other.send("four")
	other.receives("a:four")
	require.Equal(t, "four", <-server.lines, "what was held back is lost")
}

func TestProxyDelays(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	c := dial(t, p)
	const delay = 20 * time.Millisecond
	p.Delay(delay)
	begin := time.Now()
	for range 50 { // all at once: they wait side by side
		c.send("x")
	}
	for range 50 {
		c.receives("a:x")
	}
	require.GreaterOrEqual(t, time.Since(begin), 2*delay)
	p.Delay(time.Hour)
	c.send("late")
	c.receivesNothing()
	p.Heal()
	c.receives("a:late")
}

func TestProxyCutsInTheMiddle(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	c, other := dial(t, p), dial(t, p)
	other.send("hello")
	other.receives("a:hello")
	require.Equal(t, "hello", <-server.lines)

	done := p.CutAfterRequestBytes(3 + 2)
	c.send("ok")
	c.receives("a:ok")
	require.Equal(t, "ok", <-server.lines)
	c.send("abcdef")
	<-done
	c.isCut("")
	other.isCut("")
	require.Equal(t, "ab", <-server.lines)

	c = dial(t, p)
	done = p.CutAfterReplyBytes(4)
	c.send("abcdef")
	c.isCut("a:ab")
	<-done
	require.Equal(t, "abcdef", <-server.lines)

	c = dial(t, p)
	c.send("whole")
	c.receives("a:whole")
}

func TestProxyLosesAReply(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	c, other := dial(t, p), dial(t, p)
	lost := p.LoseReply("COMMIT")
	for _, c := range []*client{c, other} {
		c.send("BEGIN")
		c.receives("a:BEGIN")
		require.Equal(t, "BEGIN", <-server.lines)
	}
	_, err := io.WriteString(c, "COM") // the text comes in two pieces
	require.NoError(t, err)
	c.receivesNothing()
	c.send("MIT")
	<-lost
	c.isCut("")
	require.Equal(t, "COMMIT", <-server.lines)
	other.send("COMMIT")
	other.receives("a:COMMIT")
}

func TestProxyHoldsAReply(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	c, other := dial(t, p), dial(t, p)
	held := p.HoldReply("")
	c.send("put")
	<-held
	require.Equal(t, "put", <-server.lines)
	c.receivesNothing()
	other.send("get")
	other.receives("a:get")
	p.Heal()
	c.receives("a:put")
}

func TestProxyChangesItsTarget(t *testing.T) {
	a, b := newEcho(t, "a"), newEcho(t, "b")
	p := proxy.New(t, a.Addr().String())
	before := dial(t, p)
	before.send("hello")
	before.receives("a:hello")
	p.SetTarget(b.Addr().String())
	p.Heal()
	after := dial(t, p)
	after.send("hello")
	after.receives("b:hello")
	before.send("hello")
	before.receives("a:hello")

	b.Close()
	isRefused(t, p)
}

// TestProxyUnderWay changes everything while connections come and go: for the race detector.
func TestProxyUnderWay(t *testing.T) {
	server := newEcho(t, "a")
	p := proxy.New(t, server.Addr().String())
	var running sync.WaitGroup
	for range 4 {
		running.Go(func() {
			for range 50 {
				c, err := net.Dial("tcp", p.Addr())
				if err != nil {
					continue
				}
				_, _ = io.WriteString(c, "hello\n")
				_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
				_, _ = bufio.NewReader(c).ReadString('\n')
				c.Close()
			}
		})
	}
	for range 50 {
		p.CutAfterRequestBytes(20)
		p.LoseReply("he")
		p.StallReplies()
		p.Delay(time.Microsecond)
		p.Cut()
		p.Stall()
		p.Refuse()
		p.Connections()
		p.Heal()
	}
	running.Wait()
}
