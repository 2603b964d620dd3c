package main_test

import (
	"context"
	"encoding/pem"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"sigs.k8s.io/yaml"

	"github.com/ipalloc/ipalloc/store/kube"
	"github.com/ipalloc/ipalloc/store/kube/kubetest/apiserver"
)

// controllerUser is the user of the controller, who may do what the manifests allow, and nothing else.
const controllerUser = "ipalloc-capi"

// roles allows the controller what its manifest and that of its store allow.
type roles struct{ rules []rule }

type rule struct {
	APIGroups, Resources, Verbs, NonResourceURLs []string
}

func newRoles(t testing.TB) *roles {
	t.Helper()
	own, err := os.ReadFile("manifests/rbac.yaml")
	require.NoError(t, err)
	r := &roles{rules: []rule{{NonResourceURLs: []string{"/api", "/apis", "/version"}, Verbs: []string{"get"}}}}
	for _, text := range strings.Split(string(own)+"\n---\n"+kube.RBAC(), "\n---\n") {
		var role struct {
			Kind     string
			Metadata struct{ Name string }
			Rules    []rule
		}
		require.NoError(t, yaml.Unmarshal([]byte(text), &role))
		if role.Metadata.Name == controllerUser || role.Metadata.Name == "ipalloc-writer" {
			r.rules = append(r.rules, role.Rules...)
		}
	}
	return r
}

// authorize is an [authorizer.AuthorizerFunc].
func (r *roles) authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	if a.GetUser().GetName() == apiserver.Admin || slices.Contains(a.GetUser().GetGroups(), user.SystemPrivilegedGroup) {
		return authorizer.DecisionAllow, "", nil
	}
	for _, rule := range r.rules {
		if slices.Contains(rule.Verbs, a.GetVerb()) && rule.covers(a) {
			return authorizer.DecisionAllow, "", nil
		}
	}
	return authorizer.DecisionNoOpinion, "no rule allows it", nil
}

func (r rule) covers(a authorizer.Attributes) bool {
	if !a.IsResourceRequest() {
		return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
			return a.GetPath() == url || strings.HasPrefix(a.GetPath(), url+"/")
		})
	}
	resource := a.GetResource()
	if a.GetSubresource() != "" {
		resource += "/" + a.GetSubresource()
	}
	return slices.Contains(r.APIGroups, a.GetAPIGroup()) && slices.Contains(r.Resources, resource)
}

func pemOf(certificate []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})
}
