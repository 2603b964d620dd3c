package main_test

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// manifest is the objects in a file, by their kinds.
func manifest(t testing.TB, file string) map[string][]*unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile("manifests/" + file)
	require.NoError(t, err)
	objects := map[string][]*unstructured.Unstructured{}
	for _, document := range strings.Split(string(text), "\n---\n") {
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(document), &object.Object))
		objects[object.GetKind()] = append(objects[object.GetKind()], object)
	}
	return objects
}

// TestDeployment compares the manifests with each other and with the program. The other tests apply the definitions,
// and run the controller with the rights of its role.
func TestDeployment(t *testing.T) {
	all, rights, definitions := manifest(t, "deployment.yaml"), manifest(t, "rbac.yaml"), manifest(t, "crds.yaml")
	containers, _, _ := unstructured.NestedSlice(all["Deployment"][0].Object, "spec", "template", "spec", "containers")
	require.Len(t, containers, 1)
	arguments := containers[0].(map[string]any)["args"].([]any)
	program, err := os.ReadFile("main.go")
	require.NoError(t, err)
	for _, argument := range arguments {
		name, _, _ := strings.Cut(strings.TrimPrefix(argument.(string), "-"), "=")
		require.Contains(t, string(program), `"`+name+`"`, "a flag that the program does not have")
	}
	account, _, _ := unstructured.NestedString(
		all["Deployment"][0].Object, "spec", "template", "spec", "serviceAccountName")
	require.Equal(t, rights["ServiceAccount"][0].GetName(), account)
	hooks, _, _ := unstructured.NestedSlice(all["ValidatingWebhookConfiguration"][0].Object, "webhooks")
	rules := hooks[0].(map[string]any)["rules"].([]any)
	resources := rules[0].(map[string]any)["resources"].([]any)
	require.Len(t, definitions["CustomResourceDefinition"], len(resources))
	for i, crd := range definitions["CustomResourceDefinition"] {
		plural, _, _ := unstructured.NestedString(crd.Object, "spec", "names", "plural")
		require.Equal(t, plural, resources[i])
	}
}
