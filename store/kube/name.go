package kube

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/ipalloc/ipalloc/store"
)

// The API of the objects, which the files in the folder manifests define.
const (
	// Group is the API group of the objects.
	Group = "ipalloc.github.io"
	// Version is the version of the API that this package speaks.
	Version = "v1alpha1"
)

// The resources. What is no pool, no allocation and not cooling down is in the third.
const (
	resourcePools       = "ippools"
	resourceAllocations = "ipallocations"
	resourceRecords     = "iprecords"
)

// Labels of every object.
const (
	labelKind    = Group + "/kind"
	labelPool    = Group + "/pool"
	labelPending = Group + "/pending" // of objects that a sweep looks at
)

func resources() []string { return []string{resourcePools, resourceAllocations, resourceRecords} }

// resourceOf returns the resource that keeps records of kind.
func resourceOf(kind store.Kind) string {
	switch kind {
	case store.KindPool:
		return resourcePools
	case store.KindAllocation, store.KindCooling:
		return resourceAllocations
	default:
		return resourceRecords
	}
}

// kindOf returns the API's kind of a resource.
func kindOf(resource string) string {
	switch resource {
	case resourcePools:
		return "IPPool"
	case resourceAllocations:
		return "IPAllocation"
	default:
		return "IPRecord"
	}
}

// refOf returns where the record under key is. The name is pool, or pool.name, where these are plain, and for the main
// kind of the resource; otherwise a hint of the key and a hash of it, with the truth in the object. Only the latter has
// "--".
func refOf(key store.Key) ref {
	resource := resourceOf(key.Kind)
	if key.Kind == store.KindPool || key.Kind == store.KindAllocation {
		switch {
		case plain(key.Pool) && key.Name == "":
			return ref{resource, key.Pool}
		case plain(key.Pool) && plain(key.Name):
			return ref{resource, key.Pool + "." + key.Name}
		}
	}
	text := string(key.Kind) + "\x00" + key.Pool + "\x00" + key.Name
	return ref{resource, hint(string(key.Kind), key.Pool, key.Name) + "--" + hash(text)}
}

// parseRef is the inverse of ref.String.
func parseRef(text string) (ref, error) {
	resource, name, ok := strings.Cut(text, "/")
	if !ok || resource == "" || name == "" {
		return ref{}, fmt.Errorf("%q is not RESOURCE/NAME", text)
	}
	return ref{resource, name}, nil
}

// maxPlain is the longest part of a name, and the longest value of a label, in bytes.
const maxPlain = 63

// plain reports whether text is a DNS label without "--".
func plain(text string) bool {
	if text == "" || len(text) > maxPlain || strings.Contains(text, "--") || text[0] == '-' || text[len(text)-1] == '-' {
		return false
	}
	for i := range len(text) {
		if c := text[i]; !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// hash returns 160 bits of the SHA-256 of text, as a DNS label.
func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return strings.ToLower(base32.StdEncoding.EncodeToString(sum[:20]))
}

// maxHint bounds what hint takes of each part, in bytes.
const maxHint = 40

// hint returns what a DNS label can show of parts, for people. It begins and ends with a letter or digit.
func hint(parts ...string) string {
	var b strings.Builder
	for _, part := range parts {
		n := 0
		for i := 0; i < len(part) && n < maxHint; i++ {
			c := part[i]
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			if 'a' <= c && c <= 'z' || '0' <= c && c <= '9' {
				b.WriteByte(c)
				n++
			} else if s := b.String(); s != "" && s[len(s)-1] != '-' {
				b.WriteByte('-')
			}
		}
		if s := b.String(); s != "" && s[len(s)-1] != '-' {
			b.WriteByte('-')
		}
	}
	if text := strings.Trim(b.String(), "-"); text != "" {
		return text
	}
	return "x"
}

// labelValue returns text where it is plain, and otherwise a value that no plain text has.
func labelValue(text string) string {
	if plain(text) {
		return text
	}
	return "x--" + hash(text)
}

// labels returns the labels of o.
func (o *object) labels() map[string]string {
	if o.turn != "" {
		return map[string]string{labelKind: ticketKind, labelTurn: labelValue(o.turn)}
	}
	if o.isRoll() {
		return map[string]string{labelKind: rollLabel, labelPool: labelValue(o.key.Pool), labelPending: "true"}
	}
	all := map[string]string{labelKind: labelValue(string(o.key.Kind)), labelPool: labelValue(o.key.Pool)}
	if o.pending != nil || o.value == nil || len(o.log) > 0 {
		all[labelPending] = "true"
	}
	if o.resource == resourceAllocations {
		addPrefixLabels(all, o)
	}
	addRecordLabels(all, o)
	return all
}
