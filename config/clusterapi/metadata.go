package clusterapi

import (
	"regexp"

	"github.com/ipalloc/ipalloc/config/internal/tree"
)

var (
	dnsLabel     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsSubdomain = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

// maxNameBytes is how long a DNS subdomain may be.
const maxNameBytes = 253

// readMetadata reads the name and the namespace. The rest of an object's metadata says nothing about addresses.
func (p *Pool) readMetadata(v tree.Value) {
	metadata, ok := v.Object()
	if !ok {
		return
	}
	metadata.RefuseUnknown("name", "namespace", "labels", "annotations", "generateName", "uid", "resourceVersion",
		"generation", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "ownerReferences",
		"finalizers", "managedFields", "selfLink")
	p.readNamespace(metadata.Field("namespace"))
	name := metadata.Field("name")
	if name.Missing() {
		name.Refuse("is missing", "the name of the pool")
		return
	}
	p.Name = readName(name)
}

// readName reads the name of an object.
func readName(v tree.Value) string {
	text, ok := v.Text()
	if ok && (len(text) > maxNameBytes || !dnsSubdomain.MatchString(text)) {
		v.Refuse("is not a Kubernetes name",
			"at most 253 lower-case letters, digits, '-' and '.', with a letter or digit at both ends of each part")
	}
	return text
}

func (p *Pool) readNamespace(namespace tree.Value) {
	global := p.Kind == KindGlobal || p.Kind == KindGlobalPrefix
	switch {
	case namespace.Missing() && global:
		return
	case global:
		namespace.Refuse("is a namespace, but a "+p.Kind+" is in none", "no namespace")
		return
	}
	p.Namespace = namespace.TextOr("default")
	if !dnsLabel.MatchString(p.Namespace) {
		namespace.Refuse("is not a Kubernetes namespace",
			"at most 63 lower-case letters, digits and '-', with a letter or digit at both ends")
	}
}
