package freeport_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/internal/freeport"
)

// childVariable makes a process of this test print addresses and wait.
const childVariable = "IPALLOC_FREEPORT_CHILD"

const children, perChild = 4, 500

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) == "" {
		os.Exit(m.Run())
	}
	for range perChild {
		addr, err := freeport.Addr()
		fmt.Println(addr, err)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Processes that ask side by side are given different addresses.
func TestAddrOfManyProcesses(t *testing.T) {
	given := map[string]bool{}
	var answers []*bufio.Scanner
	for range children {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childVariable+"=1")
		in, err := c.StdinPipe()
		require.NoError(t, err)
		out, err := c.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, c.Start())
		t.Cleanup(func() {
			_ = in.Close()
			_ = c.Wait()
		})
		answers = append(answers, bufio.NewScanner(out))
	}
	for _, lines := range answers {
		for range perChild {
			require.True(t, lines.Scan())
			require.Contains(t, lines.Text(), "<nil>")
			require.False(t, given[lines.Text()], lines.Text())
			given[lines.Text()] = true
		}
	}
}

// A server can listen at the address, stop, and listen again; no outgoing connection comes from such a port.
func TestAddrIsFree(t *testing.T) {
	addr, err := freeport.Addr()
	require.NoError(t, err)
	for range 2 {
		l, err := net.Listen("tcp", addr)
		require.NoError(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		require.GreaterOrEqual(t, port, 10000)
		require.Less(t, port, 30000, "outgoing connections begin at 32768 on Linux")
		require.NoError(t, l.Close())
	}
}
