package tree_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/config"
	"github.com/ipalloc/ipalloc/config/internal/tree"
	"github.com/ipalloc/ipalloc/config/internal/tree/yamltree"
)

// read is the root of the one document in the text.
func read(t *testing.T, text string) (tree.Value, *tree.Report) {
	t.Helper()
	report := &tree.Report{}
	roots := yamltree.Parse([]byte(text)).Values(report)
	require.NoError(t, report.Err())
	require.Len(t, roots, 1)
	return roots[0], report
}

// JSON and YAML give the same values, with their lines.
func TestFormsAgree(t *testing.T) {
	for name, text := range map[string]string{
		"JSON":       "{\n\t\"a\": [1, true, null, \"x\"],\n\t\"b\": {\"c\": \"\"}\n}",
		"YAML":       "# comment\na: [1, true, null, x]\nb: {c: ''}\n",
		"flow style": "{\na: [1, true, null, x],\nb: {c: ''}}\n",
		"anchors":    "&one\na: [1, true, null, &x x]\nb: {c: ''}\n",
	} {
		t.Run(name, func(t *testing.T) {
			root, report := read(t, text)
			o, ok := root.Object()
			require.True(t, ok)
			items := o.Field("a").Items()
			require.Len(t, items, 4)
			n, _ := items[0].Number(1, 1, "")
			assert.Equal(t, 1, n)
			assert.True(t, items[1].Flag(false))
			assert.Equal(t, "x", items[3].TextOr(""))
			b, ok := o.Field("b").Object()
			require.True(t, ok)
			assert.True(t, b.Field("c").Missing())
			require.NoError(t, report.Err())

			b.Field("d").Text()
			items[2].Text()
			wrong := config.FieldErrors(report.Err())
			require.Len(t, wrong, 2)
			assert.Equal(t, &config.FieldError{Line: 3, Field: "b.d", Rule: "is missing", Want: "a text"}, wrong[0])
			assert.Equal(t, `a[2]: "null" is null, want a text`, wrong[1].Error())
			assert.Equal(t, 2, wrong[1].Line)
		})
	}
}

func TestBadTexts(t *testing.T) {
	bomb := "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
	for last, next := 'a', 'b'; next < 'k'; last, next = next, next+1 {
		alias := "*" + string(last)
		bomb += string(next) + ": &" + string(next) + " [" + strings.Repeat(alias+", ", 9) + alias + "]\n"
	}
	for _, c := range []struct{ name, text, want string }{
		{"JSON that ends early", `{"a": [1`, "the text is not JSON: unexpected EOF"},
		{"more than one value of JSON", `{"a": 1} {"b": 2}`, "the text is not JSON: there is more than one value"},
		{"deep JSON", `{"a": ` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + "}",
			"the text is not JSON: objects and lists are nested more than 100 deep"},
		{"JSON that is wrong in line 3", "{\"a\":\n1,\n\"b\" 2}",
			"the text is not JSON: invalid character '2' after object key"},
		{"YAML with a tab", "a:\n\t- b", "the text is not YAML: "},
		{"an anchor in itself", "a: &a {b: *a}", "the text is not read: an alias refers to a value that contains it"},
		{"aliases that stand for 10^10 values", bomb, "the text is not read: its aliases expand to too many values"},
		{"too long", strings.Repeat(" ", config.MaxBytes+1), "the text has 1048577 bytes, want at most 1048576"},
	} {
		t.Run(c.name, func(t *testing.T) {
			report := &tree.Report{}
			assert.Empty(t, yamltree.Parse([]byte(c.text)).Values(report))
			require.ErrorContains(t, report.Err(), c.want)
			assert.Less(t, len(report.Err().Error()), 400)
		})
	}
}

func TestFoldedNames(t *testing.T) {
	root, report := read(t, `{"Subnet": "a", "other": 1, "OTHER": 2}`)
	strict, _ := root.Object()
	assert.True(t, strict.Field("subnet").Missing())
	require.NoError(t, report.Err())
	folded, _ := root.FoldedObject()
	assert.Equal(t, "a", folded.Field("subnet").TextOr(""))
	assert.Equal(t, []string{"other", "OTHER"}, folded.Unknown("subnet"))
	assert.ErrorContains(t, report.Err(), "OTHER: is there twice, want it once")
}

func TestEmbedded(t *testing.T) {
	root, report := read(t, "a: 1\nb: '{\"c\":\n  [1, x]}'\nd: '{\"e\": [\"f\"]}'\n")
	o, _ := root.Object()
	_, ok := o.Field("b").Embedded()
	assert.False(t, ok)
	inner, ok := o.Field("d").Embedded()
	require.True(t, ok)
	d, _ := inner.Object()
	d.Field("e").Items()[0].Number(0, 1, "")
	wrong := config.FieldErrors(report.Err())
	require.Len(t, wrong, 2)
	assert.Equal(t, "b: the text is not JSON: invalid character 'x' looking for beginning of value", wrong[0].Error())
	assert.Equal(t, 2, wrong[0].Line)
	assert.Equal(t, `d.e[0]: "f" is a text, want a whole number without quotes`, wrong[1].Error())
	assert.Equal(t, 4, wrong[1].Line)
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]string{
		"5":                      "",
		"0x5":                    "",
		"-1":                     `"-1" is out of range, want so`,
		"11":                     `"11" is out of range, want so`,
		"5.0":                    `"5.0" is not a whole number, want so`,
		"1e1":                    `"1e1" is not a whole number, want so`,
		"9999999999999999999999": `"9999999999999999999999" is out of range, want so`,
		"five":                   `"five" is a text, want a whole number without quotes`,
		"!t five":                `"!t" is the tag of the value, want a whole number without quotes`,
	} {
		root, report := read(t, text)
		_, ok := root.Number(0, 10, "so")
		assert.Equal(t, want == "", ok, text)
		if want != "" {
			assert.EqualError(t, report.Err(), want)
		}
	}
}

func TestLongTextsAreCut(t *testing.T) {
	long := strings.Repeat("é", 4000)
	root, report := read(t, "'"+long+"'")
	root.Addr()
	root.MaskedPrefix()
	root.Range()
	for _, wrong := range config.FieldErrors(report.Err()) {
		assert.Equal(t, `"`+long[:80]+`"…`, wrong.Value)
		assert.Less(t, len(wrong.Error()), 700)
	}
	assert.Equal(t, 3, report.Count())
}
