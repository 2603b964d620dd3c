package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/controller"
)

// envReplica has the arguments of a replica in a process of its own.
const envReplica = "IPALLOC_CAPI_REPLICA"

// arguments are those of a replica.
type arguments struct {
	Host    string
	CA      []byte
	Health  string
	Metrics string
	Workers int
	Port    int // of the webhook; 0 for none
	Certs   string
}

// replica runs a replica until it is killed, and returns the exit code if it fails.
func replica(text string) int {
	go func() { // it must not outlive the test
		io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var a arguments
	err := json.Unmarshal([]byte(text), &a)
	options := controller.Options{
		HealthAddress: a.Health, MetricsAddress: a.Metrics, Settle: 100 * time.Millisecond, Workers: a.Workers,
	}
	if a.Port != 0 {
		options.Webhook = &webhook.Options{Host: "127.0.0.1", Port: a.Port, CertDir: a.Certs}
	}
	if err == nil {
		err = controller.Run(context.Background(), &rest.Config{
			Host: a.Host, BearerToken: controllerUser, TLSClientConfig: rest.TLSClientConfig{CAData: a.CA},
		}, options)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// start starts a replica in a process of its own, and waits until it is ready.
func (c *cluster) start(t testing.TB, a arguments) *exec.Cmd {
	t.Helper()
	a.Host, a.CA = c.config().Host, c.config().CAData
	a.Health = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	text, err := json.Marshal(a)
	require.NoError(t, err)
	command := exec.Command(os.Args[0])
	command.Env = append(os.Environ(), envReplica+"="+string(text))
	command.Stderr = os.Stderr
	_, err = command.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		command.Process.Kill()
		command.Wait()
	})
	awaitReady(t, a.Health)
	return command
}
