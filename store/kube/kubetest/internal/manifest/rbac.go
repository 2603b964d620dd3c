package manifest

// The parts of the API group rbac.authorization.k8s.io that a role has.
type (
	role struct {
		APIVersion string   `json:"apiVersion"`
		Kind       string   `json:"kind"`
		Metadata   metadata `json:"metadata"`
		Rules      []rule   `json:"rules"`
	}
	metadata struct {
		Name string `json:"name"`
	}
	rule struct {
		APIGroups []string `json:"apiGroups"`
		Resources []string `json:"resources"`
		Verbs     []string `json:"verbs"`
	}
)

// roles returns who may do what. They are bound in the namespace of the objects, with a RoleBinding.
func roles() []role {
	all := []string{"ipallocations", "ippools", "iprecords"}
	return []role{
		clusterRole("ipalloc-writer",
			rule{[]string{group}, all, []string{"create", "delete", "get", "list", "update", "watch"}}),
		clusterRole("ipalloc-reader", rule{[]string{group}, all, []string{"get", "list", "watch"}}),
	}
}

func clusterRole(name string, rules ...rule) role {
	return role{"rbac.authorization.k8s.io/v1", "ClusterRole", metadata{name}, rules}
}
