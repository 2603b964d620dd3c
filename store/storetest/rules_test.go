package storetest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/ipalloc/ipalloc/store/storetest"
)

// TestRulesAreQuoted compares the rules with the comments of package store, so that failures never quote a contract
// that has changed since.
func TestRulesAreQuoted(t *testing.T) {
	files, err := filepath.Glob("../*.go")
	require.NoError(t, err)
	var contract string
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		contract += " " + plain(string(text))
	}
	for _, rule := range storetest.Rules() {
		require.Contains(t, contract, plain(rule))
	}
}

var comment = regexp.MustCompile(`(?m)^\s*//`)

// plain returns text without comment marks, links and line breaks.
func plain(text string) string {
	text = strings.NewReplacer("[", "", "]", "").Replace(comment.ReplaceAllString(text, " "))
	return strings.Join(strings.Fields(text), " ")
}
