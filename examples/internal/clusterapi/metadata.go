package clusterapi

import "regexp"

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// maxNameBytes is how long a DNS subdomain may be.
const maxNameBytes = 253

// decodeMetadata returns the namespace, empty for a global pool, and the name. The rest of an object's metadata
// says nothing about addresses and is ignored.
func decodeMetadata(v value, kind string) (namespace, name string, err error) {
	metadata, err := v.object("name", "namespace", "labels", "annotations", "generateName", "uid", "resourceVersion",
		"generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences",
		"finalizers", "managedFields", "selfLink")
	if err != nil {
		return "", "", err
	}
	if name, err = metadata.child("name").requiredText("the name of the pool"); err != nil {
		return "", "", err
	}
	if len(name) > maxNameBytes || !dnsSubdomain.MatchString(name) {
		return "", "", metadata.child("name").refuse("is not a Kubernetes name",
			"at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part")
	}
	namespace, err = decodeNamespace(metadata.child("namespace"), kind)
	return namespace, name, err
}

func decodeNamespace(v value, kind string) (string, error) {
	namespace, err := v.text()
	switch {
	case err != nil:
		return "", err
	case kind == KindGlobal && namespace != "":
		return "", v.refuse("is a namespace, but a "+kind+" is in none", "no namespace, or kind "+KindNamespaced)
	case kind == KindGlobal:
		return "", nil
	case namespace == "":
		return "default", nil
	case !dnsLabel.MatchString(namespace):
		return "", v.refuse("is not a Kubernetes namespace",
			"at most 63 lower-case letters, digits and '-', with a letter or digit at both ends")
	}
	return namespace, nil
}
