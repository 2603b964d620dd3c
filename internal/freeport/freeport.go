// Package freeport finds ports for the servers that tests start: those that cannot be told to listen at port 0, and
// those that are stopped and started again at the same port.
package freeport

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
)

// The ports that are given lie below those of outgoing connections, which Linux begins at 32768 and other systems at
// 49152: a connection of any program may take one of these at any time, also while the server is stopped.
const first, last = 10000, 29999

// tries bounds how many ports are looked at.
const tries = 1000

// taken holds a UDP socket on each port that this process was given, until the process ends. It keeps the port from the
// other processes that ask this package, as those of go test do side by side, and leaves TCP to the server.
var (
	mu    sync.Mutex
	taken []net.PacketConn
)

// Addr returns an address of 127.0.0.1, with a port that no program listens on, no outgoing connection gets, and nobody
// else who asks is given as long as this process runs. Any number of goroutines and processes may ask.
func Addr() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	var err error
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", first+rand.IntN(last-first+1))
		var conn net.PacketConn
		if conn, err = net.ListenPacket("udp4", addr); err != nil {
			continue
		}
		if err = unused(addr); err == nil {
			taken = append(taken, conn)
			return addr, nil
		}
		_ = conn.Close()
	}
	return "", fmt.Errorf("no free port from %d to %d: %w", first, last, err)
}

// unused returns an error if a program listens at the address.
func unused(addr string) error {
	l, err := net.Listen("tcp4", addr)
	if err != nil {
		return err
	}
	return l.Close()
}
