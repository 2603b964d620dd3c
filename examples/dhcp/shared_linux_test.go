package main_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/ipalloc/ipalloc/internal/freeport"
	"github.com/ipalloc/ipalloc/internal/unmet"
)

func freeAddr(t testing.TB) string {
	t.Helper()
	addr, err := freeport.Addr()
	require.NoError(t, err)
	return addr
}

// startEtcd starts an etcd server in this process, and returns its address.
func startEtcd(t testing.TB) string {
	t.Helper()
	addr, peer := freeAddr(t), freeAddr(t)
	at := func(addr string) []url.URL { return []url.URL{{Scheme: "http", Host: addr}} }
	c := embed.NewConfig()
	c.Name, c.Dir = "m0", t.TempDir()
	c.ListenClientUrls, c.AdvertiseClientUrls = at(addr), at(addr)
	c.ListenPeerUrls, c.AdvertisePeerUrls = at(peer), at(peer)
	c.InitialCluster = "m0=http://" + peer
	c.LogLevel, c.LogOutputs = "fatal", []string{"/dev/null"}
	c.WarningUnaryRequestDuration = embed.DefaultWarningUnaryRequestDuration
	c.UnsafeNoFsync = true // nothing here cuts the power
	e, err := embed.StartEtcd(c)
	require.NoError(t, err)
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(patience):
		require.FailNow(t, "etcd is not ready")
	}
	return addr
}

// startPostgres starts a PostgreSQL server, and returns its address.
func startPostgres(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err == nil && len(found) == 0 {
		err = errors.New("no PostgreSQL server is installed; on Debian: apt-get install postgresql")
	}
	unmet.Skip(t, err)
	programs := found[len(found)-1]
	dir, err := os.MkdirTemp("", "dhcpalloc-postgres")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// The server refuses to be root.
	account, err := user.Lookup("postgres")
	require.NoError(t, err)
	uid, err := strconv.Atoi(account.Uid)
	require.NoError(t, err)
	require.NoError(t, os.Chown(dir, uid, -1))
	as := func(args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(programs, args[0]), args[1:]...)
		c.Dir, c.SysProcAttr = dir, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid)}}
		return c
	}
	initdb := as("initdb", "-D", dir+"/data", "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C", "--no-sync")
	output, err := initdb.CombinedOutput()
	require.NoError(t, err, "%s", output)
	addr := freeAddr(t)
	host, port, _ := net.SplitHostPort(addr)
	server := as("postgres", "-D", dir+"/data", "-h", host, "-p", port, "-k", dir, "-c", "fsync=off")
	require.NoError(t, server.Start())
	t.Cleanup(func() {
		_ = server.Process.Signal(syscall.SIGQUIT)
		_ = server.Wait()
	})
	require.Eventually(t, func() bool {
		return exec.Command(filepath.Join(programs, "pg_isready"), "-q", "-h", host, "-p", port).Run() == nil
	}, patience, 20*time.Millisecond)
	return addr
}

// forward lets the host reach an address of this machine at a port of its own 127.0.0.1.
func (h *host) forward(port int, to string) {
	h.Helper()
	space, err := ns.GetNS("/run/netns/" + h.name)
	require.NoError(h, err)
	defer space.Close()
	var l net.Listener
	require.NoError(h, space.Do(func(ns.NetNS) error {
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err
	}))
	h.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go join(in, to)
		}
	}()
}

func join(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		_, _ = io.Copy(out, in)
		_ = out.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(in, out)
}

// sharedStores start a server for a store that several DHCP servers share, and return its address and the URL of the
// store when it is reached at 127.0.0.1:9999.
var sharedStores = map[string]func(t testing.TB) (addr, url string){
	"etcd": func(t testing.TB) (string, string) { return startEtcd(t), "etcd://127.0.0.1:9999/dhcp" },
	"postgres": func(t testing.TB) (string, string) {
		return startPostgres(t), "postgres://postgres@127.0.0.1:9999/postgres"
	},
}

// Two servers never give one address to two clients, and when one is killed, its clients keep theirs with the other.
func TestTwoServersShareAPool(t *testing.T) {
	for name, start := range sharedStores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t, "dhcpcd")
			addr, url := start(t)
			sw := l.segment("sw")
			var servers []*process
			for i := range 2 {
				h := l.host(fmt.Sprintf("srv%d", i))
				h.plug("eth0", sw, fmt.Sprintf("10.7.0.%d/16", 5+i))
				h.forward(9999, addr)
				servers = append(servers, h.serve(h.name, fmt.Sprintf(`
store: %q
authoritative: true
networks:
- name: office
  interface: eth0
  relayed: true
  lease: 20s
  subnets: [{subnet: 10.7.0.0/16, pools: [10.7.1.0-10.7.8.255]}]
`, url)))
			}
			got := map[string]events{}
			for i := range 6 {
				name := fmt.Sprintf("c%d", i)
				_, log := clients4[2].start(l.client(name, sw), name)
				ip := log.await(t, `event=BOUND ip=([0-9.]+)/`)[1]
				require.NotContains(t, got, ip)
				got[ip] = log
			}
			// Hundreds more, half of them of each server at the same time.
			requireApart(t, l, sw, got)
			servers[0].kill()
			for ip, log := range got {
				log.await(t, `event=(RENEW|REBIND) ip=`+ip+`/.* server=10\.7\.0\.6`)
				require.NotContains(t, log.String(), "event=EXPIRE")
				require.NotContains(t, log.String(), "event=FAIL")
			}
		})
	}
}

// requireApart leases addresses from both servers for different clients at the same time. They must not overlap with
// each other, nor with what others have.
func requireApart(t testing.TB, l *lab, sw *host, others map[string]events) {
	t.Helper()
	type result struct {
		got map[int]net.IP
		err error
	}
	leased := make(chan result, 2)
	for i := range 2 {
		h := l.host(fmt.Sprintf("r%d", i))
		h.plug("eth0", sw, fmt.Sprintf("10.7.0.%d/16", 20+i))
		r := h.relay(fmt.Sprintf("10.7.0.%d", 20+i), fmt.Sprintf("10.7.0.%d", 5+i))
		go func() {
			got, err := r.lease(1000*i, 200)
			leased <- result{got, err}
		}()
	}
	seen := map[string]bool{}
	for range 2 {
		r := <-leased
		require.NoError(t, r.err)
		for _, ip := range r.got {
			require.False(t, seen[ip.String()], ip)
			require.NotContains(t, others, ip.String())
			seen[ip.String()] = true
		}
	}
	require.Len(t, seen, 400)
}
