// Package manifest makes the manifests that define the API of package kube, from which go generate writes the files in
// the folder manifests.
package manifest

import (
	"bytes"
	"encoding/json"
	"fmt"

	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

const (
	group   = "ipalloc.github.io"
	version = "v1alpha1"
)

// Files returns the manifests by the names of their files.
func Files() (map[string][]byte, error) {
	crds, err := encode(definitions())
	if err != nil {
		return nil, err
	}
	roles, err := encode(roles())
	if err != nil {
		return nil, err
	}
	return map[string][]byte{"crds.yaml": crds, "rbac.yaml": roles}, nil
}

// encode returns objects as a stream of YAML documents, without what a server would fill in.
func encode[T any](objects []T) ([]byte, error) {
	var all bytes.Buffer
	all.WriteString("# Made by go generate in github.com/ipalloc/ipalloc/store/kube. Do not edit.\n")
	for _, o := range objects {
		text, err := json.Marshal(o)
		if err != nil {
			return nil, err
		}
		var fields map[string]any
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, err
		}
		delete(fields, "status")
		if text, err = yaml.Marshal(fields); err != nil {
			return nil, err
		}
		fmt.Fprintf(&all, "---\n%s", text)
	}
	return all.Bytes(), nil
}

type (
	schema = apiextensions.JSONSchemaProps
	column = apiextensions.CustomResourceColumnDefinition
)

// definitions returns the custom resource definitions.
func definitions() []apiextensions.CustomResourceDefinition {
	pending := column{
		Name: "Pending", Type: "string", JSONPath: ".pending.id", Priority: 1,
		Description: "The commit that is about to write this object, or has and has not settled it yet.",
	}
	age := column{Name: "Age", Type: "date", JSONPath: ".metadata.creationTimestamp"}
	revision := column{
		Name: "Revision", Type: "integer", JSONPath: ".spec.revision", Priority: 1,
		Description: "The revision of the commit that last wrote the record.",
	}
	state := column{Name: "State", Type: "string", JSONPath: ".show.state"}
	pool := column{Name: "Pool", Type: "string", JSONPath: ".key.pool"}
	addresses := column{Name: "Addresses", Type: "string", JSONPath: ".show.addresses"}
	expires := column{Name: "Expires", Type: "string", JSONPath: ".spec.expires"}
	return []apiextensions.CustomResourceDefinition{
		definition("IPPool", "ippool", "ipp", []column{
			pool,
			{Name: "Families", Type: "string", JSONPath: ".show.families"},
			{Name: "Total", Type: "string", JSONPath: ".show.total", Description: "Addresses, one number a family."},
			{Name: "Used", Type: "string", JSONPath: ".show.used"},
			{Name: "Free", Type: "string", JSONPath: ".show.free"},
			state,
			{Name: "Reserved", Type: "string", JSONPath: ".show.reserved", Priority: 1},
			{Name: "Cooling", Type: "string", JSONPath: ".show.cooling", Priority: 1},
			age, revision, pending,
		}),
		definition("IPAllocation", "ipallocation", "ipa", []column{
			pool, {Name: "Owner", Type: "string", JSONPath: ".key.name"}, addresses, state, expires, age,
			{Name: "Kind", Type: "string", JSONPath: ".key.kind", Priority: 1}, revision, pending,
		}),
		definition("IPRecord", "iprecord", "ipr", []column{
			{Name: "Record", Type: "string", JSONPath: ".key.kind"}, pool,
			{Name: "Name", Type: "string", JSONPath: ".key.name"}, state, age,
			addresses, expires, revision, pending,
		}),
	}
}

func definition(kind, singular, short string, columns []column) apiextensions.CustomResourceDefinition {
	plural := singular + "s"
	return apiextensions.CustomResourceDefinition{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apiextensions.k8s.io/v1", Kind: "CustomResourceDefinition"},
		ObjectMeta: metav1.ObjectMeta{Name: plural + "." + group},
		Spec: apiextensions.CustomResourceDefinitionSpec{
			Group: group,
			Scope: apiextensions.NamespaceScoped,
			Names: apiextensions.CustomResourceDefinitionNames{
				Plural: plural, Singular: singular, ShortNames: []string{short}, Kind: kind, ListKind: kind + "List",
			},
			Versions: []apiextensions.CustomResourceDefinitionVersion{{
				Name: version, Served: true, Storage: true,
				Schema:                   &apiextensions.CustomResourceValidation{OpenAPIV3Schema: root()},
				AdditionalPrinterColumns: columns,
			}},
		},
	}
}

// root is the schema of all resources. An object without spec holds no record: it is about to get one, or to be
// removed.
func root() *schema {
	return object("A record of an address pool. It is written by github.com/ipalloc/ipalloc/store/kube only; do "+
		"not edit it.", map[string]schema{
		"key": *object("Which record this is.", map[string]schema{
			"kind": bounded(1), "pool": bounded(1), "name": bounded(0),
		}, "kind", "pool"),
		"spec": *record("The record."),
		"show": *object("What printer columns show. Nothing reads it.", map[string]schema{
			"state": text(""), "addresses": text(""), "families": text(""), "total": text(""), "reserved": text(""),
			"used": text(""), "cooling": text(""), "free": text(""),
		}),
		"pending": *object("The commit that proposes spec. It has come about if the log of its "+
			"head lists it.", map[string]schema{
			"id":   text("Identifier of the commit."),
			"head": matching(refPattern, "RESOURCE/NAME of the head."),
			"uid":  text("The head's uid when the commit began."),
			"fence": text("The head's resourceVersion when the commit began: once it is another, the commit cannot come " +
				"about any more."),
			"before": *record("The record until the commit comes about; none if there was none."),
		}, "id", "head", "uid", "fence"),
		"log": {
			Type:        "array",
			Description: "Commits of this head whose objects may still be pending.",
			Items: &apiextensions.JSONSchemaPropsOrArray{Schema: object("", map[string]schema{
				"id": text(""), "revision": integer(), "objects": list(refPattern, "RESOURCE/NAME."),
			}, "id", "revision")},
		},
		"last":   text("Identifier of the latest commit of this head."),
		"aborts": integer(),
		"turn": text("RESOURCE/NAME of a head. The object is no record, but the ticket with which a process waits for its " +
			"turn at that head."),
	}, "key")
}

func record(description string) *schema {
	return object(description, map[string]schema{
		"revision": integer(),
		"state":    bounded(0),
		"prefixes": list(prefixPattern, "Addresses and prefixes, such as 10.0.0.1/32."),
		"labels":   textMap("Names and values."),
		"created":  matching(timePattern, "RFC 3339, in UTC, to the microsecond."),
		"expires":  matching(timePattern, "RFC 3339, in UTC, to the microsecond."),
		"data":     text("A JSON value, as text."),
	})
}

func object(description string, properties map[string]schema, required ...string) *schema {
	return &schema{Type: "object", Description: description, Properties: properties, Required: required}
}

func text(description string) schema { return schema{Type: "string", Description: description} }

// textMap is an object with texts under any names.
func textMap(description string) schema {
	some := schema{Type: "string"}
	return schema{
		Type: "object", Description: description,
		AdditionalProperties: &apiextensions.JSONSchemaPropsOrBool{Allows: true, Schema: &some},
	}
}

// Patterns of texts that package kube reads. They keep out most of what it could not read.
const (
	byteIPv4      = `(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
	prefixPattern = `^(` + byteIPv4 + `(\.` + byteIPv4 + `){3}/(3[0-2]|[12]?[0-9])|` +
		`[0-9a-f:]*:[0-9a-f:]*/(12[0-8]|1[01][0-9]|[1-9]?[0-9]))$`
	timePattern = `^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3])(:[0-5][0-9]){2}(\.[0-9]{1,6})?Z$`
	refPattern  = `^(ippools|ipallocations|iprecords)/[-.a-z0-9]{1,253}$`
)

func matching(pattern, description string) schema {
	return schema{Type: "string", Description: description, Pattern: pattern}
}

// maxText is store.MaxNameBytes, in characters.
const maxText = 1024

func bounded(shortest int64) schema {
	longest := int64(maxText)
	return schema{Type: "string", MinLength: &shortest, MaxLength: &longest}
}

func integer() schema { return schema{Type: "integer", Format: "int64"} }

func list(pattern, description string) schema {
	item := matching(pattern, "")
	return schema{Type: "array", Description: description, Items: &apiextensions.JSONSchemaPropsOrArray{Schema: &item}}
}
