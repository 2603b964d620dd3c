package kubetest_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"

	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/storetest"
	"github.com/ipalloc/ipalloc/store/storetest/proxy"
)

// elsewhere returns how another process reaches the server: by an address of its own, since the handles of one process
// that use one address stand in one line.
func (s *server) elsewhere(t *testing.T) *rest.Config {
	config := s.config(writer)
	config.Host = "https://" + proxy.New(t, s.Addr).Addr()
	return config
}

// TestTurns: processes get their turns at a real server in the order in which they asked, each with the head that the
// one before it left. A dead process holds them up for as long as a turn may last, and no ticket stays.
func TestTurns(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	dying := &mortal{}
	dead := open(t, dying.wrap(server.elsewhere(t)), kube.Options{Namespace: namespace})
	_, err := storetest.CommitOne(t.Context(), dead, record(poolKey(labPool), "none"))
	require.NoError(t, err)
	_, err = dead.Turn(t.Context(), poolKey(labPool))
	require.NoError(t, err)
	dying.ended.Store(true)
	start := time.Now()
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 4 {
		config, queued := server.elsewhere(t), make(chan struct{})
		config.Wrap(func(next http.RoundTripper) http.RoundTripper {
			return roundTrip(func(r *http.Request) (*http.Response, error) {
				answer, err := next.RoundTrip(r)
				if isPath("POST", "/iprecords")(r) && r.URL.Query().Get("dryRun") == "" {
					close(queued)
				}
				return answer, err
			})
		})
		s := open(t, config, kube.Options{Namespace: namespace})
		all.Go(func() {
			turn, err := s.Turn(t.Context(), poolKey(labPool))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			head := turn.Heads()[0]
			head.State = fmt.Sprint(i)
			_, err = s.Commit(t.Context(), store.Change{Head: head, Turn: turn, Writes: []store.Write{
				{Op: store.Create, Record: record(allocKey(head.State), "held")},
			}})
			if err != nil {
				t.Error(err)
			}
		})
		<-queued
	}
	all.Wait()
	require.Len(t, order, 4)
	require.IsIncreasing(t, order)
	require.GreaterOrEqual(t, time.Since(start), store.MaxTurn)
	tickets := func() int { return len(printed(t, server, namespace, "iprecords")) }
	require.Eventually(t, func() bool { return tickets() == 0 }, time.Minute, 10*time.Millisecond)
}

// TestTurnWithoutEnd: a caller whose context ends leaves no ticket, and neither does Close.
func TestTurnWithoutEnd(t *testing.T) {
	server, namespace := sharedServer(t), newNamespace()
	first := open(t, server.elsewhere(t), kube.Options{Namespace: namespace})
	second := open(t, server.elsewhere(t), kube.Options{Namespace: namespace})
	_, err := first.Turn(t.Context(), poolKey(labPool), poolKey("other"))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), store.MaxTurn/3)
	defer cancel()
	_, err = second.Turn(ctx, poolKey("other"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.Empty(t, printed(t, server, namespace, "iprecords"))
}
