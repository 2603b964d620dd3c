// Package kube is the driver for the Kubernetes API: kube://NAMESPACE?kubeconfig=FILE. Without a kubeconfig it uses the
// service account of the pod that the program runs in.
package kube

import (
	"context"
	"net/url"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// Driver returns the driver. A program that is unchecked does not ask the server first whether its commits would work:
// that is half of all requests of an ADD.
func Driver(unchecked bool) driver.Driver {
	open := func(ctx context.Context, u *url.URL, _ bool) (store.Store, error) {
		return kube.OpenURL(ctx, u, &kube.Options{Unchecked: unchecked})
	}
	return driver.Driver{Scheme: "kube", Shared: true, Check: kube.CheckURL, Open: open}
}

// ConfigOf returns how to reach the API server that a file names; if it is empty, that of the cluster whose pod the
// program runs in.
func ConfigOf(kubeconfig string) (*rest.Config, error) {
	if kubeconfig != "" {
		return clientcmd.BuildConfigFromFlags("", kubeconfig)
	}
	return rest.InClusterConfig()
}
