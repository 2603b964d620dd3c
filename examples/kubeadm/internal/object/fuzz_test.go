package object_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/examples/kubeadm/internal/object"
)

// FuzzRead reads any text. What is wrong is reported with a line of the text, in one line, and each object can be
// looked at.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		"", "---\n", "{", "{}", `{"kind": "List", "items": [{"kind": "Node"}, null, 1, []]}`, "kind: NodeList\nitems: [{}]",
		"apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b, uid: c}", "a: &a [*a]", "- a\n- b", "kind: 1\nkind: x",
		`{"kind":"Node"}{"kind":"Node"}`, "{kind: Node}", "\xff", "kind: !!binary x\n<<: {}", "? [a]\n: b", "\"\\x\": [",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var report object.Report
		file := object.File{Name: "a file", Data: data}
		for _, o := range object.Read(file, &report) {
			look(o.Value, 0)
			require.GreaterOrEqual(t, o.Value.Line(), 1)
			require.NotContains(t, o.FullName(), "//")
		}
		lines := 1
		for _, lineBreak := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} { // those of YAML
			lines += bytes.Count(data, []byte(lineBreak))
		}
		for _, wrong := range config.FieldErrors(report.Err()) {
			require.Equal(t, "a file", wrong.File)
			require.LessOrEqual(t, wrong.Line, lines)
			require.NotEmpty(t, wrong.Rule)
		}
		if err := report.Err(); err != nil {
			require.LessOrEqual(t, strings.Count(err.Error(), "\n"), 101)
		}
	})
}

// look looks at all of a value, and at the fields that are known to be looked at.
func look(v object.Value, depth int) {
	if depth > 5 {
		return
	}
	_, _, _ = v.Text(), v.Texts(), v.Embedded()
	look(v.Get("metadata"), depth+1)
	for _, item := range v.Items() {
		look(item, depth+1)
	}
	for _, field := range v.Fields() {
		look(field.Value, depth+1)
	}
}
