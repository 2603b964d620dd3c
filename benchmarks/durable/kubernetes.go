package durable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	extensionsapiserver "k8s.io/apiextensions-apiserver/pkg/apiserver"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/apiextensions-apiserver/pkg/cmd/server/options"
	generatedopenapi "k8s.io/apiextensions-apiserver/pkg/generated/openapi"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apiserver/pkg/authentication/authenticator"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	openapinamer "k8s.io/apiserver/pkg/endpoints/openapi"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/util/openapi"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/store/kube"
)

const kubeServer = "Kubernetes"

// kubeConfig is how the server is reached. Its certificate is its own, and new each time.
func kubeConfig(server string) *rest.Config {
	return &rest.Config{Host: "https://" + server, TLSClientConfig: rest.TLSClientConfig{Insecure: true}, QPS: -1}
}

// startKube starts the API server for custom resources, which is a part of every API server, with the custom resources
// of the driver. Every request is allowed: only the loopback interface reaches the server.
func startKube(dir string) (address string, stop func() error, err error) {
	e, err := embedEtcd(filepath.Join(dir, "etcd"))
	if err != nil {
		return "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	stop = func() error {
		cancel()
		err := <-done
		e.Close()
		return err
	}
	address, made, err := newKubeServer(dir, e)
	if err != nil {
		done <- nil
		return "", nil, errors.Join(err, stop())
	}
	go func() { done <- made.GenericAPIServer.PrepareRun().RunWithContext(ctx) }()
	installing, ended := context.WithTimeout(ctx, time.Minute)
	defer ended()
	if err := installCRDs(installing, address); err != nil {
		return "", nil, errors.Join(err, stop())
	}
	return address, stop, nil
}

func newKubeServer(dir string, e *embed.Etcd) (string, *extensionsapiserver.CustomResourceDefinitions, error) {
	o := options.NewCustomResourceDefinitionsServerOptions(io.Discard, io.Discard)
	r := o.RecommendedOptions
	r.Etcd.StorageConfig.Transport.ServerList = []string{e.Config().ListenClientUrls[0].String()}
	r.Authentication, r.Authorization = nil, nil
	r.Features.EnablePriorityAndFairness = false
	r.Admission.DisablePlugins = []string{
		"NamespaceLifecycle", "MutatingAdmissionWebhook", "ValidatingAdmissionWebhook",
		"ValidatingAdmissionPolicy", "MutatingAdmissionPolicy",
	}
	var err error
	if r.CoreAPI.CoreAPIKubeconfigPath, err = nowhere(dir); err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	r.SecureServing.ServerCert.CertDirectory = filepath.Join(dir, "certs")
	r.SecureServing.BindAddress, r.SecureServing.Listener = net.IPv4(127, 0, 0, 1), listener
	r.SecureServing.BindPort = listener.Addr().(*net.TCPAddr).Port
	if err := errors.Join(o.Complete(), o.Validate()); err != nil {
		return "", nil, err
	}
	config, err := o.Config()
	if err != nil {
		return "", nil, err
	}
	// A production server queues excess requests by priority and fairness, which needs the core API.
	// Without it the server would refuse them.
	config.GenericConfig.MaxRequestsInFlight, config.GenericConfig.MaxMutatingRequestsInFlight = 0, 0
	config.GenericConfig.Authentication.Authenticator = authenticator.RequestFunc(anybody)
	config.GenericConfig.Authorization.Authorizer = authorizerfactory.NewAlwaysAllowAuthorizer()
	config.GenericConfig.OpenAPIConfig = genericapiserver.DefaultOpenAPIConfig(
		openapi.GetOpenAPIDefinitionsWithoutDisabledFeatures(generatedopenapi.GetOpenAPIDefinitions),
		openapinamer.NewDefinitionNamer(extensionsapiserver.Scheme))
	made, err := config.Complete().New(genericapiserver.NewEmptyDelegate())
	return listener.Addr().String(), made, err
}

// anybody authenticates every request as the same user.
func anybody(*http.Request) (*authenticator.Response, bool, error) {
	return &authenticator.Response{User: &user.DefaultInfo{Name: "anybody"}}, true, nil
}

// nowhere is a file that leads nowhere. The server wants one, for what it does not use here.
func nowhere(dir string) (string, error) {
	path := filepath.Join(dir, "kubeconfig")
	const text = `{"apiVersion": "v1", "kind": "Config",
		"clusters": [{"name": "c", "cluster": {"server": "http://127.1.2.3:1"}}],
		"users": [{"name": "u", "user": {}}],
		"contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}], "current-context": "x"}`
	return path, os.WriteFile(path, []byte(text), 0o600)
}

// installCRDs applies the driver's manifest, and waits until the server serves it.
func installCRDs(ctx context.Context, address string) error {
	c, err := clientset.NewForConfig(kubeConfig(address))
	if err != nil {
		return err
	}
	for _, text := range strings.Split(kube.CRDs(), "\n---\n")[1:] {
		var crd apiextensions.CustomResourceDefinition
		if err := yaml.UnmarshalStrict([]byte(text), &crd); err != nil {
			return err
		}
		create := func() error {
			_, err := c.ApiextensionsV1().CustomResourceDefinitions().Create(ctx, &crd, metav1.CreateOptions{})
			return err
		}
		path := fmt.Sprintf("/apis/%s/%s/namespaces/default/%s", crd.Spec.Group, kube.Version, crd.Spec.Names.Plural)
		served := func() error { return c.ApiextensionsV1().RESTClient().Get().AbsPath(path).Do(ctx).Error() }
		if err := errors.Join(eventually(ctx, create), eventually(ctx, served)); err != nil {
			return err
		}
	}
	return nil
}

// eventually tries until it works or the context ends.
func eventually(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}
