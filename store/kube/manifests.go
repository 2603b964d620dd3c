package kube

import _ "embed"

//go:generate go -C kubetest run ./internal/manifest/write ../manifests

//go:embed manifests/crds.yaml
var crds string

//go:embed manifests/rbac.yaml
var rbac string

// The ClusterRoles in manifests/rbac.yaml.
const (
	roleWriter = "ipalloc-writer"
	roleReader = "ipalloc-reader"
)

// CRDs returns the custom resource definitions of this package's API as a stream of YAML documents, for kubectl apply
// -f, or for a program that installs them itself. It is the file manifests/crds.yaml.
func CRDs() string { return crds }

// RBAC returns two ClusterRoles as a stream of YAML documents: ipalloc-writer, which a [Store] needs, and
// ipalloc-reader, which is enough for reads and Watch. Bind them with a RoleBinding in the namespace of the objects. It
// is the file manifests/rbac.yaml.
func RBAC() string { return rbac }
