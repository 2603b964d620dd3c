package cluster

import (
	"errors"
	"strings"

	"github.com/ipalloc/ipalloc/cidr"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
)

// refuseText records that a text is not an address or a CIDR, by the rule that it breaks.
func refuseText(v object.Value, err error) {
	var wrong *cidr.ParseError
	if errors.As(err, &wrong) {
		v.RefuseBecause(err, "is not read: "+wrong.Rule, wrong.Want)
		return
	}
	v.RefuseBecause(err, "is not read: "+err.Error(), "")
}

// isDNSLabel reports whether a text is a label as RFC 1123 has it, in lower case.
func isDNSLabel(text string) bool {
	if text == "" || len(text) > 63 || text[0] == '-' || text[len(text)-1] == '-' {
		return false
	}
	return strings.Trim(text, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && !strings.ContainsAny(text, ".")
}

// isDNSSubdomain reports whether a text is labels with dots in between.
func isDNSSubdomain(text string) bool {
	if len(text) > 253 {
		return false
	}
	for label := range strings.SplitSeq(text, ".") {
		if !isDNSLabel(label) {
			return false
		}
	}
	return true
}
