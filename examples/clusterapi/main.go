// Program clusterapi is a Kubernetes controller that gives Cluster API's machines their addresses, in place of the
// in-cluster IPAM provider. The README says how to install it.
package main

import (
	"flag"
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/ipalloc/ipalloc/examples/clusterapi/internal/controller"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	var o controller.Options
	var hook webhook.Options
	flag.StringVar(&o.Namespace, "store-namespace", "default", "the namespace of the objects in which the pools are kept")
	flag.IntVar(&o.Workers, "workers", 0, "how many claims are worked on at once (default 16)")
	flag.DurationVar(&o.Sweep, "sweep", 0, "how often to release what claims that are gone have left (default 10m)")
	flag.DurationVar(&o.Retry, "retry", 0, "how often to retry a claim that cannot be met (default 1m)")
	flag.StringVar(&o.MetricsAddress, "metrics", "", "the address to serve metrics at, such as :8080 (default nowhere)")
	flag.StringVar(&o.HealthAddress, "health", "", "the address to serve /healthz and /readyz at (default nowhere)")
	flag.IntVar(&hook.Port, "webhook-port", 0, "the port to serve admission and conversion at (default none)")
	flag.StringVar(&hook.CertDir, "webhook-certs", "/certs", "the folder with tls.crt and tls.key for the webhook")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse() // controller-runtime adds the flag kubeconfig
	if hook.Port != 0 {
		o.Webhook = &hook
	}
	o.Logger = zap.New(zap.UseFlagOptions(&logging))
	ctrl.SetLogger(o.Logger)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	return controller.Run(ctrl.SetupSignalHandler(), config, o)
}
