package kube

import (
	"context"
	"fmt"
	"net/url"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/ipalloc/ipalloc/internal/storeurl"
)

// OpenURL returns a store as [Open] does, in the cluster that a URL names, in one of two forms:
//
//	kube:CONTEXT?kubeconfig=FILE&namespace=NAMESPACE
//	kube://NAMESPACE?kubeconfig=FILE&context=CONTEXT
//
// The first form is for people. The context is one of the file kubeconfig or, without that, of the files that kubectl
// reads. The namespace is that of the context if there is none.
//
// The second form is for programs. Without kubeconfig and context, it is the cluster whose pod the program runs in,
// with the pod's service account. Without context, it is the current one.
//
// The namespace is [Options.Namespace], which opts must not have.
//
// Errors: those of [CheckURL] and Open, and those of reading the configuration, which name the URL's part.
func OpenURL(ctx context.Context, u *url.URL, opts *Options) (*Store, error) {
	p, err := parseURL(u)
	if err != nil {
		return nil, err
	}
	var options Options
	if opts != nil {
		options = *opts
	}
	if options.Namespace != "" {
		return nil, storeurl.Invalid("the namespace %q is in the options, want it in the URL", options.Namespace)
	}
	config, namespace, err := p.config()
	if err != nil {
		return nil, err
	}
	options.Namespace = namespace
	return Open(ctx, config, &options)
}

// CheckURL returns an error that wraps store.ErrInvalid if [OpenURL] would refuse the URL, and names what is wrong. It
// reads no files and connects to no server.
func CheckURL(u *url.URL) error {
	_, err := parseURL(u)
	return err
}

// place is what a URL says.
type place struct {
	kubeconfig, context, namespace string
}

func parseURL(u *url.URL) (place, error) {
	p := place{namespace: u.Host}
	name := &p.context // the one that is a parameter
	known := "context"
	if u.Opaque != "" {
		name, known = &p.namespace, "namespace"
	}
	parameters, err := storeurl.Parameters(u, "kubeconfig", known)
	if err != nil {
		return place{}, err
	}
	p.kubeconfig, *name = parameters.Get("kubeconfig"), parameters.Get(known)
	if u.Opaque != "" {
		if p.context, err = url.PathUnescape(u.Opaque); err != nil {
			return place{}, storeurl.Invalid("the context %q of the URL: %v", u.Opaque, err)
		}
	}
	switch {
	case u.Scheme != "kube" || u.User != nil || p.context == "" && p.namespace == "" || u.Path != "" && u.Path != "/":
		return place{}, storeurl.Invalid("want kube:CONTEXT, or kube://NAMESPACE, as in kube://ipalloc?context=production")
	case u.Fragment != "":
		return place{}, storeurl.Invalid("the URL has the fragment %q, want none", u.Fragment)
	}
	return p, (&Options{Namespace: p.namespace}).check()
}

// config returns how to reach the API server, and the namespace.
func (p place) config() (*rest.Config, string, error) {
	if p.kubeconfig == "" && p.context == "" {
		config, err := rest.InClusterConfig()
		if err != nil {
			return nil, "", fmt.Errorf("the URL names neither kubeconfig nor context: %w", err)
		}
		return config, p.namespace, nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	if p.kubeconfig != "" {
		rules.ExplicitPath = p.kubeconfig
	}
	loader := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{
		CurrentContext: p.context, Context: clientcmdapi.Context{Namespace: p.namespace},
	})
	config, err := loader.ClientConfig()
	if err != nil {
		return nil, "", fmt.Errorf("kubeconfig: %w", err)
	}
	namespace, _, err := loader.Namespace()
	return config, namespace, err
}
