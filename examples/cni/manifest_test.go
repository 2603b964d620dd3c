package cni_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/ipalloc/ipalloc/store/kube"
)

// object is what the test reads of an object in the manifest.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	RoleRef  struct{ Kind, Name string } `yaml:"roleRef"`
	Subjects []struct{ Kind, Name, Namespace string }
	Spec     struct {
		Template struct {
			Spec struct {
				ServiceAccountName string      `yaml:"serviceAccountName"`
				InitContainers     []container `yaml:"initContainers"`
				Containers         []container
			}
		}
	}
}

type container struct {
	Name          string
	Command, Args []string
}

func manifest(t *testing.T) []object {
	t.Helper()
	text, err := os.ReadFile("manifests/daemonset.yaml")
	require.NoError(t, err)
	var objects []object
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var o object
		err := decoder.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects
		}
		require.NoError(t, err)
		objects = append(objects, o)
	}
}

// The roles and accounts that the manifest names exist, and the programs take the arguments that it gives them.
func TestManifest(t *testing.T) {
	there := map[string]bool{}
	for _, o := range manifest(t) {
		there[o.Kind+" "+o.Metadata.Name] = true
	}
	for _, line := range strings.Split(kube.RBAC(), "\n") {
		if name, ok := strings.CutPrefix(line, "  name: "); ok {
			there["ClusterRole "+name] = true
		}
	}
	commands := map[string][]string{}
	for _, o := range manifest(t) {
		if o.RoleRef.Name != "" {
			require.Contains(t, there, o.RoleRef.Kind+" "+o.RoleRef.Name)
		}
		for _, s := range o.Subjects {
			require.Contains(t, there, s.Kind+" "+s.Name)
			require.Equal(t, "ipalloc", s.Namespace)
		}
		of := o.Spec.Template.Spec
		if of.ServiceAccountName != "" {
			require.Contains(t, there, "ServiceAccount "+of.ServiceAccountName)
		}
		for _, c := range append(of.Containers, of.InitContainers...) {
			if len(c.Command) > 0 {
				commands[c.Name] = append(c.Command, c.Args...)
			}
		}
	}

	// Install, with the node's folders and the token elsewhere.
	dir := t.TempDir()
	for file, text := range map[string]string{"token": "secret\n", "ca.crt": "certificate", "ipalloc-kube": "program"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	install := commands["install"]
	require.Equal(t, "/ipallocctl", install[0])
	for i := range install {
		install[i] = strings.NewReplacer("/token/", dir+"/", "=/ipalloc-kube", "="+dir+"/ipalloc-kube",
			"/host/opt/cni/bin", dir, "/host/etc/cni/net.d", dir, "$(KUBERNETES_SERVICE_HOST)", "10.96.0.1",
			"$(KUBERNETES_SERVICE_PORT)", "443").Replace(install[i])
	}
	for range 2 { // a newer one replaces it
		_, stderr, code := control(t, "", install[1:]...)
		require.Zero(t, code, stderr)
	}
	program, err := os.Stat(filepath.Join(dir, "ipalloc"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), program.Mode())
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "ipalloc.kubeconfig"))
	require.NoError(t, err)
	require.Equal(t, "https://10.96.0.1:443", config.Host)
	require.Equal(t, "secret", config.BearerToken)
	require.Equal(t, []byte("certificate"), config.CAData)
	_, _, code := control(t, "", "install", "-plugin", "/nowhere", "-to", filepath.Join(dir, "ipalloc"))
	require.Equal(t, 1, code)

	// The reconciler, which finds no cluster around it here.
	_, stderr, code := control(t, "", commands["reconciler"][1:]...)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "-kubeconfig: unable to load in-cluster configuration")
}
