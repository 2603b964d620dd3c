// Package kube is the driver for the Kubernetes API: kube://NAMESPACE?kubeconfig=FILE. Without a kubeconfig it uses the
// service account of the pod that the program runs in.
package kube

import (
	"context"
	"errors"
	"net/url"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ipalloc/ipalloc/examples/cni/internal/driver"
	"github.com/ipalloc/ipalloc/store"
	"github.com/ipalloc/ipalloc/store/kube"
)

// Driver returns the driver.
func Driver() driver.Driver {
	return driver.Driver{Scheme: "kube", Shared: true, Check: check, Open: open}
}

func check(u *url.URL) error {
	if u.Host == "" || u.Opaque != "" || u.User != nil || u.Path != "" && u.Path != "/" {
		return errors.New("want the namespace of the objects, as in kube://ipalloc?kubeconfig=/etc/cni/net.d/kubeconfig")
	}
	return driver.CheckQuery(u, "kubeconfig")
}

func open(ctx context.Context, u *url.URL, _ bool) (store.Store, error) {
	config, err := Config(u)
	if err != nil {
		return nil, err
	}
	return kube.Open(ctx, config, &kube.Options{Namespace: u.Host})
}

// Config returns how to reach the API server of a URL.
func Config(u *url.URL) (*rest.Config, error) {
	if file := u.Query().Get("kubeconfig"); file != "" {
		return clientcmd.BuildConfigFromFlags("", file)
	}
	return rest.InClusterConfig()
}
